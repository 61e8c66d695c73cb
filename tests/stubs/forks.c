/* Fork: neither side's patches and publications show on the other, and a child runs and stops fibers of its own. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct tl_code *copy;
static uint64_t copy_base;

/* Pages shared by both: each side says how far it is. */
static volatile struct board {
    int parent, child;
} *board;

static void until(const volatile int *word, int value) {
    double end = seconds_now() + 20;
    while (*word < value) {
        NEED(seconds_now() < end);
        sched_yield();
    }
}

/* What loop_plain does in the copy: returns its result, or 0 at a breakpoint on its first instruction. */
static uint64_t call_copy(void) {
    struct tl_fiber *fiber = new_fiber();
    if (EMULATED) { /* the emulator keeps what it has translated */
        NEED(mprotect((void *)copy_base, tl_code_used(copy), PROT_READ) == 0);
        NEED(mprotect((void *)copy_base, tl_code_used(copy), PROT_READ | PROT_EXEC) == 0);
    }
    ready(fiber, copy_base + offset_of(loop_plain), 9);
    int stop = tl_fiber_run(fiber, 0);
    uint64_t result = stop == TL_STOP_FINISHED ? tl_arch_int_result(fiber) : stop == TL_STOP_TRAP ? 0 : 1000 + (uint64_t)stop;
    tl_fiber_free(fiber);
    return result;
}

static int patch(int trap) {
    const uint8_t *bytes = trap ? machine_trap : loop_plain;
    return tl_code_patch(copy, offset_of(loop_plain), bytes, machine_trap_bytes);
}

/* A new function: the same loop once more. Returns what it returns from the image and from the copy, added up. */
static uint64_t publish_and_call(unsigned n) {
    size_t offset;
    uint64_t sum = 0;
    int error = tl_code_publish(image, trap_code_start, (size_t)(trap_code_stop - trap_code_start), 64, &offset);
    if (error) return (uint64_t)error;
    uint64_t places[2] = {tl_code_base(image), tl_code_base(copy)};
    for (unsigned i = 0; i < 2; i++) {
        struct tl_fiber *fiber = new_fiber();
        ready(fiber, places[i] + offset + (uint64_t)(loop_plain - trap_code_start), n);
        sum += tl_fiber_run(fiber, 0) == TL_STOP_FINISHED ? tl_arch_int_result(fiber) : 0;
        tl_fiber_free(fiber);
    }
    return sum;
}

static void begin(void) {
    int error;
    start();
    if (!board) board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    board->parent = board->child = 0;
    copy = tl_code_copy(image, 4, NULL, &error);
    NEED(copy);
    copy_base = tl_code_base(copy);
}

/* Each side of a fork is a function; the child's failed checks become the parent's. */
static void fork_and_check(void (*child)(void), void (*parent)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (!pid) {
        child();
        fflush(stdout);
        _exit(test_failures != 0);
    }
    parent();
    int status;
    NEED(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %#x", (unsigned)status);
    NEED(tl_code_free(copy) == 0);
}

static void child_patches(void) {
    CHECK_EQUAL(call_copy(), 9, "in the child, before its patch");
    CHECK(patch(1) == 0, "patch in the child");
    CHECK_EQUAL(call_copy(), 0, "in the child, after its patch");
    board->child = 1;
    until(&board->parent, 1);
    CHECK_EQUAL(call_copy(), 0, "in the child, later");
}
static void parent_looks(void) {
    until(&board->child, 1);
    CHECK_EQUAL(call_copy(), 9, "in the parent, after the child's patch");
    board->parent = 1;
}
CASE(child_patches_first_time) {
    begin();
    fork_and_check(child_patches, parent_looks);
}
CASE(child_patches_own_page) { /* the page is the copy's own before the fork */
    begin();
    CHECK(patch(1) == 0 && patch(0) == 0, "patch");
    fork_and_check(child_patches, parent_looks);
}

static void child_waits(void) {
    board->child = 1;
    until(&board->parent, 1);
    CHECK_EQUAL(call_copy(), 9, "in the child, after the parent's patch");
}
static void parent_patches(void) {
    until(&board->child, 1);
    CHECK(patch(1) == 0, "patch in the parent");
    CHECK_EQUAL(call_copy(), 0, "in the parent, after its patch");
    board->parent = 1;
}
CASE(parent_patches_first_time) {
    begin();
    fork_and_check(child_waits, parent_patches);
}
CASE(parent_patches_own_page) {
    begin();
    CHECK(patch(1) == 0 && patch(0) == 0, "patch");
    fork_and_check(child_waits, parent_patches);
}

static void child_publishes(void) {
    CHECK_EQUAL(publish_and_call(21), 42, "in the child");
    board->child = 1;
    until(&board->parent, 1);
    CHECK_EQUAL(call_copy(), 9, "in the child, later");
    CHECK_EQUAL(publish_and_call(22), 44, "in the child, again");
}
static void parent_publishes(void) {
    until(&board->child, 1);
    for (unsigned i = 0; i < 5; i++) CHECK_EQUAL(publish_and_call(30 + i), 2 * (30 + i), "in the parent");
    board->parent = 1;
}
CASE(both_publish) {
    begin();
    fork_and_check(child_publishes, parent_publishes);
}

/* A suspended fiber goes on in both; one that another thread was running is lost to the child. */
static struct tl_fiber *suspended, *elsewhere;

static void *run_elsewhere(void *unused) {
    (void)unused;
    int stop = tl_fiber_run(elsewhere, 0);
    CHECK(stop == TL_STOP_INTERRUPT, "the other thread's stop: %d", stop);
    return NULL;
}
static void go_on(void) {
    uint64_t rng = test_seed;
    for (unsigned i = 2; i <= 50; i++) {
        int stop;
        tl_arch_set_pc(suspended, machine_pc_after_trap(tl_arch_pc(suspended)));
        const char *bad = machine_run(suspended, &rng, &stop);
        CHECK(!bad && stop == TL_STOP_TRAP, "stop %d, lost %s", stop, bad);
    }
    tl_arch_set_pc(suspended, machine_pc_after_trap(tl_arch_pc(suspended)));
    CHECK(tl_fiber_run(suspended, 0) == TL_STOP_FINISHED, "not finished");
    CHECK_EQUAL(tl_arch_int_result(suspended), 50, "result");
}
static void child_goes_on(void) {
    go_on();
    CHECK(tl_fiber_run(elsewhere, 0) == TL_ERR_LOST, "a fiber of a thread that is not there ran");
    tl_fiber_interrupt(suspended); /* the ticker and the kick of a child */
    ready(suspended, at(loop_plain), 3);
    CHECK(tl_fiber_run(suspended, 0) == TL_STOP_INTERRUPT, "no interrupt in the child");
}
CASE(fibers_across_a_fork) {
    pthread_t thread;
    begin();
    suspended = new_fiber();
    elsewhere = new_fiber();
    ready(suspended, at(loop_trap), 50);
    CHECK(tl_fiber_run(suspended, 0) == TL_STOP_TRAP, "no trap");
    ready(elsewhere, at(loop_plain), 0);
    NEED(pthread_create(&thread, NULL, run_elsewhere, NULL) == 0);
    while (*(volatile uint8_t *)&elsewhere->state != TL_RUNNING) sched_yield();
    fork_and_check(child_goes_on, go_on);
    tl_fiber_interrupt(elsewhere);
    pthread_join(thread, NULL);
    tl_fiber_free(suspended);
    tl_fiber_free(elsewhere);
}
