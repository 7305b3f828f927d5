/* Philox4x64-10, a counter-based random number generator: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
   3", section 4.3. Block b of the stream of a key is four 64-bit words, the same that
   numpy.random.Philox(key=[key0, key1]).random_raw() gives from its word 4 b on. */
#ifndef TINYLM_PHILOX_H
#define TINYLM_PHILOX_H

#include <stdint.h>

static inline void philox(uint64_t key0, uint64_t key1, uint64_t block, uint64_t words[4]) {
    uint64_t c0 = block + 1, c1 = 0, c2 = 0, c3 = 0; /* NumPy counts up before it draws */
    for (int round = 0; round < 10; round++) {
        const unsigned __int128 p0 = (unsigned __int128)0xD2E7470EE14C6C93u * c0, p1 = (unsigned __int128)0xCA5A826395121157u * c2;
        c0 = (uint64_t)(p1 >> 64) ^ c1 ^ key0;
        c1 = (uint64_t)p1;
        c2 = (uint64_t)(p0 >> 64) ^ c3 ^ key1;
        c3 = (uint64_t)p0;
        key0 += 0x9E3779B97F4A7C15u;
        key1 += 0xBB67AE8584CAA73Bu;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

#endif
