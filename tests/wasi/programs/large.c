/* A large output, in lines and in one piece. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    for (int i = 0; i < 100000; i++) printf("%d squared is %lld\n", i, (long long)i * i);
    fflush(stdout);
    size_t size = 8 << 20;
    unsigned char *data = malloc(size);
    unsigned state = 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = state >> 24;
    }
    size_t written = fwrite(data, 1, size, stdout);
    fflush(stdout);
    fprintf(stderr, "%zu\n", written);
    return 0;
}
