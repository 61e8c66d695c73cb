/* An interrupt at every instruction of the way into native code, through it and out of it: none lost, none doubled,
 * and taken at once where that can be done.
 *
 * The scenario: enter, a call of tl_stub_check, a trap, two returns of a loop; or enter, calls of tl_stub_host, a return;
 * each stop resumed. Wherever the
 * interrupt arrives, exactly one run ends with TL_STOP_INTERRUPT and the results are the same.
 *
 * x86-64: a parent traces the child. It steps through the scenario once and notes every instruction of the program's
 * own text and of the native code, and then, for each of them and for each of its first visits, runs the scenario to
 * that place by a breakpoint, sets `pending` in the child and sends it the kick, as tl_fiber_interrupt does.
 *
 * aarch64 (an emulator does not trace): the stubs' text is made writable, a brk is put at one instruction, and its
 * handler, in front of the core's, puts the instruction back and sends the kick, which stays blocked until the
 * handler has returned to that instruction.
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "signals.h"
#include "threads.h"

#define ROUNDS 2
#define MOST_VISITS 4

/* What the scenario says of itself. */
struct report {
    unsigned interrupts, checks, traps, hosts, ends;
    uint64_t pc;            /* where the interrupt stopped it */
    volatile unsigned runs; /* how often tl_fiber_run was called */
    unsigned interrupted_run, interrupt_run; /* the run during or after which it was sent; the one it ended */
    const char *bad;
    volatile int running; /* an interrupt now is one that the scenario must see */
};

static struct tl_fiber *fiber;
static int of_host; /* which of the two scenarios */

/* Its own instructions are left out. */
#define SCENARIO __attribute__((section("scenario_code"), noinline))

static SCENARIO void scenario(struct report *report) {
    static const uint8_t *const functions[3] = {loop_check, loop_trap, loop_host};
    uint64_t rounds;
    memset(report, 0, sizeof *report);
    report->running = 1;
    for (unsigned k = of_host ? 2 : 0; k < (of_host ? 3 : 2); k++) {
        ready(fiber, at(functions[k]), ROUNDS);
        for (;;) {
            report->runs++;
            int stop = tl_fiber_run(fiber, 0);
            uint64_t pc = tl_arch_pc(fiber);
            if (stop == TL_STOP_FINISHED) break;
            if (stop == TL_STOP_INTERRUPT) {
                report->interrupts++;
                report->pc = pc;
                report->interrupt_run = report->runs;
                if (fiber->interrupts != TL_PENDING_INTERRUPT) report->bad = "bits";
            } else if (stop == TL_STOP_CHECK) {
                report->checks++;
            } else if (stop == TL_STOP_HOST) {
                report->hosts++;
                const char *bad = machine_check_host(fiber, ROUNDS, &rounds);
                if (bad) report->bad = bad;
                continue;
            } else if (stop == TL_STOP_TRAP) {
                report->traps++;
                tl_arch_set_pc(fiber, machine_pc_after_trap(pc));
            } else {
                report->bad = "error";
                return;
            }
            if (stop != TL_STOP_INTERRUPT && machine_check_loop(fiber, &rounds)) report->bad = machine_check_loop(fiber, &rounds);
        }
        report->ends++;
        if (tl_arch_int_result(fiber) != ROUNDS) report->bad = "result";
    }
    report->running = 0;
    /* It came after the last native instruction: the next run must see it. */
    if (fiber->pending) {
        ready(fiber, at(loop_plain), 1);
        report->interrupt_run = ++report->runs;
        if (tl_fiber_run(fiber, 0) == TL_STOP_INTERRUPT) report->interrupts++;
        if (tl_fiber_run(fiber, 0) != TL_STOP_FINISHED) report->bad = "the run after an interrupt";
    }
    if (fiber->pending) report->bad = "pending after the end";
}

/* In the part of enter or resume that leads into native code. */
static int loading(uint64_t pc) {
    return (pc >= (uint64_t)tl_stub_enter && pc < (uint64_t)tl_enter_end) ||
           (pc >= (uint64_t)tl_stub_resume && pc < (uint64_t)tl_resume_end) ||
           (pc >= (uint64_t)tl_stub_resume_host && pc < (uint64_t)tl_resume_host_end);
}

/* An interrupt that comes on the way into native code, or in it, has to end that very run: `at_once`. Else it may have
 * come after the run's last chance, and ends the next one. */
