/* What every test program here shares: cases, random numbers, checks.
 *
 * A program is `program [case] [seed]`: it prints its seed and one line a case, PASS, SKIP or FAIL, and exits with 0,
 * TEST_SKIPPED when the one case asked for cannot run here, or 1. Included by one file of a program, the one with main.
 */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define TEST_SKIPPED 77 /* must match test_programs.py */
#define MOST_REPORTS 12

struct test_case {
    const char *name;
    void (*run)(void);
};

static struct test_case test_cases[64];
static unsigned test_case_count;
static _Atomic unsigned test_failures;
static const char *test_skip_reason;
static char test_notes[512];
static uint64_t test_seed;

static inline void test_add(const char *name, void (*run)(void)) {
    test_cases[test_case_count++] = (struct test_case){name, run};
}

#define CASE(name)                                                                       \
    static void case_##name(void);                                                       \
    __attribute__((constructor)) static void add_##name(void) { test_add(#name, case_##name); } \
    static void case_##name(void)

/* A failed check is reported and counted; the case goes on. */
__attribute__((format(printf, 3, 4))) static inline void test_failed(const char *file, int line, const char *format, ...) {
    unsigned count = ++test_failures;
    if (count > MOST_REPORTS) return;
    va_list arguments;
    va_start(arguments, format);
    printf("  %s:%d: ", file, line);
    vprintf(format, arguments);
    printf(count == MOST_REPORTS ? " (no more reports of this case)\n" : "\n");
    va_end(arguments);
}

#define CHECK(condition, ...) ((condition) ? 1 : (test_failed(__FILE__, __LINE__, __VA_ARGS__), 0))
#define CHECK_EQUAL(got, wanted, what)                                                                            \
    do {                                                                                                          \
        uint64_t got_ = (uint64_t)(got), wanted_ = (uint64_t)(wanted);                                            \
        CHECK(got_ == wanted_, "%s: found %#" PRIx64 ", expected %#" PRIx64, (what), got_, wanted_);              \
    } while (0)
/* What no test can go on without. */
#define NEED(condition)                                                                     \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            printf("  %s:%d: needs " #condition "\n", __FILE__, __LINE__);                  \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)
#define SKIP(reason)               \
    do {                           \
        test_skip_reason = reason; \
        return;                    \
    } while (0)

/* Counts for the case's closing line. */
__attribute__((format(printf, 1, 2))) static inline void test_note(const char *format, ...) {
    size_t used = strlen(test_notes);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(test_notes + used, sizeof test_notes - used, format, arguments);
    va_end(arguments);
}

/* splitmix64 (Steele, Lea, Flood 2014): each thread keeps its own state. */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* How often a case repeats: emulation is some thirty times slower. */
static inline unsigned times(unsigned native, unsigned emulated) {
    return getenv("TEST_EMULATED") ? emulated : native;
}
#define EMULATED (getenv("TEST_EMULATED") != NULL)

static int run_case(const struct test_case *c) {
    test_failures = 0;
    test_skip_reason = NULL;
    test_notes[0] = 0;
    double start = seconds_now();
    c->run();
    double took = seconds_now() - start;
    if (test_failures) {
        printf("FAIL %s: %u checks failed, seed %#" PRIx64 "%s\n", c->name, test_failures, test_seed, test_notes);
    } else if (test_skip_reason) {
        printf("SKIP %s: %s\n", c->name, test_skip_reason);
    } else {
        printf("PASS %s (%.2f s)%s\n", c->name, took, test_notes);
    }
    fflush(stdout);
    return test_failures ? 1 : test_skip_reason ? TEST_SKIPPED : 0;
}

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)now.tv_nsec << 20 ^ (uint64_t)getpid();
    printf("seed %#" PRIx64 "\n", seed);
    fflush(stdout);
    int failed = 0, found = 0, last = 0;
    for (unsigned i = 0; i < test_case_count; i++) {
        if (argc > 1 && strcmp(argv[1], "all") != 0 && strcmp(argv[1], test_cases[i].name) != 0) continue;
        test_seed = seed;
        found++;
        last = run_case(&test_cases[i]);
        failed |= last == 1;
    }
    if (!found) printf("no case '%s'\n", argc > 1 ? argv[1] : "");
    if (failed || !found) return 1;
    return found == 1 ? last : 0;
}

#endif
