// Philox4x64-10, a counter-based random number generator: Salmon et al. 2011, "Parallel random
// numbers: as easy as 1, 2, 3", section 4.3. Block b of the stream of a key is four 64-bit words, the
// same that numpy.random.Philox(key=[key0, key1]).random_raw() gives from its word 4·b on.

__device__ __forceinline__ void philox(unsigned long long key0, unsigned long long key1, unsigned long long block,
                                       unsigned long long* words) {
    const unsigned long long m0 = 0xD2E7470EE14C6C93ull, m1 = 0xCA5A826395121157ull;
    unsigned long long c0 = block + 1, c1 = 0, c2 = 0, c3 = 0;  // NumPy counts up before it draws
    for (int round = 0; round < 10; ++round) {
        const unsigned long long low0 = m0 * c0, high0 = __umul64hi(m0, c0), low1 = m1 * c2, high1 = __umul64hi(m1, c2);
        c0 = high1 ^ c1 ^ key0;
        c1 = low1;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += 0x9E3779B97F4A7C15ull;
        key1 += 0xBB67AE8584CAA73Bull;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}