static int check_report(const struct report *report, const char *where, int at_once) {
    unsigned late = report->interrupt_run - report->interrupted_run, stops = of_host ? 0 : ROUNDS;
    return CHECK(late <= (at_once ? 0 : 1), "%s: sent in run %u, ended run %u", where, report->interrupted_run,
                 report->interrupt_run) &
           CHECK(!report->bad, "%s: %s", where, report->bad) &
           CHECK(report->interrupts == 1, "%s: %u interrupts", where, report->interrupts) &
           CHECK(report->checks == stops && report->traps == stops && report->hosts == ROUNDS - stops &&
                     report->ends == (of_host ? 1 : 2),
                 "%s: %u checks %u traps %u host calls %u ends", where, report->checks, report->traps, report->hosts,
                 report->ends);
}

#if defined(__x86_64__)
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#define MOST_PLACES 4096

static struct place {
    uint64_t pc;
    unsigned visits;
} places[MOST_PLACES];
static unsigned place_count;

/* The traced child: a stop, a scenario, a stop ... until killed. */
static SCENARIO void child(struct report *report) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    struct report warm;
    scenario(&warm);
    for (;;) {
        raise(SIGSTOP);
        scenario(report);
    }
}

extern const char __executable_start[], etext[], __start_scenario_code[], __stop_scenario_code[];

static int ours(uint64_t pc) {
    if (pc >= (uint64_t)__start_scenario_code && pc < (uint64_t)__stop_scenario_code) return 0;
    return (pc >= (uint64_t)__executable_start && pc < (uint64_t)etext) ||
           (pc >= base && pc < base + (uint64_t)(trap_code_stop - trap_code_start));
}

static struct place *place_of(uint64_t pc) {
    for (unsigned i = 0; i < place_count; i++)
        if (places[i].pc == pc) return &places[i];
    NEED(place_count < MOST_PLACES);
    places[place_count].pc = pc;
    return &places[place_count++];
}

static int wait_stop(pid_t pid) {
    int status;
    NEED(waitpid(pid, &status, 0) == pid);
    NEED(WIFSTOPPED(status));
    return WSTOPSIG(status);
}

static uint64_t pc_of(pid_t pid) {
    struct user_regs_struct r;
    NEED(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
    return r.rip;
}

/* Steps from one SIGSTOP to the next. */
static void note_places(pid_t pid, const struct report *report) {
    int signal = 0;
    for (;;) {
        NEED(ptrace(PTRACE_SINGLESTEP, pid, 0, signal) == 0);
        int got = wait_stop(pid);
        if (got == SIGSTOP) return;
        signal = got == SIGTRAP ? 0 : got;
        uint64_t pc = pc_of(pid);
        if (got == SIGTRAP && report->running && ours(pc)) place_of(pc)->visits++;
    }
}

/* Debug register 0 as an execution breakpoint (Intel SDM vol. 3, 17.2.4): no byte of the code changes. */
static void breakpoint(pid_t pid, uint64_t pc, int on) {
    if (on) NEED(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), pc) == 0);
    NEED(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), on ? 1 : 0) == 0);
}

/* From a SIGSTOP: runs to the n-th visit of pc, interrupts, runs on to the next SIGSTOP. 0: it never came there. */
static int interrupt_at(pid_t pid, uint64_t pc, unsigned visit, struct report *report) {
    int came = 0, signal = 0;
    breakpoint(pid, pc, 1);
    for (;;) {
        NEED(ptrace(PTRACE_CONT, pid, 0, signal) == 0);
        int got = wait_stop(pid);
        signal = got;
        if (got == SIGSTOP) break;
        if (got != SIGTRAP) continue; /* the scenario's own fault, or the kick: hand it over */
        signal = 0;
        if (pc_of(pid) != pc) continue; /* the last single step, reported late */
        if (--visit) continue;
        breakpoint(pid, pc, 0);
        came = 1;
        uint32_t pending = TL_PENDING_INTERRUPT;
        struct iovec mine = {&pending, 4}, its = {(void *)&fiber->pending, 4};
        NEED(process_vm_writev(pid, &mine, 1, &its, 1, 0) == 4);
        report->interrupted_run = report->runs;
        tl_kick(pid, pid, 0);
    }
    breakpoint(pid, pc, 0);
    return came;
}

