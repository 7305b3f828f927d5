"""Twenty-five more wrong gradients, of other ops and with other mistakes than those in strangers.py.

They were written before the causes were improved and checked only afterwards, so that they measure how the checker
explains what nobody fitted it to.
"""

import numpy as np
from strangers import Stranger, normal, softmaxed, stranger

SECOND: dict[str, Stranger] = {}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@stranger(SECOND, "sigmoid(-x) instead of sigmoid(x)", normal(4, 4))
def softplus(x):
    return np.log1p(np.exp(x)), lambda dy: (dy * sigmoid(-x),)


@stranger(SECOND, "the gate's gradient lacks the term with x", normal(3, 5), normal(3, 5) + 0.2)
def swish_gated(gate, up):
    s = sigmoid(gate)
    return gate * s * up, lambda dy: (dy * up * s, dy * gate * s)


@stranger(SECOND, "n - 1 in the backward pass, n in the forward pass", normal(8, 3))
def batch_norm(x):
    centred = x - x.mean(axis=0)
    rstd = 1 / np.sqrt(x.var(axis=0) + 1e-5)
    xhat = centred * rstd

    def vjp(dy):
        return (rstd * (dy - dy.mean(axis=0) - xhat * (dy * xhat).sum(axis=0) / (len(x) - 1)),)

    return xhat, vjp


@stranger(SECOND, "beyond delta the slope has lost the sign of x", 2 * normal(5, 4))
def huber(x):
    small = abs(x) < 1
    return np.where(small, x * x / 2, abs(x) - 0.5), lambda dy: (dy * np.where(small, x, 1.0),)


@stranger(SECOND, "d(p log p) = log p + 1 lacks the 1", softmaxed(normal(3, 6)))
def entropy(p):
    return -(p * np.log(p)).sum(axis=-1), lambda dy: (-dy[:, None] * np.log(p),)


@stranger(SECOND, "the norm of b is held constant", normal(6), normal(6) + 0.5)
def cosine_similarity(a, b):
    na, nb = np.sqrt(a @ a), np.sqrt(b @ b)
    y = a @ b / (na * nb)
    return y, lambda dy: (dy * (b / (na * nb) - y * a / na**2), dy * a / (na * nb))


@stranger(SECOND, "the outer product has its factors swapped", normal(4), normal(4, 4), normal(4) + 1)
def bilinear(x, weight, y):
    return x @ weight @ y, lambda dy: (dy * weight @ y, dy * np.outer(y, x), dy * x @ weight)


@stranger(SECOND, "the backward pass rotates forwards once more", normal(5, 4))
def rotary(x):
    angles = np.arange(5)[:, None] * np.array([1.0, 0.3])
    c, s = np.cos(angles), np.sin(angles)

    def rotated(z):
        a, b = z[:, :2], z[:, 2:]
        return np.concatenate([a * c - b * s, a * s + b * c], axis=1)

    return rotated(x), lambda dy: (rotated(dy),)


@stranger(SECOND, "put_along_axis overwrites what occurs twice", normal(4, 5), np.array([[1, 1, 4], [0, 2, 0], [3, 3, 3], [0, 1, 2]]))
def taken(x, index):
    def vjp(dy):
        dx = np.zeros_like(x)
        np.put_along_axis(dx, index, dy, axis=1)
        return dx, None

    return np.take_along_axis(x, index, axis=1), vjp


@stranger(SECOND, "divides by all elements, not by those that count", normal(3, 7), np.arange(21).reshape(3, 7) % 4 != 0)
def masked_mean(x, mask):
    return (x * mask).sum(axis=1) / mask.sum(axis=1), lambda dy: (dy[:, None] * mask / x.shape[1], None)


@stranger(SECOND, "the division by x is missing", abs(normal(3, 4)) + 0.5)
def cumulative_product(x):
    y = np.cumprod(x, axis=1)
    return y, lambda dy: (np.cumsum((dy * y)[:, ::-1], axis=1)[:, ::-1],)


@stranger(SECOND, "the candidate's tanh' is missing", normal(3, 4), normal(3, 4) + 0.1, normal(3, 4) - 0.3)
def gru_update(h, z, n):
    s, t = sigmoid(z), np.tanh(n)
    return (1 - s) * t + s * h, lambda dy: (dy * s, dy * (h - t) * s * (1 - s), dy * (1 - s))


