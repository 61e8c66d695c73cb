/* Faults that are not ours: a process dies of them as it would without us, and a handler that was there before us is
 * called as the kernel would have called it.
 *
 * Each crash happens in a child, once with the core installed and once without; both must end alike.
 */
#define _GNU_SOURCE
#include "common.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "signals.h"

/* ---- dying ---- */

static void *volatile nowhere;
static volatile int zero, sink;

static void null_store(void) { *(volatile int *)nowhere = 1; }
static void wild_jump(void) { ((void (*)(void))nowhere)(); }
static void illegal(void) { __builtin_trap(); }
static void bus(void) { sink = *(volatile int *)bus_page; }
static void breakpoint(void) {
#if defined(__x86_64__)
    __asm__ volatile("int3");
#else
    __asm__ volatile("brk #0");
#endif
}
static void divide(void) {
#if defined(__x86_64__)
    sink = 1000 / zero;
#else
    raise(SIGFPE); /* division does not trap */
#endif
}
static void sent(void) {
    kill(getpid(), SIGSEGV);
    for (;;) pause(); /* another thread may take it */
}
static void raised(void) { raise(SIGTRAP); }
static void aborted(void) { abort(); }
static int deeper(volatile char *above) {
    volatile char here[4096];
    here[0] = above[0];
    if (here[0] == 1) return 0; /* never */
    return deeper(here) + here[1];
}
static void recursion(void) {
    volatile char top[1] = {0};
    sink = deeper(top);
}

static const struct crash {
    const char *name;
    void (*crash)(void);
} crashes[] = {{"store to null", null_store}, {"jump to null", wild_jump}, {"illegal instruction", illegal}, {"bus", bus},
               {"breakpoint", breakpoint},    {"divide", divide},          {"kill", sent},                  {"raise", raised},
               {"abort", aborted},            {"recursion", recursion}};

enum where { IN_MAIN, IN_THREAD, AFTER_A_RUN, AFTER_FORK, WHERES };
static const char *const where_names[] = {"in main", "in a thread without native code", "after native code", "after a fork"};

static void *crash_thread(void *raw) {
    ((const struct crash *)raw)->crash();
    return NULL;
}

static void run_native(void) {
    struct tl_fiber *fiber = new_fiber();
    ready(fiber, at(loop_trap), 1);
    NEED(tl_fiber_run(fiber, 0) == TL_STOP_TRAP);
}

static void die(const struct crash *c, enum where where, int with_us) {
    struct rlimit none = {0, 0};
    pthread_t thread;
    int status;
    setrlimit(RLIMIT_CORE, &none);
    fclose(stderr);
    alarm(20);
    if (with_us) start();
    if (!with_us) machine_start();
    if (with_us && where != IN_THREAD) run_native();
    switch (where) {
    case IN_THREAD:
        NEED(pthread_create(&thread, NULL, crash_thread, (void *)(uintptr_t)c) == 0);
        pthread_join(thread, NULL);
        break;
    case AFTER_FORK: {
        pid_t pid = fork();
        if (!pid) {
            c->crash();
            _exit(3);
        }
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status)) syscall(SYS_tgkill, getpid(), getpid(), WTERMSIG(status) == SIGABRT ? SIGABRT : SIGKILL);
        _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 4);
    }
    default: c->crash();
    }
    _exit(3);
}

static int status_of(const struct crash *c, enum where where, int with_us) {
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (!pid) die(c, where, with_us);
    int status;
    NEED(waitpid(pid, &status, 0) == pid);
    return status;
}

CASE(death_by_the_same_signal) {
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof crashes / sizeof crashes[0]; i++) {
        for (enum where where = IN_MAIN; where < WHERES; where++) {
            int without = status_of(&crashes[i], where, 0), with = status_of(&crashes[i], where, 1);
            CHECK(WIFSIGNALED(without) || where == AFTER_FORK, "%s %s does not kill", crashes[i].name, where_names[where]);
            CHECK(with == without, "%s %s: status %#x, without us %#x", crashes[i].name, where_names[where], (unsigned)with,
                  (unsigned)without);
            count++;
        }
    }
    test_note(" %u deaths", count);
}

/* ---- previous handlers ---- */

static sigjmp_buf back;
static volatile struct {
    int count, signal, code, blocked_self, blocked_other, nested;
    void *address;
} seen;

static void look(int sig, const siginfo_t *info) {
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    seen.count++;
    seen.signal = sig;
    seen.code = info ? info->si_code : 0;
    seen.address = info ? info->si_addr : NULL;
    seen.blocked_self = sigismember(&mask, sig);
    seen.blocked_other = sigismember(&mask, SIGUSR1);
}

static void with_info(int sig, siginfo_t *info, void *context) {
    (void)context;
    look(sig, info);
    siglongjmp(back, 1);
}
static void plain(int sig) {
    look(sig, NULL);
    siglongjmp(back, 1);
}
/* Mends the fault and returns: the store is done again. */
static void mends(int sig, siginfo_t *info, void *context) {
    (void)context;
    look(sig, info);
    mprotect((void *)((uint64_t)info->si_addr & ~(uint64_t)4095), 4096, PROT_READ | PROT_WRITE);
}

