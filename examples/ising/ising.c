/* The 2-D Ising model on a square lattice with periodic borders, by Metropolis' algorithm.
 *
 *   ./ising --temperature 2.3 --seed 1 [--size 64] [--sweeps 2000]
 *
 * Prints one line of JSON: magnetisation (its absolute value) and energy, per spin, as means over
 * the second half of the sweeps. Without a field the spins order below T = 2.269. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

/* xorshift64*, a uniform number in [0, 1). */
static double uniform(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (double)((state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

static int usage(void) {
    fputs("usage: ising --temperature T --seed N [--size 64] [--sweeps 2000]\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    double temperature = 0;
    long seed = -1, size = 64, sweeps = 2000;
    for (int i = 1; i < argc; i += 2) {
        char *end;
        if (i + 1 == argc) return usage();
        if (!strcmp(argv[i], "--temperature")) temperature = strtod(argv[i + 1], &end);
        else if (!strcmp(argv[i], "--seed")) seed = strtol(argv[i + 1], &end, 10);
        else if (!strcmp(argv[i], "--size")) size = strtol(argv[i + 1], &end, 10);
        else if (!strcmp(argv[i], "--sweeps")) sweeps = strtol(argv[i + 1], &end, 10);
        else return usage();
        if (*end || end == argv[i + 1]) return usage();
    }
    if (!(temperature > 0) || seed < 0 || size < 2 || size > 10000 || sweeps < 2) return usage();

    signed char *spin = malloc((size_t)(size * size));
    if (!spin) return perror("ising"), 1;
    memset(spin, 1, (size_t)(size * size));
    state = (uint64_t)(seed + 1) * UINT64_C(0x9E3779B97F4A7C15);

    /* A flip costs 2 * spin * (sum of its four neighbours), in units of the coupling. */
    double accept[9] = {0};
    accept[4] = exp(-4 / temperature);
    accept[8] = exp(-8 / temperature);
    long long magnetisation = 0, energy = 0;
    for (long sweep = 0; sweep < sweeps; sweep++) {
        for (long y = 0; y < size; y++) {
            signed char *row = spin + y * size;
            signed char *above = spin + (y + size - 1) % size * size;
            signed char *below = spin + (y + 1) % size * size;
            for (long x = 0; x < size; x++) {
                int around = row[x ? x - 1 : size - 1] + row[x + 1 < size ? x + 1 : 0]
                    + above[x] + below[x];
                int cost = 2 * row[x] * around;
                if (cost <= 0 || uniform() < accept[cost]) row[x] = (signed char)-row[x];
            }
        }
        if (sweep < sweeps / 2) continue;
        long up = 0, bonds = 0;
        for (long y = 0; y < size; y++)
            for (long x = 0; x < size; x++) {
                int here = spin[y * size + x];
                up += here;
                bonds += here * (spin[y * size + (x + 1) % size] + spin[(y + 1) % size * size + x]);
            }
        magnetisation += labs(up);
        energy -= bonds;
    }
    double spins = (double)(size * size) * (double)(sweeps - sweeps / 2);
    printf("{\"magnetisation\": %.6f, \"energy\": %.6f}\n",
           (double)magnetisation / spins, (double)energy / spins);
    free(spin);
    return 0;
}
