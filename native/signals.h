/* Signals: the fault handlers, the interrupt signal, and the hooks under Python's own handlers. */
#ifndef TL_SIGNALS_H
#define TL_SIGNALS_H

#include <stdint.h>
#include <sys/types.h>

/* First installation: handlers, interrupt signal, membarrier. 0 or a negative errno. */
int tl_signals_start(void);
/* Puts our fault handlers back on top wherever another handler was installed since. 0 or a negative errno. */
int tl_signals_install(void);
/* Takes our fault handlers off where they are on top, so that somebody else can install or remove theirs. */
int tl_signals_remove(void);
/* Lets this thread receive the fault signals and kicks: a blocked fault would kill the process. */
void tl_signals_unblock(void);
/* Any function of CPython's: the object that holds it holds CPython's signal handler too. */
void tl_signals_set_python(const void *symbol);
/* Chains our hook in front of every signal whose handler is CPython's own; returns how many were not yet. */
int tl_signals_hook_python(void);
/* Adds bits (TL_PENDING_*, or 0) to the pending bits of the fiber a thread runs and has it look at them. */
void tl_kick(pid_t process, int32_t tid, uint32_t bits);
/* Once, before tl_membarrier. */
int tl_membarrier_start(void);
/* A full barrier in every thread of the process; non-zero where the kernel has none. */
int tl_membarrier(void);

#endif
