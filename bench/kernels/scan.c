/* Byte loads with an early exit: strlen and memchr. run(n) scans a text of 64 KiB n times. */

#define BYTES 65536

static unsigned char text[BYTES + 1];

static int length(const unsigned char *from) {
    const unsigned char *at = from;
    while (*at) at++;
    return at - from;
}

static int find(const unsigned char *from, int bytes, int wanted) {
    for (int i = 0; i < bytes; i++)
        if (from[i] == wanted) return i;
    return -1;
}

int run(int n) {
    for (int i = 0; i < BYTES; i++) text[i] = 'a' + i % 23;
    text[BYTES] = 0;
    int sum = 0;
    while (n-- > 0) {
        int bytes = length(text);
        text[bytes - 1] = 'A' + (n & 15);
        sum += bytes + find(text, bytes, 'A' + (n & 15));
    }
    return sum;
}