static void every_instruction(int path) {
    struct report *report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    start();
    fiber = new_fiber();
    fiber->path = (uint8_t)path;
    place_count = 0;
    memset(places, 0, sizeof places);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (!pid) child(report);
    int got;
    while ((got = wait_stop(pid)) != SIGSTOP) NEED(ptrace(PTRACE_CONT, pid, 0, got) == 0);
    note_places(pid, report);
    unsigned kicks = 0, in_stubs = 0, in_native = 0;
    uint64_t stubs_start = (uint64_t)tl_stub_enter, stubs_stop = (uint64_t)tl_stub_unwind + 16;
    for (unsigned i = 0; i < place_count; i++) {
        for (unsigned visit = 1; visit <= places[i].visits && visit <= MOST_VISITS; visit++) {
            char where[64];
            uint64_t pc = places[i].pc;
            snprintf(where, sizeof where, "at %#" PRIx64 ", visit %u", pc, visit);
            int native = pc >= base && pc < base + (uint64_t)(trap_code_stop - trap_code_start);
            if (!interrupt_at(pid, pc, visit, report)) { /* C code that is not run each time, as after a tick */
                CHECK(!native && (pc < stubs_start || pc >= stubs_stop), "%s: never came there", where);
                break;
            }
            kicks++;
            check_report(report, where, native || loading(pc));
            if (native) CHECK(report->pc == pc, "%s: stopped only at %#" PRIx64, where, report->pc);
            in_native += (unsigned)native;
            in_stubs += (unsigned)loading(pc);
        }
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK(in_stubs >= 40 && in_native >= 20, "only %u on the way in, %u in native code", in_stubs, in_native);
    test_note(" %u interrupts at %u places, %u on the way in, %u in native code", kicks, place_count, in_stubs, in_native);
    tl_fiber_free(fiber);
    munmap(report, 4096);
}

#elif defined(__aarch64__)

static uint32_t *planted, planted_word;
static volatile unsigned to_come;
static struct report now;

static void make_writable(int writable) {
    uint64_t page = (uint64_t)tl_page_bytes, first = (uint64_t)planted & ~(page - 1);
    NEED(mprotect((void *)first, page, PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0)) == 0);
}

static void plant(uint32_t word) {
    make_writable(1);
    *planted = word;
    __builtin___clear_cache((char *)planted, (char *)(planted + 1));
    make_writable(0);
}

/* Blocks the kick until it returns; the core's handler is not in between. */
static void on_brk(int sig, siginfo_t *info, void *raw) {
    (void)sig, (void)info;
    ucontext_t *context = raw;
    if (!planted || context->uc_mcontext.pc != (uint64_t)planted) _exit(9);
    plant(planted_word);
    to_come = 0;
    now.interrupted_run = now.runs;
    tl_fiber_interrupt(fiber);
}

static void every_instruction(int path) {
    static const struct {
        const char *name, *start, *stop;
        int bytes;
    } stubs[] = {{"enter", (const char *)tl_stub_enter, NULL, 0}, {"exit", tl_stub_exit, NULL, 0},
                 {"resume", (const char *)tl_stub_resume, NULL, 0}, {"check", tl_stub_check, NULL, 0},
                 {"host", tl_stub_host, NULL, 0}, {"resume_host", (const char *)tl_stub_resume_host, NULL, 0},
                 {"inject", tl_stub_inject, NULL, 0}, {"leave_handler", (const char *)tl_stub_leave_handler, NULL, 0}};
    unsigned kicks = 0, on_the_way_in = 0;
    tl_ticker_set_interval(1000000000); /* no tick makes the core put its handlers back on top of ours */
    start();
    fiber = new_fiber();
    fiber->path = (uint8_t)path;
    scenario(&now);
    struct sigaction action = {.sa_sigaction = on_brk, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGURG);
    NEED(sigaction(SIGTRAP, &action, NULL) == 0);
    for (unsigned k = 0; k < sizeof stubs / sizeof stubs[0]; k++) {
        /* Each stub ends with the ret of HOST_FRAME_LEAVE, and so does the part behind a restartable part. */
        uint32_t *p = (uint32_t *)(void *)(uintptr_t)stubs[k].start;
        int rets = stubs[k].start == (const char *)tl_stub_resume ? 2 : 1;
        for (; rets; p++) {
            rets -= *p == 0xd65f03c0u;
            planted = p;
            planted_word = *p;
            char where[64];
            snprintf(where, sizeof where, "%s+%#tx", stubs[k].name, (const char *)p - stubs[k].start);
            to_come = 1;
            plant(0xd4200000u);
            scenario(&now);
            if (to_come) { /* not on this path */
                plant(planted_word);
                continue;
            }
            kicks++;
            on_the_way_in += (unsigned)loading((uint64_t)p);
            check_report(&now, where, loading((uint64_t)p));
        }
    }
    planted = NULL;
    tl_signals_install();
    CHECK(on_the_way_in >= (of_host ? 60 : 80), "only %u on the way in", on_the_way_in);
    test_note(" %u interrupts, %u on the way in", kicks, on_the_way_in);
    tl_fiber_free(fiber);
}
#endif

CASE(inject) { every_instruction(TL_PATH_INJECT); }
CASE(direct) { every_instruction(TL_PATH_DIRECT); }
CASE(host) {
    of_host = 1;
    every_instruction(TL_PATH_INJECT);
    of_host = 0;
}
