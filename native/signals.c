/* Fault handlers, the interrupt signal and the hooks under Python's handlers.
 *
 * Everything a handler here calls is async-signal-safe: it reads and writes the interrupted thread's own struct
 * tl_thread and fiber, searches an immutable table, and makes at most the system calls sigaction,
 * rt_sigprocmask and rt_tgsigqueueinfo. No handler allocates, locks or runs Python.
 *
 * A fault is ours when this thread runs a fiber and
 *   - the pc lies in registered code (an image, a copy, a slot), or
 *   - the instruction itself could not be fetched and the stack pointer is the fiber's: it jumped to nowhere, or
 *   - the pc lies in the stub that loads the record, which holds what no processor takes (a pc that is not canonical,
 *     reserved bits of MXCSR): the fiber stops where it was.
 * Everything else goes to the handler that was there before us.
 */
#define _GNU_SOURCE
#include "signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "code.h"
#include "context.h"
#include "fiber.h"
#include "threads.h"

/* SIGURG: ignored by default, passed on silently by debuggers, used by hardly anything; ours carry a token. */
#define KICK_SIGNAL SIGURG

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
#define FAULT_SIGNALS (sizeof fault_signals / sizeof fault_signals[0])

/* What was installed before us, by signal. A handler may read an entry while a thread replaces it, so entries are
 * never changed or freed: each replacement takes the next of a ring. */
#define RING 16
static struct sigaction previous_ring[65][RING];
static _Atomic(struct sigaction *) previous[65];
static _Atomic unsigned previous_count[65];
static uint8_t taken_off[65]; /* by tl_signals_remove; the install lock */

static _Alignas(64) char kick_token[64];

static _Atomic uint32_t ever_stepped; /* some thread has been single-stepped out of a C function */

static struct sigaction *entry_of(int sig, unsigned number) { return &previous_ring[sig][(number - 1) % RING]; }

static void set_previous(int sig, const struct sigaction *action) {
    struct sigaction *entry = entry_of(sig, previous_count[sig] + 1);
    *entry = *action;
    previous_count[sig]++;
    atomic_store(&previous[sig], entry);
}

/* The number (from 1) of what was installed before entry `number` and is another handler; 0 when nothing is known. */
static unsigned older(int sig, unsigned number) {
    const struct sigaction *newer = entry_of(sig, number);
    unsigned count = previous_count[sig], least = count > RING ? count - RING + 1 : 1;
    while (number-- > least)
        if (entry_of(sig, number)->sa_sigaction != newer->sa_sigaction) return number;
    return 0;
}

/* ---- handing on ---- */

static void default_action(int sig, const siginfo_t *info) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(sig, &action, NULL);
    /* A hardware fault happens again when the handler returns, and dies with its true pc. int3 would not, and a
     * signal that was sent is not sent again: raise those. */
    if (info->si_code <= 0 || sig == SIGTRAP) syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
}

static int handler_is(const struct sigaction *action, void (*handler)(int)) {
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == handler;
}

