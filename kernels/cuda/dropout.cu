// Dropout: y[i] = x[i]·scale where the i-th 32-bit word of the key's Philox stream is at least
// `threshold`, else x[i]·0. x, y: n elements.
//
// One launch = one array, forward (x, y) or backward (dy, dx): the mask is computed again each time,
// so that none is stored, and it is bit for bit the mask that NumPy makes on the CPU. A thread
// computes one Philox block, the random words of 8 neighbouring elements.
#include "philox.cuh"

extern "C" __global__ void dropout(const float* __restrict__ x, float* __restrict__ y, long long n, unsigned long long key0,
                                   unsigned long long key1, unsigned int threshold, float scale) {
    const long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (block * 8 >= n) return;
    unsigned long long words[4];
    philox(key0, key1, block, words);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        const unsigned int word = (unsigned int)(words[k / 2] >> (k % 2 * 32));  // low half first
        const long long i = block * 8 + k;
        if (i < n) y[i] = x[i] * (word >= threshold ? scale : 0.f);
    }
}
