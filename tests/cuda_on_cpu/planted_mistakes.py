"""The mistakes that mutations.py plants in the kernels, one at a time."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """Replaces the first `old` in the file, or in a header that it includes, by `new`."""

    file: str
    mistake: str
    old: str
    new: str


BARRIER = "    __syncthreads();"
ARRIVES = "        __threadfence();  // what this block has written is visible before the block counts as arrived"
COUNT = "*(const volatile unsigned int*)arrived"
ATTENTION = "scaled_dot_product_attention_32"
MUTATIONS = [
    # barriers
    Mutation(
        "layer_norm",
        "block_sum: no barrier before writing",
        BARRIER + "  // scratch may still be read by the reduction before this one\n",
        "",
    ),
    Mutation("layer_norm", "block_sum: no barrier before reading", BARRIER + "\n    v = ", "\n    v = "),
    Mutation("softmax", "block_max: no barrier before reading", BARRIER + "\n    return warp_max", "\n    return warp_max"),
    Mutation("column_sums", "tile: no barrier before reading", BARRIER + "\n    if (threadIdx.y == 0)", "\n    if (threadIdx.y == 0)"),
    Mutation(
        "layer_norm", "tile: no barrier before writing again", BARRIER + "  // the tile may still be read by the sum before this one\n", ""
    ),
    Mutation(
        "layer_norm",
        "threads without a column leave before a barrier",
        "    float squares = 0.f;\n",
        "    if (threadIdx.x >= columns) return;\n    float squares = 0.f;\n",
    ),
    Mutation(
        "cross_entropy",
        "one thread leaves an ignored row, the others stay",
        "= log_total[blockIdx.x] = 0.f;\n        return;",
        "= log_total[blockIdx.x] = 0.f;\n        if (threadIdx.x == 0) return;",
    ),
    Mutation(
        ATTENTION,
        "no barrier after loading keys",
        "a.draw<16 * R, 8 * C>(kept, lead, query0, key0);\n            __syncthreads();",
        "a.draw<16 * R, 8 * C>(kept, lead, query0, key0);",
    ),
    Mutation(
        ATTENTION,
        "no barrier before the next keys",
        "accumulate<R>(sum, w, v_s);\n            }\n            __syncthreads();",
        "accumulate<R>(sum, w, v_s);\n            }",
    ),
    Mutation(
        ATTENTION, "no __syncwarp before reading shared weights", "[tx + 8 * j] = s[i][j];\n    __syncwarp();", "[tx + 8 * j] = s[i][j];"
    ),
    Mutation(
        ATTENTION,
        "no __syncwarp before writing shared weights",
        "    __syncwarp();  // until all lanes have read what was there before\n",
        "",
    ),
    # races
    Mutation(
        "cross_entropy",
        "every thread writes the row's loss",
        "    if (threadIdx.x == 0) {\n        const float chosen",
        "    {\n        const float chosen",
    ),
    Mutation("column_sums", "every row of threads writes the sum", "if (threadIdx.y == 0 && c < columns) out", "if (c < columns) out"),
    Mutation("squared_norm", "every thread adds to the total", "if (threadIdx.x == 0) *total += sum", "*total += sum"),
    Mutation(
        "squared_norm",
        "every block writes one place, += without order",
        "partial[blockIdx.x] = sum",
        "partial[0] = partial[0] + sum - partial[0]",
    ),
    Mutation(
        "embedding", "a sum in the order of arrival", "dweight[v * columns + c] = total;", "atomicAdd(&dweight[v * columns + c], total);"
    ),
    Mutation("adamw", "blocks overlap", "blockIdx.x * blockDim.x + threadIdx.x", "blockIdx.x * (blockDim.x - 1) + threadIdx.x"),
    # blocks that wait for each other
    Mutation("rnn", "no barrier between two steps", "if (step + 1 < s.steps) grid_barrier(s.arrived, step + 1);", ""),
    Mutation("gru", "no barrier before the others' gradients are read", "grid_barrier(s.arrived, s.steps - step);", ""),
    Mutation("lstm", "the barrier of every step is the first", "grid_barrier(s.arrived, step + 1)", "grid_barrier(s.arrived, 1)"),
    Mutation("rnn", "no fence before the block has arrived", ARRIVES + "\n", ""),
    Mutation("rnn", "no fence after all have arrived", "        __threadfence();  // what the others have written", "        // what"),
    Mutation("rnn", "the count of blocks is no volatile read", COUNT, "*arrived"),
    Mutation("rnn", "the count of blocks is read once", f"while ({COUNT}", f"const unsigned int now = {COUNT};\n        while (now"),
    Mutation("rnn", "one block is not waited for", "< round * gridDim.x", "< round * gridDim.x - 1"),
    Mutation("rnn", "waits for a block too many", "< round * gridDim.x", "< round * gridDim.x + 1"),
    Mutation(
        "rnn",
        "arrives before its threads have written",
        f"    __syncthreads();\n    if (threadIdx.x == 0) {{\n{ARRIVES}",
        f"    if (threadIdx.x == 0) {{\n{ARRIVES}",
    ),
    Mutation("rnn", "only the first thread waits", "arrived\n    }\n    __syncthreads();\n", "arrived\n    }\n"),
    Mutation("rnn", "multiplies before the rows are there", BARRIER + "  // x and w are there, and nobody reads the earlier sums\n", ""),
    Mutation("rnn", "the sums before they are there", BARRIER + "  // the sums are there, and nobody reads x\n", ""),
    Mutation("rnn", "dh too early", BARRIER + "  // dh of the step after this one is complete\n", ""),
    # warps
    Mutation("layer_norm", "warp_sum begins at 8", "int offset = 16", "int offset = 8"),
    Mutation(
        "layer_norm",
        "the mask names half the warp",
        "__shfl_xor_sync(0xffffffffu, v, offset);\n    return v;",
        "__shfl_xor_sync(0x0000ffffu, v, offset);\n    return v;",
    ),
    Mutation(
        ATTENTION, "a row's sum takes 16 lanes", "for (int step = 4; step; step >>= 1) a += ", "for (int step = 8; step; step >>= 1) a += "
    ),
    Mutation(
        "layer_norm",
        "shared memory read where nobody wrote",
        "(blockDim.x >> 5) ? scratch[threadIdx.x & 31] : 0.f",
        "32 ? scratch[threadIdx.x & 31] : 0.f",
    ),
    # bounds
    Mutation(
        "layer_norm", "reads a column too many", "i < columns; i += blockDim.x) sum += x[i]", "i <= columns; i += blockDim.x) sum += x[i]"
    ),
    Mutation(
        "softmax", "writes a column too many", "i < columns; i += blockDim.x) y[i] *= scale", "i <= columns; i += blockDim.x) y[i] *= scale"
    ),
    Mutation("layer_norm", "shared memory for one warp", "__shared__ float scratch[32];", "__shared__ float scratch[1];"),
    Mutation("dropout", "no guard at the end", "if (i < n) y[i]", "y[i]"),
    Mutation("dropout", "the guard is off by one", "if (i < n) y[i]", "if (i <= n) y[i]"),
    Mutation("adamw", "no guard at the end", "    if (i >= n) return;\n", ""),
    Mutation("adamw", "the guard is off by one", "if (i >= n) return", "if (i > n) return"),
    Mutation("embedding", "no guard at the end of the ids", "at < n && ids[at] == v", "ids[at] == v"),
    Mutation("rnn", "the guard is off by one", "if (i < size) h[i]", "if (i <= size) h[i]"),
    Mutation("lstm", "no guard at the end", "    if (at >= (long long)batch * hidden) return;\n", ""),
    Mutation(
        "linear",
        "reads a column of the bias too many",
        "i < columns; i += blockDim.x) {\n        const float v",
        "i <= columns; i += blockDim.x) {\n        const float v",
    ),
    Mutation("linear", "few rows: no guard at the last output", "    if (output >= outputs) return;  // the whole warp\n", ""),
    Mutation("linear", "few rows: one row too many", "if (r < rows) sum[r]", "if (r <= rows) sum[r]"),
    Mutation(
        "linear",
        "joint: no guard at the last output",
        "    if (output >= outputs_0 + outputs_1 + outputs_2) return;  // the whole warp\n",
        "",
    ),
    Mutation("linear", "few rows: every lane writes", "if (lane != 0 || r >= rows) continue", "if (r >= rows) continue"),
    Mutation("swiglu", "the guard is off by one", "if (i < n) y[i]", "if (i <= n) y[i]"),
    Mutation("rotary", "a pair too many", "j < heads * pairs; j", "j <= heads * pairs; j"),
    Mutation(ATTENTION, "no guard for queries beyond the last", "if (query >= steps) continue;", ""),
    Mutation(ATTENTION, "no guard for rows beyond the last", "if (r >= m.rows || c >= m.columns)", "if (c >= m.columns)"),
    Mutation(
        ATTENTION,
        "vectors from any address",
        "if (c + 4 <= m.columns && (reinterpret_cast<Word>(at) & 15) == 0)",
        "if (c + 4 <= m.columns)",
    ),
    Mutation("gru", "the last block takes units that do not exist", "min(units, hidden - first())", "units"),
    # strides and indices
    Mutation(
        "layer_norm", "a row's stride is one short", "x += (long long)blockIdx.x * columns", "x += (long long)blockIdx.x * (columns - 1)"
    ),
    Mutation("column_sums", "rows and columns exchanged", "sum += x[r * columns + c]", "sum += x[c * rows + r]"),
    Mutation("squared_norm", "the stride forgets the grid", "i += (long long)gridDim.x * blockDim.x", "i += blockDim.x"),
    Mutation("embedding", "the position after the one found", "(first + __ffs(here) - 1)", "(first + __ffs(here))"),
    Mutation("embedding", "only the first of 32 positions", "here != 0; here &= here - 1", "here != 0; here = 0"),
    Mutation("embedding", "warps read the same ids", "threadIdx.y * 32; first < stop; first += 256", "0; first < stop; first += 32"),
    Mutation("embedding", "a block's tiles lie side by side", "(blockIdx.y + k * gridDim.y) * 32", "(blockIdx.y + k) * 32"),
    Mutation("embedding", "the row padding_idx gets a gradient", "v == padding_idx ? 0 : n", "n"),
    Mutation("embedding", "an id out of range is not reported", "if (!known && threadIdx.x == 0) atomicMax", "if (false) atomicMax"),
    Mutation("rotary", "the sequences are not told apart", "blockIdx.x % steps", "blockIdx.x"),
    Mutation("rotary", "the second of a pair beside the first, in halves too", ": pairs + i", ": i + 1"),
    Mutation(ATTENTION, "heads take the keys in turn", "lead / (heads / key_heads)", "lead % key_heads"),
    Mutation("gru", "a gate's offset", "2 * hidden", "hidden"),
    Mutation(
        "scaled_dot_product_attention_64",
        "an offset in 32 bits",
        "m.start + r * m.row + c",
        "m.start + (int)(r * m.row * 400000000) / 400000000 + c",
    ),
    # arithmetic
    Mutation(
        "layer_norm", "no eps", "rsqrtf(block_sum(squares, scratch) / columns + eps)", "rsqrtf(block_sum(squares, scratch) / columns)"
    ),
    Mutation("layer_norm", "what has arrived is forgotten", " + (arrived ? arrived[i] : 0.f)", ""),
    Mutation("rms_norm", "what has arrived is that of the first row", "if (arrived) arrived += (long long)blockIdx.x * columns;", ""),
    Mutation("rms_norm", "the mean is a sum", "block_sum(product, scratch) / columns", "block_sum(product, scratch)"),
    Mutation("softmax", "the maximum is not taken off", "expf(x[i] - shift)", "expf(x[i])"),
    Mutation("log_softmax", "the gradient forgets the sum", "dy[i] - expf(y[i]) * sum", "dy[i] - expf(y[i])"),
    Mutation("cross_entropy", "the gradient of the wrong class", "i == target ? 1.f", "i == target - 1 ? 1.f"),
    Mutation(
        "cross_entropy",
        "a negative target is not reported",
        "if (target < 0 || target >= classes) atomicMax",
        "if (target >= classes) atomicMax",
    ),
    Mutation("dropout", "the halves of a word exchanged", "(k % 2 * 32)", "((1 - k % 2) * 32)"),
    Mutation("dropout", "nine rounds of Philox", "round < 10", "round < 9"),
    Mutation(
        "linear", "silu for sigmoid", "if (activation == SIGMOID) return sigmoid(z)", "if (activation == SIGMOID) return z * sigmoid(z)"
    ),
    Mutation(
        "linear", "joint: the third layer begins with the second's outputs", "second ? outputs_0 : outputs_0 + outputs_1;", "outputs_0;"
    ),
    Mutation("linear", "few rows: the residual of the first row", "residual[at] : 0.f", "residual[output] : 0.f"),
    Mutation("lstm", "the forget gate's gradient from the new state", "dc_t * c_before * (f", "dc_t * c * (f"),
    Mutation("lstm", "every block takes the first units' weights", "s.first() + o % count;", "o % count;"),
    Mutation("rnn", "reverse is forward", "s.reverse ? s.steps - 1 - step : step", "step"),
    Mutation("gru", "what does not pass through W_hh is lost", "+= sums[i];", "= sums[i];"),
    Mutation("lstm", "a sequence that has ended goes on", "!s.running || s.running[row], sums", "true, sums"),
    Mutation("rnn", "a sequence that has ended gets a gradient", "!s.running || s.running[row], dh", "true, dh"),
    Mutation("rnn", "rows are not rounded", "x[i] = s.operand(__ldcg(from + i))", "x[i] = __ldcg(from + i)"),
    Mutation("rotary", "turned the other way", "a * c - b * s", "a * c + b * s"),
    Mutation("swiglu", "the slope of the sigmoid alone", "a[i] * (1.f - s)", "(1.f - s)"),
    Mutation(
        ATTENTION, "the gradient of shared keys from their first head", "lead < (key_lead + 1) * sharing", "lead < key_lead * sharing + 1"
    ),
    Mutation(ATTENTION, "a query sees one key too few", "key > query + keys - steps", "key >= query + keys - steps"),
    Mutation("round_to_bfloat16", "cut off instead of rounded", "(bits + 0x7fffu + (bits >> 16 & 1u))", "bits"),
    Mutation("round_to_bfloat16", "halves away from zero", "0x7fffu + (bits >> 16 & 1u)", "0x8000u"),
    Mutation("round_to_bfloat16", "NaN rounded as a number", "x != x ? x : ", ""),
    Mutation(ATTENTION, "queries are not rounded", "tile[r][c] = rounded ? nearest(x) : x;", "tile[r][c] = x;"),
    Mutation(ATTENTION, "rounded before they are normalised", "s[i][j] *= norm;", ""),
    Mutation(ATTENTION, "δ of rounded weights", "rounded ? 0.f : row_sum(part)", "row_sum(part)"),
    Mutation(
        ATTENTION,
        "dS rounded before its scale",
        "a.operand(p * (ds[i][j] - row_delta[i]) * a.score_factor())",
        "a.operand(p * (ds[i][j] - row_delta[i])) * a.score_factor()",
    ),
    Mutation(ATTENTION, "what was summed is not scaled down", "times(sum[i][h], correction)", "times(sum[i][h], 1.f)"),
]
