/* Floating-point multiply and add over three arrays. run(n) is the trace of a 200 x 200 product, made n times. */

#define SIZE 200

static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

double run(int n) {
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = i + j * 0.5;
            b[i][j] = i - j * 0.25;
        }
    double trace = 0;
    while (n-- > 0) {
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double sum = 0;
                for (int k = 0; k < SIZE; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
        for (int i = 0; i < SIZE; i++) trace += c[i][i];
        a[0][0] = trace * 1e-9;
    }
    return trace;
}
