/* Arguments, environment, clocks, sleep, stdin, the exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock) {
    struct timespec ts;
    if (clock_gettime(clock, &ts)) return -1;
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) printf("argument %d: %s\n", i, argv[i]);
    printf("GREETING=%s\n", getenv("GREETING"));
    printf("EMPTY=%s.\n", getenv("EMPTY"));
    printf("MISSING %d\n", getenv("MISSING") == NULL);
    double start = seconds(CLOCK_MONOTONIC), real = seconds(CLOCK_REALTIME);
    struct timespec pause = {0, 20000000};
    printf("nanosleep %d\n", nanosleep(&pause, NULL));
    double passed = seconds(CLOCK_MONOTONIC) - start;
    printf("slept %d\n", passed >= 0.02 && passed < 20);
    printf("date %d\n", real > 1.6e9 && real < 1e10);
    struct timespec resolution;
    printf("resolution %d\n", clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_sec == 0);
    unsigned char bytes[64] = {0};
    printf("entropy %d", getentropy(bytes, sizeof bytes));
    int zeros = 0;
    for (int i = 0; i < 64; i++) zeros += bytes[i] == 0;
    printf(" %d\n", zeros < 20);
    char line[100];
    int lines = 0;
    long sum = 0;
    while (fgets(line, sizeof line, stdin)) { lines++; sum += strtol(line, NULL, 10); }
    printf("%d lines of input, sum %ld, at end %d\n", lines, sum, feof(stdin) != 0);
    printf("terminal %d\n", isatty(0) || isatty(1));
    fprintf(stderr, "to stderr\n");
    return 42;
}
