/* Prints its arguments in brackets, its environment in braces, and whether it can open /in/note. */
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("[%s]", argv[i]);
    for (char **variable = environ; variable && *variable; variable++)
        printf("{%s}", *variable);
    puts(fopen("/in/note", "r") ? "file" : "no file");
    return 0;
}
