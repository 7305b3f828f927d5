// The nearest bfloat16, ties to even, as a float: a float without its last 16 bits. NaN stays; beyond the largest one it is infinity.

__device__ float nearest_bfloat16(float x) {
    const unsigned bits = __float_as_uint(x);
    return x != x ? x : __uint_as_float((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}
