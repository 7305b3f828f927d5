/* Runs every kernel of kernels/cpu (every_kernel.c) without Python, for the sanitizers: with several numbers of threads, which all get
   work (compile the pool with -DWORTH_WAKING=0). The results with one part and with several must be the same numbers, since each is one
   sum in an order that does not depend on the split. With an argument it makes one mistake: "race", "overflow" or "difference". */

#include "every_kernel.h"
#include "kernels.h"
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void sgemm(
    const char *ta, const char *tb, const int *m, const int *n, const int *k, const float *alpha, const float *a, const int *lda,
    const float *b, const int *ldb, const float *beta, float *c, const int *ldc
) {
    for (long j = 0; j < *n; j++) {
        for (long i = 0; i < *m; i++) {
            float sum = 0;
            for (long l = 0; l < *k; l++) {
                sum += (*ta == 'T' ? a[l + i * *lda] : a[i + l * *lda]) * (*tb == 'T' ? b[j + l * *ldb] : b[l + j * *ldb]);
            }
            c[i + j * *ldc] = *alpha * sum + (*beta == 0 ? 0 : *beta * c[i + j * *ldc]);
        }
    }
}

static void *in_a_thread(void *found) {
    *(unsigned long *)found = every_kernel();
    return 0;
}

static int shared_number;
static atomic_int arrived;

/* Both parts write at the same time: relaxed atomics, which order nothing, make them wait for each other first. */
static void race(void *unused, int part, int parts) {
    (void)unused, (void)part;
    atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
    while (atomic_load_explicit(&arrived, memory_order_relaxed) < parts) sched_yield();
    shared_number++;
}

static int done[8]; /* how often a part of the run was done */

static void count_part(void *unused, int part, int parts) {
    (void)unused, (void)parts;
    done[part]++;
}

/* Whether each part of many runs is done once, by its thread or by the caller: in some runs the threads look for work, in others they sleep. */
static int each_part_is_done_once(int parts) {
    for (int i = 0; i < 2000; i++) {
        memset(done, 0, sizeof done);
        pool_run(count_part, 0, 1);
        for (int part = 0; part < parts; part++) {
            if (done[part] != 1) return 0;
        }
        if (i % 20 == 0) usleep(200);
    }
    return 1;
}

static int fail(const char *what, int parts) {
    fprintf(stderr, "%s with %d parts\n", what, parts);
    return 1;
}

int main(int count, char **words) {
    const char *mistake = count > 1 ? words[1] : "";
    if (!strcmp(mistake, "race")) {
        pool_size(2);
        pool_run(race, 0, 1);
        return 0;
    }
    if (!strcmp(mistake, "overflow")) {
        float *x = numbers(3), *y = numbers(1), *w = numbers(2);
        linear_forward(1, 2, 1, 0, x + 2, w, 0, 0, 0, 0, y);
        forget();
        return 0;
    }
    unsigned long expected = every_kernel();
    if (!strcmp(mistake, "difference")) expected++;
    for (int i = 0; i < 4; i++) {
        int parts = (int[]){2, 3, 5, 1}[i];
        pool_size(parts);
        if (!each_part_is_done_once(parts)) return fail("a part was not done once", parts);
        if (every_kernel() != expected) return fail("other results", parts);
        unsigned long found[2];
        pthread_t two[2];
        for (int t = 0; t < 2; t++) pthread_create(&two[t], 0, in_a_thread, &found[t]);
        for (int t = 0; t < 2; t++) pthread_join(two[t], 0);
        if (found[0] != expected || found[1] != expected) return fail("other results for two callers at once", parts);
#ifndef NO_FORK
        pid_t child = fork();
        if (child == 0) _exit(every_kernel() != expected);
        int status = 1;
        waitpid(child, &status, 0);
        if (status) return fail("other results in a forked child", parts);
#endif
    }
    pool_size(3);
    use_sgemm((void *)sgemm);
    every_kernel();
    pool_size(1);
    return 0;
}
