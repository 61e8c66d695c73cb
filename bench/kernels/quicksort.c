/* Data-dependent branches and recursion: quicksort of 100,000 numbers. run(n) sorts n times, and sums a few. */

#define COUNT 100000

static int numbers[COUNT];

static void sort(int *from, int *to) {
    while (to - from > 8) {
        int pivot = from[(to - from) / 2];
        int *low = from, *high = to - 1;
        for (;;) {
            while (*low < pivot) low++;
            while (*high > pivot) high--;
            if (low >= high) break;
            int kept = *low;
            *low++ = *high;
            *high-- = kept;
        }
        sort(from, low);
        from = low;
    }
    for (int *at = from + 1; at < to; at++) {
        int moved = *at, *hole = at;
        while (hole > from && hole[-1] > moved) {
            hole[0] = hole[-1];
            hole--;
        }
        *hole = moved;
    }
}

int run(int n) {
    unsigned seed = 12345;
    int sum = 0;
    while (n-- > 0) {
        for (int i = 0; i < COUNT; i++) {
            seed = seed * 1664525u + 1013904223u;
            numbers[i] = (int)(seed >> 4);
        }
        sort(numbers, numbers + COUNT);
        for (int i = 0; i < COUNT; i += 1000) sum += numbers[i] ^ i;
    }
    return sum;
}
