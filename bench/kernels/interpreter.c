/* A switch in a loop: an interpreter of stack bytecode. run(n) lets it add up how long the Collatz
   sequences of 1 .. n - 1 are, with (3x + 1) / 2 as one step. */

enum { PUSH, LOAD, STORE, ADD, MUL, SHR, AND, LESS, JUMP, JUMP_ZERO, HALT };
enum { N, I, X, SUM, ONE = 1 };

static const signed char code[] = {
    PUSH, 1, STORE, I,
    /* 4: while I < N */
    LOAD, I, LOAD, N, LESS, JUMP_ZERO, 64,
    LOAD, I, STORE, X,
    /* 15: while 1 < X */
    PUSH, 1, LOAD, X, LESS, JUMP_ZERO, 55,
    LOAD, SUM, PUSH, 1, ADD, STORE, SUM,
    LOAD, X, PUSH, 1, AND, JUMP_ZERO, 46,
    LOAD, X, PUSH, 3, MUL, PUSH, 1, ADD, STORE, X,
    /* 46: X = X / 2 */
    LOAD, X, PUSH, 1, SHR, STORE, X,
    JUMP, 15,
    /* 55: what the inner loop ends in */
    LOAD, I, PUSH, 1, ADD, STORE, I,
    JUMP, 4,
    HALT,
};

static int interpret(const signed char *at_start, int n) {
    int stack[16], variables[4] = {n, 0, 0, 0};
    int *top = stack;
    const signed char *at = at_start;
    for (;;) {
        switch (*at++) {
        case PUSH: *top++ = *at++; break;
        case LOAD: *top++ = variables[*at++]; break;
        case STORE: variables[*at++] = *--top; break;
        case ADD: top--; top[-1] += top[0]; break;
        case MUL: top--; top[-1] *= top[0]; break;
        case SHR: top--; top[-1] = (unsigned)top[-1] >> (top[0] & 31); break;
        case AND: top--; top[-1] &= top[0]; break;
        case LESS: top--; top[-1] = top[-1] < top[0]; break;
        case JUMP: at = at_start + *at; break;
        case JUMP_ZERO: at = *--top ? at + 1 : at_start + *at; break;
        case HALT: return variables[SUM];
        }
    }
}

int run(int n) { return interpret(code, n); }
