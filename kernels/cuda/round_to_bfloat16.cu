// y = x rounded to the nearest bfloat16, for the operands of a product. x and y: n elements.
//
// One launch = one thread per element. Integer operations alone: denormals are rounded as any other number, whatever -ftz says.
#include "bfloat16.cuh"

extern "C" __global__ void round_to_bfloat16(const float* __restrict__ x, float* __restrict__ y, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = nearest_bfloat16(x[i]);
}
