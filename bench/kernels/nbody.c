/* Floating point with square roots and divisions: the planets of the Computer Language Benchmarks Game's n-body
   problem, written anew. run(n) is the energy after n steps. */

#define BODIES 5

typedef struct { double x, y, z, vx, vy, vz, mass; } Body;

static const double PI = 3.141592653589793, DAYS = 365.24;
static Body bodies[BODIES];

static void place(int i, double x, double y, double z, double vx, double vy, double vz, double mass) {
    double sun = 4 * PI * PI;
    bodies[i] = (Body){x, y, z, vx * DAYS, vy * DAYS, vz * DAYS, mass * sun};
}

static void advance(double dt) {
    for (int i = 0; i < BODIES; i++) {
        Body *a = &bodies[i];
        for (int j = i + 1; j < BODIES; j++) {
            Body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            double square = dx * dx + dy * dy + dz * dz;
            double pull = dt / (square * __builtin_sqrt(square));
            a->vx -= dx * b->mass * pull, a->vy -= dy * b->mass * pull, a->vz -= dz * b->mass * pull;
            b->vx += dx * a->mass * pull, b->vy += dy * a->mass * pull, b->vz += dz * a->mass * pull;
        }
    }
    for (int i = 0; i < BODIES; i++) {
        Body *a = &bodies[i];
        a->x += dt * a->vx, a->y += dt * a->vy, a->z += dt * a->vz;
    }
}

static double energy(void) {
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        Body *a = &bodies[i];
        sum += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (int j = i + 1; j < BODIES; j++) {
            Body *b = &bodies[j];
            double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            sum -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz);
        }
    }
    return sum;
}

double run(int n) {
    place(0, 0, 0, 0, 0, 0, 0, 1);
    place(1, 4.84143144246472090, -1.16032004402742839, -0.103622044471123109, 0.00166007664274403694,
          0.00769901118419740425, -0.0000690460016972063023, 0.000954791938424326609);
    place(2, 8.34336671824457987, 4.12479856412430479, -0.403523417114321381, -0.00276742510726411899,
          0.00499852801234917238, 0.0000230417297573763929, 0.000285885980666130812);
    place(3, 12.8943695621391310, -15.1111514016986312, -0.223307578892655734, 0.00296460137564761618,
          0.00237847173959480950, -0.0000296589568540237556, 0.0000436624404335156298);
    place(4, 15.3796971148509165, -25.9193146099879641, 0.179258772950371181, 0.00268067772490389322,
          0.00162824170038242295, -0.0000951592254519715870, 0.0000515138902046611451);
    while (n-- > 0) advance(0.01);
    return energy();
}
