# %% [markdown]
# # Why attention keeps nothing
#
# Attention is the heart of a Transformer. For a long text its weights are the largest array of a
# training step, if one keeps them. tinylm's kernels do not. This notebook derives how the
# gradient can be computed without them, in plain NumPy.
#
# It assumes the first notebook (`1_backward.ipynb`): cotangents and vjps.

# %%
import gc
import math
import tracemalloc

import numpy as np

import tinylm
from tinylm import Tensor
from tinylm.engine.kernels import using

# %% [markdown]
# ## The formula
#
# Each of T positions asks a *query* q, and each position offers a *key* k and a *value* v, all
# rows of D numbers. The weights A say how much position i looks at position j, and the result is
# a weighted mean of the values:
#
# $$S = QK^\top / \sqrt{D}, \qquad A = \mathrm{softmax}(S), \qquad Y = AV$$

# %%
rng = np.random.default_rng(0)
T, D = 12, 4
q, k, v = rng.standard_normal((3, T, D))


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


A = softmax(q @ k.T / math.sqrt(D))
Y = A @ v
np.testing.assert_allclose(
    Y, tinylm.scaled_dot_product_attention(*map(Tensor, (q, k, v))).numpy(), rtol=1e-12
)
print("A", A.shape, "Y", Y.shape)

# %% [markdown]
# ## The size of A
#
# Q, K, V and Y grow with the length T of the text, A with its square. One layer with 12 heads of
# width 64, one text, float32:

# %%
print("     T   Q, K, V and Y      A")
for length in (256, 1024, 4096, 16384):
    rows, square = 4 * 12 * length * 64 * 4, 12 * length**2 * 4
    print(f"{length:6} {rows / 2**20:12.0f} MB {square / 2**20:7.0f} MB")
assert square > 60 * rows

# %% [markdown]
# ## The gradient, with A
#
# Given dY, the cotangent of Y. From Y = A V follow dV = Aᵀ dY and dA = dY Vᵀ. The softmax turns
# dA into dS, row by row: dS = A (dA - Σ dA A). From S = Q Kᵀ/√D follow dQ and dK. Every line
# needs A.


# %%
def gradients_with_A(dY):
    dV = A.T @ dY
    dA = dY @ v.T
    dS = A * (dA - (dA * A).sum(axis=-1, keepdims=True))
    return dS @ k / math.sqrt(D), dS.T @ q / math.sqrt(D), dV


dY = rng.standard_normal((T, D))
tensors = [Tensor(x, requires_grad=True) for x in (q, k, v)]
tinylm.scaled_dot_product_attention(*tensors).backward(dY)
for ours, tensor in zip(gradients_with_A(dY), tensors, strict=True):
    np.testing.assert_allclose(ours, tensor.grad, rtol=1e-10, atol=1e-14)

# %% [markdown]
# ## First idea: compute A again
#
# A is a function of q and k, and the tape holds those anyway. So the backward pass can compute it
# again. The price is one more matrix product.
#
# But then A still exists in the backward pass, if only for a moment. The next idea removes it.

# %% [markdown]
# ## Second idea: a few queries at a time
#
# Row i of A depends on query i and all keys. So take a *block* of queries: their scores, their
# softmax, their part of Y. The next block uses the same memory again.


# %%
def forward_in_blocks(q, k, v, block):
    Y, largest = np.empty_like(v), 0
    for start in range(0, len(q), block):
        rows = slice(start, start + block)
        weights = softmax(q[rows] @ k.T / math.sqrt(D))  # (block, T): never (T, T)
        largest = max(largest, weights.size)
        Y[rows] = weights @ v
    return Y, largest


blocked, largest = forward_in_blocks(q, k, v, block=3)
np.testing.assert_allclose(blocked, Y, rtol=1e-12)
print("largest array of weights:", largest, "instead of", A.size)

# %% [markdown]
# The backward pass does the same. Each block computes its weights again, writes its own rows of
# dQ, and *adds* its part to dK and dV, since every key and value serves all queries.


# %%
def backward_in_blocks(q, k, v, dY, block):
    dQ, dK, dV = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for start in range(0, len(q), block):
        rows = slice(start, start + block)
        weights = softmax(q[rows] @ k.T / math.sqrt(D))  # again
        dweights = dY[rows] @ v.T
        dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
        dQ[rows] = dscores @ k / math.sqrt(D)
        dK += dscores.T @ q[rows] / math.sqrt(D)
        dV += weights.T @ dY[rows]
    return dQ, dK, dV


for ours, expected in zip(
    backward_in_blocks(q, k, v, dY, block=3), gradients_with_A(dY), strict=True
):
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-14)

# %% [markdown]
# ## As an op
#
# Value and vjp side by side make it an op. Its vjp keeps q, k and v, which exist anyway, and
# nothing else. The checker compares it with finite differences.


