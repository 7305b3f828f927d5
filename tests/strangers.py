"""Thirty wrong gradients as people write them, made up before looking at which causes the checker knows.

Each is a body with the arguments that it is called with and a sentence that says what is wrong in it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinylm

FIRST: dict[str, "Stranger"] = {}


class Stranger(NamedTuple):
    op: Callable[..., Any]
    args: tuple[Any, ...]
    mistake: str


def stranger(into: dict[str, Stranger], mistake: str, *args: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        into[body.__name__] = Stranger(tinylm.op(body), args, mistake)
        return body

    return register


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(sum(shape)).standard_normal(shape)


def softmaxed(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@stranger(FIRST, "only the diagonal of softmax's Jacobian", normal(3, 5))
def softmax_diagonal(x):
    y = softmaxed(x)
    return y, lambda dy: (dy * y * (1 - y),)


@stranger(FIRST, "softmax without the sum over the axis", normal(4, 6))
def softmax_no_sum(x):
    y = softmaxed(x)
    return y, lambda dy: (dy * y,)


@stranger(FIRST, "log softmax subtracts y, not y times the sum of dy", normal(2, 7))
def log_softmax(x):
    y = softmaxed(x)
    return np.log(y), lambda dy: (dy - y,)


@stranger(FIRST, "the mean is taken for a constant", normal(4, 6), normal(6))
def layer_norm_mean_constant(x, weight):
    std = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    xhat = (x - x.mean(axis=-1, keepdims=True)) / std

    def vjp(dy):
        g = dy * weight
        return (g - xhat * (g * xhat).mean(axis=-1, keepdims=True)) / std, (dy * xhat).sum(axis=0)

    return xhat * weight, vjp


@stranger(FIRST, "the norm is taken for a constant", normal(5, 4))
def unit_vectors(x):
    norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / norm, lambda dy: (dy / norm,)


@stranger(FIRST, "eps is 1e-5 forward and 1e-3 backward", normal(3, 8), normal(8))
def rms_norm_eps(x, weight):
    mean = (x * x).mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(mean + 1e-5)

    def vjp(dy):
        r = 1 / np.sqrt(mean + 1e-3)
        g = dy * weight
        return r * g - x * r**3 * (g * x).mean(axis=-1, keepdims=True), (dy * x * rstd).sum(axis=0)

    return x * rstd * weight, vjp


@stranger(FIRST, "no slope for negative inputs", normal(4, 5))
def leaky_relu(x):
    return np.where(x > 0, x, 0.1 * x), lambda dy: (np.where(x > 0, dy, 0),)


@stranger(FIRST, "negative inputs: y instead of y + 1", normal(5, 5))
def elu(x):
    y = np.where(x > 0, x, np.expm1(x))
    return y, lambda dy: (dy * np.where(x > 0, 1, y),)


@stranger(FIRST, "rows of a repeated id are overwritten", normal(6, 3), np.array([0, 2, 2, 5, 0, 2]))
def embedding(table, ids):
    def vjp(dy):
        dtable = np.zeros_like(table)
        dtable[ids] = dy
        return dtable, None

    return table[ids], vjp


@stranger(FIRST, "+= with repeated indices adds once", normal(3, 4), np.array([[0, 0, 1], [3, 3, 3], [0, 1, 2]]))
def pick(x, columns):
    rows = np.arange(len(x))[:, None]

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[rows, columns] += dy
        return dx, None

    return x[rows, columns], vjp


@stranger(FIRST, "backward draws another mask", normal(6, 6))
def dropout_other_mask(x):
    mask = np.random.default_rng(1).random(x.shape) > 0.5

    def vjp(dy):
        return (dy * (np.random.default_rng(2).random(x.shape) > 0.5) / 0.5,)

    return x * mask / 0.5, vjp


@stranger(FIRST, "backward forgets 1 / (1 - p)", normal(6, 5))
def dropout_scale(x):
    mask = np.random.default_rng(3).random(x.shape) > 0.2
    return x * mask / 0.8, lambda dy: (dy * mask,)


@stranger(FIRST, "the padding's side is forgotten: the first input misses a tap", normal(9), normal(3))
def convolution(x, taps):
    padded = np.pad(x, 1)
    y = sum(taps[k] * padded[k : k + len(x)] for k in range(3))

    def vjp(dy):
        dx = np.zeros_like(x)
        for i in range(1, len(x)):
            for k in range(3):
                if 0 <= i + 1 - k < len(x):
                    dx[i] += taps[k] * dy[i + 1 - k]
        dx[0] = taps[1] * dy[0]
        return dx, np.array([dy @ padded[k : k + len(x)] for k in range(3)])

    return y, vjp


@stranger(FIRST, "the cumulative sum of dy from the wrong end", normal(3, 6))
def cumulative_sum(x):
    return np.cumsum(x, axis=-1), lambda dy: (np.cumsum(dy, axis=-1),)


@stranger(FIRST, "the last element's part is missing", normal(2, 8))
def differences(x):
    def vjp(dy):
        dx = np.zeros_like(x)
        dx[:, :-1] -= dy
        dx[:, 1:-1] += dy[:, :-1]
        return (dx,)

    return x[:, 1:] - x[:, :-1], vjp


@stranger(FIRST, "the gradient of B is not transposed", normal(4, 4), normal(4, 4) + 1)
def matrix_product(a, b):
    return a @ b, lambda dy: (dy @ b.T, dy.T @ a)


@stranger(FIRST, "the bias gets the mean over the rows, not the sum", normal(5, 3), normal(3, 4), normal(4))
def linear(x, weight, bias):
    return x @ weight + bias, lambda dy: (dy @ weight.T, x.T @ dy, dy.mean(axis=0))


@stranger(FIRST, "the series near 0: -x/6 instead of -x/3", np.array([-2.0, -0.5, -0.01, 0.004, 0.02, 0.3, 1.1, 2.5]))
def sinc(x):
    small = abs(x) < 0.05
    safe = np.where(small, 1, x)
    y = np.where(small, 1 - x * x / 6 + x**4 / 120, np.sin(safe) / safe)
    return y, lambda dy: (dy * np.where(small, -x / 6, (safe * np.cos(safe) - np.sin(safe)) / safe**2),)


KEPT: dict[tuple[int, ...], np.ndarray] = {}


@stranger(FIRST, "a value kept from the first call of this shape", normal(3, 3))
def swish_stale(x):
    s = KEPT.setdefault(x.shape, 1 / (1 + np.exp(-x)))
    y = x / (1 + np.exp(-x))
    return y, lambda dy: (dy * (s + y * (1 - s)),)


@stranger(FIRST, "1 - x² instead of 1 - y²", normal(4, 3))
def tanh(x):
    return np.tanh(x), lambda dy: (dy * (1 - x * x),)


@stranger(FIRST, "the derivative of the exact GELU for the approximated one", normal(6, 4))
def gelu(x):
    y = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    erf = np.vectorize(math.erf)
    return y, lambda dy: (dy * (0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),)


@stranger(FIRST, "the product rule's second half is missing", normal(3, 7))
def x_exp_x(x):
    return x * np.exp(x), lambda dy: (dy * np.exp(x),)


@stranger(FIRST, "the sign of the denominator's gradient", normal(3, 4), normal(3, 4) + 4)
def quotient(a, b):
    return a / b, lambda dy: (dy / b, dy * a / b**2)


@stranger(FIRST, "the gradient of abs is 1 everywhere", normal(7, 2))
def absolute(x):
    return abs(x), lambda dy: (dy,)


@stranger(FIRST, "not divided by the number of rows", normal(6, 5), np.array([0, 4, 2, 2, 1, 3]))
def cross_entropy(logits, labels):
    p = softmaxed(logits)
    rows = np.arange(len(labels))

    def vjp(dy):
        d = p.copy()
        d[rows, labels] -= 1
        return dy * d, None

    return -np.log(p[rows, labels]).mean(), vjp


@stranger(FIRST, "the same permutation instead of its inverse", normal(3, 3, 3))
def permuted(x):
    return x.transpose(1, 2, 0), lambda dy: (dy.transpose(1, 2, 0),)


@stranger(FIRST, "the causal mask is forgotten in backward", normal(5, 4), normal(5, 4) + 0.5, normal(5, 4) - 0.5)
def causal_attention(q, k, v):
    scores = q @ k.T / 2
    p = softmaxed(np.where(np.tri(5, dtype=bool), scores, -np.inf))

    def vjp(dy):
        w = softmaxed(scores)
        dp = dy @ v.T
        ds = w * (dp - (dp * w).sum(axis=-1, keepdims=True)) / 2
        return ds @ k, ds.T @ q, w.T @ dy

    return p @ v, vjp


@stranger(FIRST, "input and forget gate swapped in backward", normal(4, 3), normal(4, 3) + 0.3, normal(4, 3) - 0.4, normal(4, 3) * 0.7)
def gated_cell(c, i, f, g):
    si, sf, tg = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g)

    def vjp(dy):
        return dy * sf, dy * c * sf * (1 - sf), dy * tg * si * (1 - si), dy * si * (1 - tg**2)

    return sf * c + si * tg, vjp


@stranger(FIRST, "overlapping windows overwrite each other", normal(2, 9))
def average_pool(x):
    starts = range(0, 7, 2)
    y = np.stack([x[:, s : s + 3].mean(axis=1) for s in starts], axis=1)

    def vjp(dy):
        dx = np.zeros_like(x)
        for n, s in enumerate(starts):
            dx[:, s : s + 3] = dy[:, n : n + 1] / 3
        return (dx,)

    return y, vjp


@stranger(FIRST, "n xⁿ instead of n xⁿ⁻¹", abs(normal(3, 5)) + 0.2)
def cube(x):
    return x**3, lambda dy: (dy * 3 * x**3,)


@stranger(FIRST, "the gradient goes to the largest of the whole array, not of each row", normal(4, 6) + np.arange(6))
def row_maxima(x):
    def vjp(dy):
        return (dy.sum() * (x == x.max()),)

    return x.max(axis=1), vjp
