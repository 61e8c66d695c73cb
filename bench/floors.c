/* What the machine and the kernel cost without trapline: the floor beside each measurement.
 *
 * Each function does its work n times. Handlers are put back afterwards. Built by floors.py with the system's cc.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

void noop(void) {}

static void ignore(int sig, siginfo_t *info, void *context) { (void)sig, (void)info, (void)context; }

static void with_handler(int sig, void (*handler)(int, siginfo_t *, void *), void (*body)(long), long n) {
    struct sigaction ours, old;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = handler;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(sig, &ours, &old);
    body(n);
    sigaction(sig, &old, NULL);
}

#if defined(__x86_64__)
static void breakpoints(long n) {
    while (n--) __asm__ volatile("int3");
}

static void skip_divide(int sig, siginfo_t *info, void *raw) {
    (void)sig, (void)info;
    ((ucontext_t *)raw)->uc_mcontext.gregs[REG_RIP] += 2; /* idiv r32 */
}

static void divisions(long n) {
    while (n--) __asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; cdq; idiv %%ecx" ::: "eax", "ecx", "edx");
}

static void trap_flag_off(int sig, siginfo_t *info, void *raw) {
    (void)sig, (void)info;
    static long left;
    ucontext_t *context = raw;
    if (!left) left = context->uc_mcontext.gregs[REG_RDI];
    if (!--left) context->uc_mcontext.gregs[REG_EFL] &= ~0x100l;
}

/* n instructions under the trap flag, one SIGTRAP each. */
static void trap_flag_steps(long n) {
    __asm__ volatile("mov %0, %%rdi; pushf; orq $0x100, (%%rsp); popf; 1: jmp 2f; 2: pushf; testq $0x100, (%%rsp); "
                     "lea 8(%%rsp), %%rsp; jnz 1b" ::"r"(n)
                     : "rdi", "cc", "memory");
}

/* Two stack switches that keep the callee-saved registers, n times. */
__asm__(".text\n"
        "floor_switch: push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "  mov %rsp, (%rdi); mov (%rsi), %rsp\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; pop %rcx; jmp *%rcx\n");
void floor_switch(void **save, void **load);
static void *host_sp, *fiber_sp;

static void other_side(void) {
    for (;;) floor_switch(&fiber_sp, &host_sp);
}

void switches(long n) {
    static char stack[65536] __attribute__((aligned(64)));
    uint64_t *top = (uint64_t *)(stack + sizeof stack) - 1;
    *--top = (uint64_t)other_side;
    fiber_sp = top - 6;
    while (n--) floor_switch(&host_sp, &fiber_sp);
}

void traps_breakpoint(long n) { with_handler(SIGTRAP, ignore, breakpoints, n); }
void traps_division(long n) { with_handler(SIGFPE, skip_divide, divisions, n); }
void steps_trap_flag(long n) { with_handler(SIGTRAP, trap_flag_off, trap_flag_steps, n); }
#endif

/* n single steps of a child by ptrace. */
double steps_ptrace(long n) {
    int status;
    pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (;;) noop();
    }
    waitpid(child, &status, 0);
    double start = now_ns();
    for (long i = 0; i < n; i++) {
        ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
        waitpid(child, &status, 0);
    }
    double spent = (now_ns() - start) / n;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return spent;
}

/* From the sender's call to the first instruction of a handler on a thread that spins on another processor. */
static _Atomic int seen, stop_spinning;
static void note(int sig) {
    (void)sig;
    atomic_store(&seen, 1);
}
static void stay_on(int last) {
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        if (last) CPU_ZERO(&one);
        if (last || !CPU_COUNT(&one)) CPU_SET(cpu, &one);
    }
    sched_setaffinity(0, sizeof one, &one);
}

static void *spin(void *unused) {
    stay_on(0);
    while (!atomic_load(&stop_spinning)) {}
    return unused;
}

double signal_latency(long n) {
    struct sigaction ours = {.sa_handler = note}, old;
    pthread_t thread;
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    sigaction(SIGUSR2, &ours, &old);
    atomic_store(&stop_spinning, 0);
    pthread_create(&thread, NULL, spin, NULL);
    stay_on(1);
    double total = 0;
    for (long i = 0; i < n; i++) {
        usleep(200);
        atomic_store(&seen, 0);
        double start = now_ns();
        pthread_kill(thread, SIGUSR2);
        while (!atomic_load(&seen)) {}
        total += now_ns() - start;
    }
    atomic_store(&stop_spinning, 1);
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof before, &before);
    sigaction(SIGUSR2, &old, NULL);
    return total / n;
}

/* One page of a memfd swapped in over an executable page. */
void page_swaps(long n) {
    int fd = memfd_create("floor", MFD_CLOEXEC);
    if (ftruncate(fd, 8192)) abort();
    uint8_t *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    while (n--) mmap(at, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, (n & 1) * 4096);
    munmap(at, 4096);
    close(fd);
}

/* One byte of code changed through a writable alias and executed. */
void alias_stores(long n) {
    int fd = memfd_create("floor", MFD_CLOEXEC);
    if (ftruncate(fd, 4096)) abort();
    uint8_t *rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *rx = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    (void)rx;
    while (n--) *(volatile uint8_t *)rw = (uint8_t)n;
    munmap(rw, 4096);
    munmap(rx, 4096);
    close(fd);
}

/* What patching by changing protections costs. */
void mprotect_pairs(long n) {
    uint8_t *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (n--) {
        mprotect(at, 4096, PROT_READ | PROT_WRITE);
        at[0] = (uint8_t)n;
        mprotect(at, 4096, PROT_READ | PROT_EXEC);
    }
    munmap(at, 4096);
}
