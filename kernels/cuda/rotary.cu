// Rotary position embedding: tinylm/ops/rotary.py has the formula.
//
//   x (N, heads, T, 2 pairs), read in place: x[n, h, t, i] is x[n x_batch + h x_head + t x_row + i], so that
//   heads cut out of a projection need no copy; y made in the order (N, T, heads, 2 pairs); cos, sin (T, pairs)
//
// In plain C, a pair (a, b) of a row is turned by
//   y_a = a * cos[t][i] - b * sin[t][i];  y_b = a * sin[t][i] + b * cos[t][i];
// with sign 1. The gradient is the same launch with sign -1, dy for x and dx for y. A pair's entries are 2i and
// 2i + 1 (interleaved), or i and pairs + i.
//
// One launch = one block per position of a sequence: all its heads share one row of cosines and sines, which then
// comes from the cache. The reference makes seven passes over memory.

extern "C" __global__ void rotary(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ cos,
                                  const float* __restrict__ sin, int heads, int steps, int pairs, long long x_batch, long long x_head,
                                  long long x_row, float sign, bool interleaved) {
    const int step = blockIdx.x % steps;
    x += blockIdx.x / steps * x_batch + step * x_row;
    y += (long long)blockIdx.x * heads * 2 * pairs;
    cos += (long long)step * pairs;
    sin += (long long)step * pairs;
    for (int j = threadIdx.x; j < heads * pairs; j += blockDim.x) {
        const int head = j / pairs, i = j % pairs;
        const int first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : pairs + i;
        const float a = x[head * x_head + first], b = x[head * x_head + second], c = cos[i], s = sign * sin[i];
        y[head * 2 * pairs + first] = a * c - b * s;
        y[head * 2 * pairs + second] = a * s + b * c;
    }
}
