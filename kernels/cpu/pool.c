/* The pool: parts - 1 threads, started when they are first needed. Part p belongs to thread p, but a caller that is done with part 0
   also does those that their threads have not begun: on a busy machine a thread may not get a core for milliseconds, and one
   that sleeps takes longer to wake than a small part takes.

   A run is announced by a new number in `ticket`, and it is over when `pending` is zero. Both sides look for that number in a
   loop for some tens of microseconds, since the next run of a training step usually follows at once, and then sleep. A thread that
   goes to sleep first counts itself as a sleeper and then looks once more; a thread that changes the number looks for sleepers
   afterwards. Both happen in the single order of sequential consistency, so no wake-up is lost.

   Work of a few microseconds is done by the caller alone, all parts one after the other. So is the work of a second caller while
   the threads are busy. A forked child has none of its parent's threads and starts its own. */

#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SPIN_NANOSECONDS = 50000, LOOKS_BETWEEN_CLOCKS = 64, MOST_PARTS = 1024 };

#ifndef WORTH_WAKING
#define WORTH_WAKING 200000 /* multiply-adds */
#endif

static int parts = 1;
static int started = 1; /* parts that have a thread, including the caller's */
static pthread_t threads[MOST_PARTS];
static unsigned born; /* the ticket when the last threads were made */

static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_uint ticket;
static atomic_int pending, asleep, waiting, ending;
static struct {
    _Alignas(64) atomic_uint ticket; /* of the last run in which the part was begun */
} begun[MOST_PARTS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t announced = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static Work *current;
static void *current_argument;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int is_announced(unsigned seen) { return atomic_load(&ticket) != seen; }
static int is_finished(unsigned unused) { (void)unused; return atomic_load(&pending) == 0; }

/* Waits until is(seen): first by looking, then asleep, counted in `sleepers` so that it is woken. */
static void wait_until(int (*is)(unsigned), unsigned seen, atomic_int *sleepers, pthread_cond_t *condition) {
    int64_t until = nanoseconds() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < LOOKS_BETWEEN_CLOCKS; i++) {
            if (is(seen)) return;
            relax();
        }
    } while (nanoseconds() < until);
    pthread_mutex_lock(&mutex);
    atomic_fetch_add(sleepers, 1);
    while (!is(seen)) pthread_cond_wait(condition, &mutex);
    atomic_fetch_sub(sleepers, 1);
    pthread_mutex_unlock(&mutex);
}

static void wake(atomic_int *sleepers, pthread_cond_t *condition) {
    if (atomic_load(sleepers) == 0) return;
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(condition);
    pthread_mutex_unlock(&mutex);
}

/* Does a part of run `now` unless another thread has begun it. That run cannot end meanwhile, since the part is pending; a thread
   that comes late finds the part begun, in that run or in a later one. */
static void do_part(int part, unsigned now) {
    unsigned last = atomic_load(&begun[part].ticket);
    if ((int)(last - now) >= 0 || !atomic_compare_exchange_strong(&begun[part].ticket, &last, now)) return;
    current(current_argument, part, parts);
    if (atomic_fetch_sub(&pending, 1) == 1) wake(&waiting, &finished);
}

static void *serve(void *place) {
    for (unsigned seen = born;;) {
        wait_until(is_announced, seen, &asleep, &announced);
        seen = atomic_load(&ticket);
        if (atomic_load(&ending)) return 0;
        do_part((int)(intptr_t)place, seen);
    }
}

static void announce(void) {
    atomic_fetch_add(&ticket, 1);
    wake(&asleep, &announced);
}

static void end_threads(void) {
    if (started > 1) {
        atomic_store(&ending, 1);
        announce();
        for (int part = 1; part < started; part++) pthread_join(threads[part], 0);
        atomic_store(&ending, 0);
    }
    started = 1;
}

/* In a forked child: as if the library had just been loaded. */
static void forget_threads(void) {
    started = 1;
    atomic_store(&pending, 0);
    atomic_store(&asleep, 0);
    atomic_store(&waiting, 0);
    atomic_store(&ending, 0);
    pthread_mutex_init(&mutex, 0);
    pthread_cond_init(&announced, 0);
    pthread_cond_init(&finished, 0);
    atomic_flag_clear(&busy);
}

/* Returns whether every part has a thread. */
static int start_threads(void) {
    static int watched;
    if (started == parts) return 1;
    if (!watched) watched = pthread_atfork(0, 0, forget_threads) == 0;
    if (!watched) return 0;
    sigset_t all, before; /* signals are for the threads of the program */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    born = atomic_load(&ticket);
    for (int part = 1; part < parts; part++) atomic_store(&begun[part].ticket, born);
    while (started < parts && pthread_create(&threads[started], 0, serve, (void *)(intptr_t)started) == 0) started++;
    pthread_sigmask(SIG_SETMASK, &before, 0);
    if (started < parts) end_threads();
    return started == parts;
}

int pool_parts(void) { return parts; }

EXPORT int pool_size(int wanted) {
    while (atomic_flag_test_and_set(&busy)) relax();
    end_threads();
    parts = wanted < 1 ? 1 : wanted > MOST_PARTS ? MOST_PARTS : wanted;
    atomic_flag_clear(&busy);
    return 0;
}

void pool_run(Work *work, void *argument, int64_t operations) {
    if (parts == 1 || operations < WORTH_WAKING || atomic_flag_test_and_set(&busy)) {
        for (int part = 0; part < parts; part++) work(argument, part, parts);
        return;
    }
    if (start_threads()) {
        current = work;
        current_argument = argument;
        atomic_store(&pending, parts - 1);
        announce();
        work(argument, 0, parts);
        for (int part = 1; part < parts && !is_finished(0); part++) do_part(part, atomic_load(&ticket));
        wait_until(is_finished, 0, &waiting, &finished);
    } else {
        for (int part = 0; part < parts; part++) work(argument, part, parts);
    }
    atomic_flag_clear(&busy);
}
