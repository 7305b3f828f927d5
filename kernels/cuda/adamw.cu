// One step of Adam or AdamW on flat arrays of n elements, in place: tinylm/optim/adam.py has the formulas.
//
//   g = grad_scale·grads + decay·w;  w = shrink·w;  m = beta1·m + rest1·g;  v = beta2·v + rest2·g²
//   w = w - rate·m / (√v / root + eps)
//
// Coupled weight decay is `decay`, decoupled is `shrink` (one of them is 0 or 1); rest = 1 - beta,
// rate = lr/(1 - beta1ᵗ) and root = √(1 - beta2ᵗ) come from the host in full precision. grad_scale
// (one number on the device, or null) is the clipping factor.
//
// One launch = all parameters of a group: one thread per element, each array read once and written
// once, no separate pass for clipping, and nothing is copied to the host.

extern "C" __global__ void adamw(float* __restrict__ values, const float* __restrict__ grads, float* __restrict__ exp_avg,
                                 float* __restrict__ exp_avg_sq, const float* __restrict__ grad_scale, long long n, float shrink,
                                 float decay, float beta1, float rest1, float beta2, float rest2, float rate, float root, float eps) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float w = values[i];
    const float g = grads[i] * (grad_scale ? *grad_scale : 1.f) + decay * w;
    const float m = beta1 * exp_avg[i] + rest1 * g, v = beta2 * exp_avg_sq[i] + rest2 * (g * g);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    values[i] = shrink * w - rate * (m / (sqrtf(v) / root + eps));
}