static void previous(void (*handler)(int, siginfo_t *, void *), void (*old_style)(int), int flags, int other) {
    struct sigaction action = {.sa_flags = flags};
    if (handler) action.sa_sigaction = handler;
    else action.sa_handler = old_style;
    sigemptyset(&action.sa_mask);
    if (other) sigaddset(&action.sa_mask, SIGUSR1);
    NEED(sigaction(SIGSEGV, &action, NULL) == 0);
}

/* Runs a test of handlers in a child, in which the core is installed after `prepare`. */
static void in_child(void (*prepare)(void), void (*test)(void), int wanted_signal) {
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        prepare();
        start();
        run_native();
        test();
        fflush(stdout);
        _exit(test_failures != 0);
    }
    int status;
    NEED(waitpid(pid, &status, 0) == pid);
    if (wanted_signal) CHECK(WIFSIGNALED(status) && WTERMSIG(status) == wanted_signal, "status %#x", (unsigned)status);
    else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

static void crash_thrice(int info, int self, int other) {
    for (volatile int i = 1; i <= 3; i++) {
        if (!sigsetjmp(back, 1)) null_store();
        CHECK(seen.count == i && seen.signal == SIGSEGV, "call %d, signal %d", seen.count, seen.signal);
        CHECK(!info || (seen.code == SEGV_MAPERR && seen.address == NULL), "code %d, address %p", seen.code, seen.address);
        CHECK(seen.blocked_self == self && seen.blocked_other == other, "mask: %d %d", seen.blocked_self, seen.blocked_other);
        run_native();
    }
}

static void prepare_info(void) { previous(with_info, NULL, SA_SIGINFO, 1); }
static void test_info(void) { crash_thrice(1, 1, 1); }
CASE(handler_with_siginfo) { in_child(prepare_info, test_info, 0); }

static void prepare_plain(void) { previous(NULL, plain, SA_NODEFER, 0); }
static void test_plain(void) { crash_thrice(0, 0, 0); }
CASE(handler_without_siginfo_nodefer) { in_child(prepare_plain, test_plain, 0); }

static void prepare_mends(void) { previous(mends, NULL, SA_SIGINFO, 0); }
static void test_mends(void) {
    volatile int *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[1] = 77;
    CHECK(page[1] == 77 && seen.count == 1 && seen.address == (void *)(page + 1), "not mended: %d calls", seen.count);
}
CASE(handler_that_mends) { in_child(prepare_mends, test_mends, 0); }

/* The first fault is handled, the second kills. */
static void prepare_reset(void) { previous(with_info, NULL, SA_SIGINFO | SA_RESETHAND, 0); }
static void test_reset(void) {
    if (!sigsetjmp(back, 1)) null_store();
    CHECK(seen.count == 1, "%d calls", seen.count);
    if (test_failures) _exit(1);
    null_store();
}
CASE(handler_reset_after_one) { in_child(prepare_reset, test_reset, SIGSEGV); }

static void prepare_ignored(void) { previous(NULL, SIG_IGN, 0, 0); }
static void test_ignored(void) {
    kill(getpid(), SIGSEGV); /* sent: ignored */
    null_store();            /* a fault cannot be */
}
CASE(ignored_kills_by_a_fault_only) { in_child(prepare_ignored, test_ignored, SIGSEGV); }

/* A handler that crashes itself, as the kernel sees it: the signal is blocked while it runs, so it kills. */
static void crashes_again(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info, (void)context;
    null_store();
}
static void prepare_crashing(void) { previous(crashes_again, NULL, SA_SIGINFO, 0); }
CASE(handler_that_crashes) { in_child(prepare_crashing, null_store, SIGSEGV); }

/* Installed over ours, as faulthandler does: the core puts itself in front again, and hands on. */
static void prepare_nothing(void) {}
static void test_over(void) {
    previous(with_info, NULL, SA_SIGINFO, 1);
    NEED(tl_signals_install() == 0);
    crash_thrice(1, 1, 1);
    NEED(tl_signals_remove() == 0);
    struct sigaction now;
    NEED(sigaction(SIGSEGV, NULL, &now) == 0);
    CHECK(now.sa_sigaction == with_info && (now.sa_flags & SA_SIGINFO), "not put back");
}
CASE(handler_installed_later) { in_child(prepare_nothing, test_over, 0); }

/* A kick signal of somebody else's goes to its handler, or is ignored. */
static volatile int urgent;
static void on_urgent(int sig) { urgent += sig == SIGURG; }
static void prepare_urgent(void) { signal(SIGURG, on_urgent); }
static void test_urgent(void) {
    raise(SIGURG);
    kill(getpid(), SIGURG);
    union sigval value = {.sival_int = 7};
    sigqueue(getpid(), SIGURG, value);
    CHECK(urgent == 3, "%d of 3", urgent);
}
CASE(foreign_kick_signal) { in_child(prepare_urgent, test_urgent, 0); }
