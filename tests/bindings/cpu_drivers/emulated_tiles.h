/* The tile operations of kernels/cpu/tiles.h in plain C, for processors without AMX. As on the processor, each thread has its own tiles, which
   hold nothing until it configures them, and a forked process begins without. What a processor would refuse with a signal ends the
   program here, with a message. */
#pragma once

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int configured;
    uint32_t words[8][16][16];
} EmulatedTiles;

static _Thread_local EmulatedTiles emulated;

static inline int tiles_granted(void) { return 1; }

static void emulated_fork(void) { memset(&emulated, 0, sizeof emulated); }

static inline void emulated_need(const char *what) {
    if (emulated.configured) return;
    fprintf(stderr, "%s: this thread has not configured its tiles\n", what);
    abort();
}

static inline void emulated_watch(void) { pthread_atfork(0, 0, emulated_fork); }

static inline void tiles_configure(void) {
    static pthread_once_t watched = PTHREAD_ONCE_INIT;
    pthread_once(&watched, emulated_watch);
    memset(&emulated, 0, sizeof emulated);
    emulated.configured = 1;
}

static inline void tiles_release(void) { emulated.configured = 0; }

static inline void tile_zero(int tile) {
    emulated_need("tile_zero");
    memset(emulated.words[tile], 0, sizeof emulated.words[tile]);
}

static inline void tile_load(int tile, const void *from, int64_t bytes) {
    emulated_need("tile_load");
    for (int row = 0; row < 16; row++) memcpy(emulated.words[tile][row], (const char *)from + row * bytes, 64);
}

static inline void tile_store(int tile, void *to, int64_t bytes) {
    emulated_need("tile_store");
    for (int row = 0; row < 16; row++) memcpy((char *)to + row * bytes, emulated.words[tile][row], 64);
}

/* A denormal number is zero. */
static inline float emulated_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

static inline float emulated_number(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return emulated_flush(x);
}

/* TDPBF16PS: over the 16 pairs of a row of A and a column of B, the products of the first numbers and those of the second ones are added
   up apart, each by fused multiply-adds; then both sums to each other, and the result to that of C. */
static inline void tile_multiply_add(int sums, int a, int b) {
    emulated_need("tile_multiply_add");
    for (int row = 0; row < 16; row++) {
        for (int column = 0; column < 16; column++) {
            float first = 0, second = 0;
            for (int pair = 0; pair < 16; pair++) {
                const uint32_t x = emulated.words[a][row][pair], y = emulated.words[b][pair][column];
                first = emulated_flush(fmaf(emulated_number(x << 16), emulated_number(y << 16), first));
                second = emulated_flush(fmaf(emulated_number(x & 0xffff0000), emulated_number(y & 0xffff0000), second));
            }
            const float sum = emulated_flush(emulated_number(emulated.words[sums][row][column]) + emulated_flush(first + second));
            memcpy(&emulated.words[sums][row][column], &sum, sizeof sum);
        }
    }
}
