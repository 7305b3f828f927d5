// Softmax and cross-entropy in one kernel, forward and backward: tinylm/ops/losses.py has the formulas.
//
//   logits, dlogits (rows, classes); targets (rows), ignore_index where a row does not count;
//   losses, shift, log_total (rows); total, count: one number each
//
// In plain C, a row is, with q = (1 - smoothing) onehot(target) + smoothing / classes:
//   shift = max z[i];  log_total = log Σ exp(z[i] - shift);
//   loss = log_total - Σ q[i] (z[i] - shift);  dz[i] = (exp(z[i] - shift - log_total) - q[i]) * dloss;
//
// cross_entropy_forward and _backward: one block per row. The probabilities are never stored: two
// numbers per row are kept, the backward pass recomputes the rest, and dlogits is written once, with
// the target's part already subtracted. shift and log_total are kept apart, since their sum would
// lose digits to large logits. The largest target out of range, a negative one being huge, is left in `found`, which the host reads with
// the next value; the loss of its row is NaN.
// cross_entropy_total: one block adds up the losses and counts the rows, in a fixed order.
#include "reductions.cuh"

extern "C" __global__ void cross_entropy_forward(const float* __restrict__ logits, const long long* __restrict__ targets,
                                                 float* __restrict__ losses, float* __restrict__ shift, float* __restrict__ log_total,
                                                 int classes, long long ignore_index, float smoothing,
                                                 unsigned long long* __restrict__ found) {
    __shared__ float scratch[32];
    const float* z = logits + (long long)blockIdx.x * classes;
    const long long target = targets[blockIdx.x];
    if (target == ignore_index) {  // the whole block leaves, so that no barrier waits for it
        if (threadIdx.x == 0) losses[blockIdx.x] = shift[blockIdx.x] = log_total[blockIdx.x] = 0.f;
        return;
    }
    const float top = finite_or_zero(row_max(z, classes, scratch));
    float total = 0.f, sum = 0.f;
    for (int i = threadIdx.x; i < classes; i += blockDim.x) {
        total += expf(z[i] - top);
        sum += z[i] - top;
    }
    total = logf(block_sum(total, scratch));
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) {
        const float chosen = target >= 0 && target < classes ? z[target] : nanf("");
        if (target < 0 || target >= classes) atomicMax(found, static_cast<unsigned long long>(target));
        float loss = total - (1.f - smoothing) * (chosen - top);
        if (smoothing != 0.f) loss -= smoothing * (sum / classes);
        losses[blockIdx.x] = loss;
        shift[blockIdx.x] = top;
        log_total[blockIdx.x] = total;
    }
}

extern "C" __global__ void cross_entropy_total(const float* __restrict__ losses, const long long* __restrict__ targets,
                                               float* __restrict__ total, float* __restrict__ count, long long rows,
                                               long long ignore_index, bool mean) {
    __shared__ float scratch[32];
    float sum = 0.f, counted = 0.f;
    for (long long r = threadIdx.x; r < rows; r += blockDim.x) {
        sum += losses[r];
        counted += targets[r] != ignore_index;
    }
    sum = block_sum(sum, scratch);
    counted = block_sum(counted, scratch);
    if (threadIdx.x == 0) {
        *total = mean ? sum / counted : sum;
        *count = counted;
    }
}

// dloss: one number, or one per row; it is divided by *count if that is given.
extern "C" __global__ void cross_entropy_backward(const float* __restrict__ logits, const long long* __restrict__ targets,
                                                  const float* __restrict__ shift, const float* __restrict__ log_total,
                                                  const float* __restrict__ dloss, bool dloss_per_row, const float* __restrict__ count,
                                                  float* __restrict__ dlogits, int classes, long long ignore_index, float smoothing) {
    const float* z = logits + (long long)blockIdx.x * classes;
    float* dz = dlogits + (long long)blockIdx.x * classes;
    const long long target = targets[blockIdx.x];
    if (target == ignore_index) {
        for (int i = threadIdx.x; i < classes; i += blockDim.x) dz[i] = 0.f;
        return;
    }
    const float top = shift[blockIdx.x], total = log_total[blockIdx.x];
    float scale = dloss[dloss_per_row ? blockIdx.x : 0];
    if (count) scale /= *count;
    for (int i = threadIdx.x; i < classes; i += blockDim.x) {
        const float q = (i == target ? 1.f - smoothing : 0.f) + smoothing / classes;
        dz[i] = (expf(z[i] - top - total) - q) * scale;
    }
}
