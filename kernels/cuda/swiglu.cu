// SwiGLU, y = silu(a) b with silu(a) = a σ(a), and its gradients. a, b, y, dy, da, db: n elements.
//
//   with s = σ(a):  da = dy b s (1 + a (1 - s)),  db = dy a s
//
// One launch = one thread per element. Each array is read once and written once, and only a and b are kept for
// the backward pass, where the reference takes a pass over memory for every operation.
#include "sigmoid.cuh"

extern "C" __global__ void swiglu_forward(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a[i] * sigmoid(a[i]) * b[i];
}

extern "C" __global__ void swiglu_backward(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ dy,
                                           float* __restrict__ da, float* __restrict__ db, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float s = sigmoid(a[i]);
    da[i] = dy[i] * b[i] * (s * (1.f + a[i] * (1.f - s)));
    db[i] = dy[i] * (a[i] * s);
}