static void call_previous(const struct sigaction *action, int sig, siginfo_t *info, void *context) {
    sigset_t block = action->sa_mask, old;
    if (!(action->sa_flags & SA_NODEFER)) sigaddset(&block, sig);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(sig, info, context);
    } else {
        action->sa_handler(sig);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Does what would have happened without us. A handler that we are calling may call us, raise its signal again or crash:
 * then it is the turn of the one that was there before it. The frame address tells that from a handler that left by
 * a jump and never came back. */
static void hand_on(int sig, siginfo_t *info, void *context) {
    static __thread struct {
        char *frame;
        unsigned number;
    } calling[65] __attribute__((tls_model("initial-exec")));
    char *frame = __builtin_frame_address(0);
    struct sigaction *action = atomic_load(&previous[sig]);
    unsigned number = previous_count[sig];
    if (action && !handler_is(action, SIG_DFL) && calling[sig].frame && frame < calling[sig].frame) {
        number = older(sig, calling[sig].number);
        action = number ? entry_of(sig, number) : NULL;
    }
    if (!action || handler_is(action, SIG_DFL)) {
        default_action(sig, info);
    } else if (handler_is(action, SIG_IGN)) {
        if (info->si_code > 0) default_action(sig, info); /* a fault cannot be ignored */
    } else {
        if (action->sa_flags & SA_RESETHAND) {
            struct sigaction reset = {.sa_handler = SIG_DFL};
            set_previous(sig, &reset);
        }
        char *outer = calling[sig].frame;
        unsigned outer_number = calling[sig].number;
        calling[sig].frame = frame;
        calling[sig].number = number;
        call_previous(action, sig, info, context);
        calling[sig].frame = outer;
        calling[sig].number = outer_number;
    }
}

/* ---- faults ---- */

static int in_fiber_stack(const struct tl_fiber *fiber, uint64_t sp) {
    return sp >= (uint64_t)fiber->mapping && sp <= (uint64_t)fiber->stack_high;
}

static void deliver(struct tl_fiber *fiber, ucontext_t *context, uint32_t stop, enum tl_path path) {
    fiber->stop = stop;
    fiber->started = TL_STARTED; /* each path makes the record whole */
    switch (path) {
    case TL_PATH_INJECT:
        tl_context_inject(context, fiber, tl_stub_inject);
        return;
    case TL_PATH_UNWIND:
        tl_context_save(context, fiber);
        tl_context_inject(context, fiber, tl_stub_unwind);
        return;
    case TL_PATH_DIRECT:
        tl_context_save(context, fiber);
        tl_stub_leave_handler(fiber);
    }
}

/* Whether the interrupted code was itself a signal handler: then a jump to nowhere is that handler's. */
static int on_altstack(uint64_t sp) {
    stack_t now;
    if (sigaltstack(NULL, &now) || now.ss_flags & SS_DISABLE) return 0;
    uint64_t low = (uint64_t)now.ss_sp;
    return sp >= low && sp <= low + now.ss_size;
}

/* Not a page fault, which in there can only be the host's own stack overflow. */
static int in_loading_stub(uint64_t pc, const struct tl_fault *fault) {
    return !fault->address && ((pc >= (uint64_t)tl_stub_resume && pc < (uint64_t)tl_resume_end) ||
                               (pc >= (uint64_t)tl_stub_enter && pc < (uint64_t)tl_enter_end) ||
                               (pc >= (uint64_t)tl_stub_resume_host && pc < (uint64_t)tl_resume_host_end));
}

static int own_step(ucontext_t *context, const siginfo_t *info);

static void on_fault(int sig, siginfo_t *info, void *raw) {
    tl_context_handler_starts();
    int error = errno;
    ucontext_t *context = raw;
    if (sig == SIGTRAP && info->si_code > 0 && own_step(context, info)) {
        errno = error;
        return;
    }
    struct tl_fiber *fiber = tl_self.cur;
    if (fiber && info->si_code > 0) {
        struct tl_range row;
        struct tl_fault fault;
        if (tl_context_step_in_stub(context, info)) return;
        tl_context_fault(context, info, &fault);
        if (tl_range_find(tl_context_pc(context), &row) ||
            (fault.fetch && !on_altstack(tl_context_sp(context)))) {
            fiber->fault = fault;
            errno = error;
            deliver(fiber, context, TL_STOP_TRAP, fiber->path);
            return;
        }
        if (in_loading_stub(tl_context_pc(context), &fault)) {
            fiber->fault = fault;
            fiber->stop = TL_STOP_TRAP;
            errno = error;
            tl_context_restart(context, fiber, (const char *)(uintptr_t)tl_stub_leave_handler);
            return;
        }
    }
    hand_on(sig, info, raw);
    errno = error;
}

/* ---- interrupts ---- */

#define MOST_STEPS 2000

/* The thread is in a C function that native code called, and that may be where it spends its time: single-step it until
 * it is back. A step costs microseconds, so only the 1st, 2nd, 4th, 8th ... time that one run is asked there. */
static void step_out_of_c(struct tl_thread *self, const struct tl_fiber *fiber, ucontext_t *context) {
    uint32_t run = atomic_load_explicit(&self->running, memory_order_relaxed);
    if (!in_fiber_stack(fiber, tl_context_sp(context))) return; /* a signal handler, or the host */
    if (self->asked_run != run) {
        self->asked_run = run;
        self->asks = 0;
    }
    self->asks++;
    if ((self->asks & (self->asks - 1)) == 0 && tl_context_set_step(context, 1)) {
        self->steps = MOST_STEPS;
        atomic_store_explicit(&ever_stepped, 1, memory_order_relaxed);
    }
}

/* The interrupted thread runs `fiber`, whose pending bits ask it to stop. Where that can be done at once, do it:
 *   - in native code: as a fault would be delivered;
 *   - in the restartable part of enter or a resume: back to its first instruction, which looks at the bits.
 * Elsewhere (a C function called by native code, a stub) the bits stay set: the next resume sees them, and the ticker
 * asks again as long as `kick` is set. */
static void take_interrupt(struct tl_fiber *fiber, ucontext_t *context) {
    uint64_t pc = tl_context_pc(context);
    struct tl_range row;
    if (pc >= (uint64_t)tl_enter_restart && pc < (uint64_t)tl_enter_end) {
        tl_context_restart(context, fiber, tl_enter_restart);
    } else if (pc >= (uint64_t)tl_resume_restart && pc < (uint64_t)tl_resume_end) {
        tl_context_restart(context, fiber, tl_resume_restart);
    } else if (pc >= (uint64_t)tl_resume_host_restart && pc < (uint64_t)tl_resume_host_end) {
        tl_context_restart(context, fiber, tl_resume_host_restart);
    } else if (tl_range_find(pc, &row)) {
        memset(&fiber->fault, 0, sizeof fiber->fault);
        /* Never `direct`: the hook under a Python handler has that handler's mask, which only sigreturn takes back. */
        deliver(fiber, context, TL_STOP_INTERRUPT, TL_PATH_INJECT);
    } else {
        atomic_store_explicit(&tl_self.kick, 1, memory_order_relaxed);
        step_out_of_c(&tl_self, fiber, context);
    }
}

/* One of our own single steps: 1 when it is dealt with. A thread that a C function made while it was stepped starts
 * with the trap flag set; it has nothing to do with us. */
static int own_step(ucontext_t *context, const siginfo_t *info) {
    struct tl_thread *self = &tl_self;
    if (!tl_context_is_step(context, info)) return 0;
    if (!self->cur && atomic_load_explicit(&ever_stepped, memory_order_relaxed)) {
        tl_context_set_step(context, 0);
        return 1;
    }
    if (!self->cur || !self->steps) return 0;
    if (tl_context_step_in_stub(context, info)) { /* native code had jumped to the C function: it ends here */
        self->steps = 0;
        return 1;
    }
    struct tl_range row;
    int native = tl_range_find(tl_context_pc(context), &row);
    if (!native && --self->steps) return 1;
    self->steps = 0;
    tl_context_set_step(context, 0);
    if (native) take_interrupt(self->cur, context);
    return 1;
}

static void on_kick(int sig, siginfo_t *info, void *raw) {
    tl_context_handler_starts();
    int error = errno;
    uintptr_t value = (uintptr_t)info->si_value.sival_ptr;
    if (info->si_code != SI_QUEUE || (value & ~(uintptr_t)63) != (uintptr_t)kick_token) {
        struct sigaction *action = atomic_load(&previous[sig]);
        if (action && !handler_is(action, SIG_DFL) && !handler_is(action, SIG_IGN)) call_previous(action, sig, info, raw);
        errno = error;
        return;
    }
    struct tl_fiber *fiber = tl_self.cur;
    if (!fiber) return;
    uint32_t bits = (uint32_t)(value & 63);
    if (!(atomic_fetch_or(&fiber->pending, bits) | bits)) return;
    errno = error;
    take_interrupt(fiber, raw);
}

void tl_kick(pid_t process, int32_t tid, uint32_t bits) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = KICK_SIGNAL;
    info.si_code = SI_QUEUE;
    info.si_pid = process;
    info.si_uid = getuid();
    info.si_value.sival_ptr = kick_token + bits;
    syscall(SYS_rt_tgsigqueueinfo, process, tid, KICK_SIGNAL, &info);
}

