/* Sums numbers; a second argument makes it read far beyond its memory, a third one ends it with status 7. */
#include <stdio.h>
#include <stdlib.h>

struct numbers { const double *first; int count; };

__attribute__((noinline)) static double sum(const struct numbers *numbers)
{
    double total = 0;
    for (int i = 0; i < numbers->count; i++)
        total += numbers->first[i];
    return total;
}

int main(int argc, char **argv)
{
    double few[3] = {1, 2, 3};
    struct numbers numbers = {few, 3};
    if (argc == 2)
        numbers.first = (const double *)0x7ffffff0u;
    if (argc == 3)
        exit(7);
    printf("%s: %g\n", argv[0], sum(&numbers));
    return 0;
}
