"""Marks layer norm."""

import numpy as np

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "Every mean is xp.mean(..., axis=-1, keepdims=True). Compute centred = x - mean first; the variance is the mean of centred * centred.",
    "Keep xhat and r: the vjp uses both. weight gets the gradient dy * xhat, bias gets dy, each summed to its shape.",
    "dxhat = dy * weight\ndx = r * (dxhat - xp.mean(dxhat, axis=-1, keepdims=True) - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True))",
)
THEN = "tinylm/ops/normalization.py; its C kernel is kernels/cpu/normalization.c."
MISTAKES = (
    Mistake.of("the variance is held constant", " - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True)", "", says="that of the variance"),
    Mistake.of("the mean is held constant", " - xp.mean(dxhat, axis=-1, keepdims=True)", "", says="that of the mean"),
    Mistake.of(
        "mean and variance are held constant",
        "dxhat - xp.mean(dxhat, axis=-1, keepdims=True) - xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True)",
        "dxhat",
        says="those of the mean and the variance",
    ),
    Mistake.of("weight's gradient is not summed", "sum_to(dy * xhat, weight.shape)", "dy * xhat", says="missing un-broadcast"),
    Mistake.of(
        "a division by C - 1",
        "xp.mean(centred * centred, axis=-1, keepdims=True)",
        "xp.sum(centred * centred, axis=-1, keepdims=True) / (x.shape[-1] - 1)",
        says="divided by C - 1",
    ),
    Mistake.of(
        "eps outside the root",
        "1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + eps)",
        "1 / (xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True)) + eps)",
        says="eps is added to the root",
    ),
    Mistake.of("dy where dx̂ belongs", "dxhat = dy * weight", "dxhat = dy", says="dx̂ = dy weight"),
)


def _causes(x, weight, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    var = (centred**2).mean(-1, keepdims=True)

    def y(r):
        return weight * centred * r + bias

    n = x.shape[-1]
    return {
        "the variance is divided by C - 1, not by C": y(1 / np.sqrt(var * n / (n - 1) + eps)),
        "eps is added to the root, not to the variance": y(1 / (np.sqrt(var) + eps)),
        "eps is left out": y(1 / np.sqrt(var)),
        "a division by the variance, without the root": y(1 / (var + eps)),
        "weight and bias are left out": centred / np.sqrt(var + eps),
    }


def _vjp_causes(dy, x, weight, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    xhat, d = centred * r, dy * weight

    def dx(d, mean=1, variance=1):
        return r * (d - mean * d.mean(-1, keepdims=True) - variance * xhat * (d * xhat).mean(-1, keepdims=True))

    phrase = "x acts on y in three ways, and a term is missing: "
    return {
        phrase + "that of the variance, x̂ mean(dx̂ x̂)": (dx(d, variance=0), None, None),
        phrase + "that of the mean, mean(dx̂)": (dx(d, mean=0), None, None),
        "two terms are missing, those of the mean and the variance": (r * d, None, None),
        "dy where dx̂ = dy weight belongs": (dx(dy), None, None),
        "the means run over all elements: one per row, axis=-1, keepdims=True": (
            r * (d - d.mean() - xhat * (d * xhat).mean()),
            None,
            None,
        ),
        "the factor r is missing": (dx(d) / r, None, None),
    }


def mark(work: Work) -> None:
    weight, bias = normal(4, seed=1), normal(4, seed=2)
    calls = [call(normal(3, 4), weight, bias, eps=0.1), call(normal(4), weight, bias)]
    check_op(work, "layer_norm", calls, causes=_causes, vjp_causes=_vjp_causes)