@stranger(SECOND, "the kernel is not flipped", normal(8), normal(3))
def valid_convolution(x, taps):
    y = np.correlate(x, taps, "valid")
    return y, lambda dy: (np.correlate(np.pad(dy, 2), taps, "valid"), np.correlate(x, dy, "valid"))


@stranger(SECOND, "the last, shorter window is divided by the full width", normal(2, 8))
def pooled(x):
    starts = (0, 3, 6)
    y = np.stack([x[:, s : s + 3].mean(axis=1) for s in starts], axis=1)
    return y, lambda dy: (np.repeat(dy, 3, axis=1)[:, :8] / 3,)


@stranger(SECOND, "only the first copy's gradient is used", normal(2, 5))
def upsampled(x):
    return np.repeat(x, 2, axis=1), lambda dy: (dy[:, ::2],)


@stranger(SECOND, "the penalty's gradient lacks its factor 2", normal(5, 3), normal(3), normal(5))
def ridge(x, w, t):
    off = x @ w - t

    def vjp(dy):
        return dy * 2 * np.outer(off, w), dy * (2 * off @ x + 0.3 * w), -2 * dy * off

    return off @ off + 0.3 * (w @ w), vjp


@stranger(SECOND, "the keys' gradient lacks 1/√d", normal(4, 6), normal(4, 6) + 0.1)
def attention_weights(q, k):
    p = softmaxed(q @ k.T / np.sqrt(6))

    def vjp(dy):
        ds = p * (dy - (dy * p).sum(axis=-1, keepdims=True))
        return ds @ k / np.sqrt(6), ds.T @ q

    return p, vjp


@stranger(SECOND, "rows are returned in sorted order, not put back", normal(6, 3))
def sorted_rows(x):
    order = np.argsort(x[:, 0])
    return x[order], lambda dy: (dy[order],)


@stranger(SECOND, "the gradient goes to the first of each window, not to the largest", normal(3, 8))
def max_pooled(x):
    def vjp(dy):
        dx = np.zeros_like(x)
        dx[:, ::2] = dy
        return (dx,)

    return np.maximum(x[:, ::2], x[:, 1::2]), vjp


@stranger(SECOND, "dropout's mask is forgotten for the scores", normal(4, 3), normal(4, 3) + 0.2, normal(4, 3) - 0.1)
def attention_dropout(q, k, v):
    p = softmaxed(q @ k.T)
    mask = (np.random.default_rng(4).random(p.shape) > 0.3) / 0.7

    def vjp(dy):
        dp = dy @ v.T
        ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
        return ds @ k, ds.T @ q, (p * mask).T @ dy

    return (p * mask) @ v, vjp


@stranger(SECOND, "passes a gradient where the value was clipped", np.linspace(0.03, 0.97, 8))
def clipped_logit(x):
    c = np.clip(x, 0.1, 0.9)
    return np.log(c / (1 - c)), lambda dy: (dy / (x * (1 - x)),)


@stranger(SECOND, "b gets the gradient of a", normal(5) + 2, normal(5) + 3)
def hypotenuse(a, b):
    y = np.sqrt(a * a + b * b)
    return y, lambda dy: (dy * a / y, dy * a / y)


@stranger(SECOND, "1 / 2x instead of 1 / 2√x", abs(normal(3, 4)) + 0.3)
def square_root(x):
    return np.sqrt(x), lambda dy: (dy / (2 * x),)


@stranger(SECOND, "the weight of positive labels is forgotten", normal(8), np.array([0, 1, 1, 0, 0, 1, 0, 1]))
def weighted_loss(z, labels):
    s = sigmoid(z)
    return -(3 * labels * np.log(s) + (1 - labels) * np.log(1 - s)), lambda dy: (dy * (s - labels), None)


MEAN: list[np.ndarray] = []


@stranger(SECOND, "the scale of the first call is kept", normal(4, 3))
def scaled_by_largest(x):
    MEAN.append(1 / (1 + (x * x).sum()))
    return x * (x * x).sum(), lambda dy: (dy * (1 / MEAN[0] - 1) + 2 * x * (dy * x).sum(),)