int tl_membarrier_start(void) { return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0); }
int tl_membarrier(void) { return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

/* ---- Python's own signals ---- */

static struct sigaction hooked[65];
static const void *python_object; /* load address of the object that holds CPython's C handler */

/* In front of CPython's handler, which only takes a note: let it, then bring the main thread out of native code so
 * that the host can run the Python handler. */
static void on_python_signal(int sig, siginfo_t *info, void *raw) {
    tl_context_handler_starts();
    int error = errno;
    if (hooked[sig].sa_flags & SA_SIGINFO) {
        hooked[sig].sa_sigaction(sig, info, raw);
    } else {
        hooked[sig].sa_handler(sig);
    }
    struct tl_thread *self = &tl_self, *main_thread = tl_main_thread();
    if (main_thread) atomic_store(&main_thread->signalled, 1);
    if (self == main_thread) {
        struct tl_fiber *fiber = self->cur;
        errno = error;
        if (fiber) {
            atomic_fetch_or(&fiber->pending, TL_PENDING_SIGNAL);
            take_interrupt(fiber, raw);
        }
        return;
    }
    /* The main thread stores `running` and then reads `signalled`, we do the reverse; see tl_fiber_interrupt. */
    tl_membarrier();
    if (main_thread && (atomic_load(&main_thread->running) & 1))
        tl_kick(getpid(), main_thread->tid, TL_PENDING_SIGNAL);
    errno = error;
}

void tl_signals_set_python(const void *symbol) {
    Dl_info found;
    if (dladdr(symbol, &found)) python_object = found.dli_fbase;
}

int tl_signals_hook_python(void) {
    int count = 0;
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        struct sigaction action;
        Dl_info found;
        if (sig == KICK_SIGNAL || sigaction(sig, NULL, &action)) continue;
        if (handler_is(&action, SIG_DFL) || handler_is(&action, SIG_IGN)) continue;
        if ((action.sa_flags & SA_SIGINFO) && action.sa_sigaction == on_python_signal) continue;
        if (!dladdr((void *)action.sa_handler, &found) || found.dli_fbase != python_object) continue;
        int fault = 0;
        for (unsigned i = 0; i < FAULT_SIGNALS; i++) fault |= fault_signals[i] == sig;
        if (fault) continue;
        hooked[sig] = action;
        action.sa_flags |= SA_SIGINFO;
        action.sa_sigaction = on_python_signal;
        sigaction(sig, &action, NULL);
        count++;
    }
    return count;
}

