/* Byte stores with a stride: the sieve of Eratosthenes. run(n) is the number of primes below a million, n times. */

#define LIMIT 1000000

static unsigned char composite[LIMIT];

int run(int n) {
    int found = 0;
    while (n-- > 0) {
        for (int i = 0; i < LIMIT; i++) composite[i] = 0;
        for (int i = 2; i * i < LIMIT; i++)
            if (!composite[i])
                for (int j = i * i; j < LIMIT; j += i) composite[j] = 1;
        for (int i = 2; i < LIMIT; i++) found += !composite[i];
    }
    return found;
}