# %%
@tinylm.op
def attention_in_blocks(q, k, v, /, *, block=32):
    """softmax(q kᵀ / √D) v.  q, k, v (T, D) -> (T, D)."""
    value, _ = forward_in_blocks(q, k, v, block)
    return value, lambda dy: backward_in_blocks(q, k, v, dy, block)


report = tinylm.verify.gradcheck(lambda q, k, v: attention_in_blocks(q, k, v, block=5), q, k, v)
print("gradcheck:", "ok" if report.ok else report)
assert report.ok

# %% [markdown]
# ## Measured
#
# How many bytes live between the forward and the backward pass? `tracemalloc` counts them. The
# *reference* is tinylm's readable body, which keeps A; the *kernel* is what runs by default (in
# C; without a compiler the reference takes its place).


# %%
def kept(forward):
    """Returns the bytes that are still needed after the call, beside the result."""
    gc.collect()
    tracemalloc.start()
    result = forward()
    size = tracemalloc.get_traced_memory()[0] - result.data.nbytes
    tracemalloc.stop()
    return size


T, D = 512, 4  # forward_in_blocks reads D
long = [
    Tensor(rng.standard_normal((1, 1, T, D)).astype(np.float32), requires_grad=True)
    for _ in range(3)
]
flat = [Tensor(x.data[0, 0], requires_grad=True) for x in long]
with using("reference"):
    reference = kept(lambda: tinylm.scaled_dot_product_attention(*long))
with using("auto"):
    tinylm.scaled_dot_product_attention(*long)  # the first call compiles or loads the kernel
    kernel = kept(lambda: tinylm.scaled_dot_product_attention(*long))
ours = kept(lambda: attention_in_blocks(*flat))
assert reference >= 4 * T * T  # at least A itself
assert ours < 50_000

# %% tags=["varies"]
for name, size in [
    ("one matrix A", 4 * T * T),
    ("reference", reference),
    ("in blocks, ours", ours),
    ("kernel", kernel),
]:
    print(f"{name:16} {size / 1024:6.0f} KB")

# %% [markdown]
# ## Two refinements
#
# **One number instead of a sum over keys.** The softmax needs Σ dA A in each row. With dA = dY Vᵀ
# and Y = A V it is the same as Σ dY Y, which has D terms instead of T.

# %%
T, D = q.shape
dA = dY @ v.T
np.testing.assert_allclose((dA * A).sum(axis=-1), (dY * Y).sum(axis=-1), rtol=1e-10)

# %% [markdown]
# **One number instead of a softmax.** Keep for each query the logarithm of its sum of
# exponentials, L. Then A = exp(S - L), element by element. A block may then also be a part of the
# *keys*, which is how a GPU's small fast memory is used (FlashAttention, Dao et al. 2022).

# %%
S = q @ k.T / math.sqrt(D)
L = np.log(np.exp(S).sum(axis=-1, keepdims=True))
np.testing.assert_allclose(np.exp(S - L), A, rtol=1e-12)
keys = slice(4, 8)
np.testing.assert_allclose(np.exp(q @ k[keys].T / math.sqrt(D) - L), A[:, keys], rtol=1e-12)

# %% [markdown]
# The forward pass can build L and Y while it reads the keys part by part. It keeps the largest
# score m so far, the sum s of exp(score - m), and the same sum weighted with the values. When m
# grows, both sums are scaled down: the *online softmax*.

# %%
m, s, y = np.full((T, 1), -np.inf), np.zeros((T, 1)), np.zeros((T, D))
for start in range(0, T, 4):
    keys = slice(start, start + 4)
    scores = q @ k[keys].T / math.sqrt(D)
    new = np.maximum(m, scores.max(axis=-1, keepdims=True))
    e, shrink = np.exp(scores - new), np.exp(m - new)
    s, y, m = s * shrink + e.sum(axis=-1, keepdims=True), y * shrink + e @ v[keys], new
np.testing.assert_allclose(y / s, Y, rtol=1e-12)
np.testing.assert_allclose(m + np.log(s), L, rtol=1e-12)

# %% [markdown]
# ## The price
#
# Products of about T² D multiplications: two in the forward pass (S and A V), four in the
# backward pass (dV, dA, dQ, dK), and now one more, S again. Seven instead of six. In return no
# (T, T) array is written to memory and read back.
#
# Dropout on the weights fits in: its mask is a function of a key (`3_randomness.ipynb`), so the
# backward pass draws it again.

# %% [markdown]
# ## What to take along
#
# - The backward pass needs A, but A is a function of what is kept anyway.
# - Rows of A are independent, so a block of queries at a time is enough; dK and dV are sums over the blocks.
# - Computing again may be cheaper than remembering: the same idea as `recompute`, inside one op.
#
# In the library: the readable body in `tinylm/ops/attention.py`, the kernels in
# `kernels/cpu/scaled_dot_product_attention.c` and
# `kernels/cpu/scaled_dot_product_attention_backward.c`. Next: `5_training.ipynb`.
