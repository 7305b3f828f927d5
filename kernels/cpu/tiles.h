/* The eight tile registers of AMX, of 16 rows of 16 words, and what is done with them. Linux grants them to a process on request. They
   have to be configured in each thread, and are configured for one product at a time, so that nothing depends on what a thread, or
   the process that it was forked from, has done before.

   With EMULATED_TILES they are those of a header of the tests, which emulates them on any processor. */
#ifndef TINYLM_TILES_H
#define TINYLM_TILES_H

#include <stdint.h>

#if defined(EMULATED_TILES)
#define HAS_TILES 1
#include "emulated_tiles.h"
#elif (defined(__AMX_BF16__) || defined(__AMXBF16__)) && defined(__AVX512F__) && defined(__linux__) /* the second name: old clang's */
#define HAS_TILES 1

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* gcc's intrinsics do not say that they read memory (the configuration: only its first 8 bytes): what was written must be there before. */
#define ALL_WRITTEN(address) __asm__ volatile("" : : "r"(address) : "memory")

/* Whether this process may use tiles: arch_prctl(ARCH_REQ_XCOMP_PERM, the state of tiles). */
static inline int tiles_granted(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static inline void tiles_configure(void) {
    struct __attribute__((packed, aligned(64))) {
        uint8_t palette, start, zeros[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = 16;
    ALL_WRITTEN(&tiles);
    _tile_loadconfig(&tiles);
}

#define tiles_release() _tile_release()
#define tile_zero(tile) _tile_zero(tile)
#define tile_load(tile, from, bytes) \
    do { \
        ALL_WRITTEN(from); \
        _tile_loadd(tile, from, bytes); \
    } while (0)
#define tile_store(tile, to, bytes) _tile_stored(tile, to, bytes)
#define tile_multiply_add(sums, a, b) _tile_dpbf16ps(sums, a, b)
#else
#define HAS_TILES 0
#endif

#endif