/* ---- installing ---- */

static void (*const entry_of_fault)(int, siginfo_t *, void *) = on_fault;

static int is_ours(const struct sigaction *action, void (*entry)(int, siginfo_t *, void *)) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == entry;
}

static int install(int sig, void (*entry)(int, siginfo_t *, void *), int flags) {
    struct sigaction now, ours;
    if (sigaction(sig, NULL, &now)) return -errno;
    int was_off = taken_off[sig];
    taken_off[sig] = 0;
    if (is_ours(&now, entry)) {
        /* Taken off, and put back by somebody for whom we were the one before: he is gone, and who was before him is
         * before us. */
        unsigned number = was_off && previous_count[sig] ? older(sig, previous_count[sig]) : 0;
        if (number) {
            now = *entry_of(sig, number);
            set_previous(sig, &now);
        }
        return 0;
    }
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = entry;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | flags;
    sigemptyset(&ours.sa_mask);
    set_previous(sig, &now);
    return sigaction(sig, &ours, NULL) ? -errno : 0;
}

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

int tl_signals_install(void) {
    int error = 0;
    pthread_mutex_lock(&install_lock);
    /* An empty mask and SA_NODEFER: path `direct` leaves the handler without sigreturn. */
    for (unsigned i = 0; i < FAULT_SIGNALS && !error; i++) error = install(fault_signals[i], entry_of_fault, SA_NODEFER);
    if (!error) error = install(KICK_SIGNAL, on_kick, SA_NODEFER | SA_RESTART);
    pthread_mutex_unlock(&install_lock);
    return error;
}

int tl_signals_remove(void) {
    int error = 0;
    pthread_mutex_lock(&install_lock);
    for (unsigned i = 0; i < FAULT_SIGNALS; i++) {
        struct sigaction now, *before = atomic_load(&previous[fault_signals[i]]);
        if (sigaction(fault_signals[i], NULL, &now) || !is_ours(&now, entry_of_fault) || !before) continue;
        if (sigaction(fault_signals[i], before, NULL)) error = -errno;
        taken_off[fault_signals[i]] = 1;
    }
    pthread_mutex_unlock(&install_lock);
    return error;
}

void tl_signals_unblock(void) {
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < FAULT_SIGNALS; i++) sigaddset(&set, fault_signals[i]);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void before_fork(void) { pthread_mutex_lock(&install_lock); }
static void after_fork(void) { pthread_mutex_unlock(&install_lock); }

int tl_signals_start(void) {
    int error = -pthread_atfork(before_fork, after_fork, after_fork);
    return error ? error : tl_signals_install();
}
