// σ(z) = 1 / (1 + e^-z), for the kernels whose gates or activations use it.

__device__ __forceinline__ float sigmoid(float z) { return 1.f / (1.f + expf(-z)); }
