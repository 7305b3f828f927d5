// The arguments that all kernels of attention take: which query may look at which key, which weights dropout keeps, and where a
// head of q, k, v or of an output begins. scaled_dot_product_attention.cuh explains them; this file is included before it, after
// bfloat16.cuh, attention_tiles.cuh and philox.cuh.

// ---------------------------------------------------------------- dropout

struct Dropout {
    Word seed, stream;
    unsigned threshold;  // 0: none
    float keep_scale;
};

// Which of the 32-bit words 8 block to 8 block + 7 are kept, one bit each; the low half of a 64-bit word comes first.
__device__ unsigned char kept_in_block(const Dropout& d, Word block) {
    Word words[4];
    philox(d.seed, d.stream, block, words);
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) bits |= (static_cast<unsigned>(words[i / 2] >> (i % 2 * 32)) >= d.threshold ? 1u : 0u) << i;
    return static_cast<unsigned char>(bits);
}

// 0 or keep_scale for the weight in `column` of a tile row that begins at index `first`.
__device__ float keep_factor(const unsigned char* kept, const Dropout& d, Word first, int column) {
    const int at = static_cast<int>(first & 7) + column;
    return kept[at >> 3] >> (at & 7) & 1 ? d.keep_scale : 0.f;
}

// ---------------------------------------------------------------- the arguments

struct Strided {  // (N, heads, rows, columns), the columns contiguous
    const float* start;
    Long batch, head, row;
};

struct Attention {
    Strided q, k, v;
    const bool* mask;  // null: none
    int heads, key_heads, steps, keys, width, out_width;  // heads, key_heads, T, S, D, E
    Long mask_batch, mask_head, mask_row, mask_column;
    int causal;
    float scale;
    Dropout dropout;
    int rounded;  // whether the products' operands are rounded to bfloat16

    // The scale is a factor of Q in shared memory, and of dQ at the end; where operands are rounded, it is one of the scores and of dS.
    __device__ float query_factor() const { return rounded ? 1.f : scale; }
    __device__ float score_factor() const { return rounded ? scale : 1.f; }
    __device__ float operand(float x) const { return rounded ? nearest_bfloat16(x) : x; }

    // A matrix of x (N, count, rows, columns), where lead = n count + head.
    __device__ Matrix part(const Strided& x, int lead, int count, int rows, int columns) const {
        return {x.start + (lead / count * x.batch + lead % count * x.head), x.row, rows, columns};
    }

    __device__ const bool* mask_of(int lead) const {
        return mask == nullptr ? nullptr : mask + (lead / heads * mask_batch + lead % heads * mask_head);
    }

    // Whether `query` may look at `key`, by a mask of mask_of.
    __device__ bool sees(const bool* mask_part, int query, int key) const {
        if (query >= steps || key >= keys || (causal && key > query + keys - steps)) return false;
        return mask_part == nullptr || mask_part[query * mask_row + key * mask_column];
    }

    // The number of keys that some query before `query` may look at: the first ones.
    __device__ int keys_before(int query) const { return causal ? min(keys, query + keys - steps) : keys; }
    // No query before this one may look at `key` or a later key.
    __device__ int queries_from(int key) const { return causal ? max(0, key - (keys - steps)) : 0; }

    // The offset of row `row` in an output whose heads, of `columns` each, lie beside each other.
    __device__ Long output(int lead, int count, int row, int columns, Long batch_stride, Long row_stride) const {
        return lead / count * batch_stride + row * row_stride + lead % count * columns;
    }

    // The index in (N, heads, T, S).
    __device__ Word weight(int lead, int query, int key) const { return (static_cast<Word>(lead) * steps + query) * keys + key; }

    // For QUERIES queries, the bits of COUNT keys from `key` on, whose weights may begin within a block of words.
    template <int QUERIES, int COUNT>
    __device__ void draw(unsigned char (*kept)[COUNT / 8 + 1], int lead, int query, int key) const {
        if (dropout.threshold == 0) return;
        for (int i = threadIdx.x; i < QUERIES * (COUNT / 8 + 1); i += THREADS) {
            const int r = i / (COUNT / 8 + 1), b = i % (COUNT / 8 + 1);
            kept[r][b] = kept_in_block(dropout, weight(lead, query + r, key) / 8 + b);
        }
    }
};
