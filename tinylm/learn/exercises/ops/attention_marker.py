"""Marks attention."""

import numpy as np

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "y = weights v is a matmul: dv = weightsᵀ dy and dweights = dy vᵀ. Then (dscores,) = softmax_vjp(dweights).",
    (
        "scores = q kᵀ scale: dq = dscores k scale, and dk = dscoresᵀ q scale. "
        "Positions with weight 0 need no mask here: the softmax's vjp gives 0."
    ),
    "All transpositions are xp.swapaxes(..., -1, -2). The order of the tuple is dq, dk, dv.",
)
THEN = "tinylm/ops/attention.py. tinylm/README.md says why the kernel keeps no weights for the backward pass."
MISTAKES = (
    Mistake.of(
        "the scale is forgotten",
        "xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale",
        "xp.matmul(q, xp.swapaxes(k, -1, -2))",
        says="1/√D is missing",
    ),
    Mistake.of(
        "the mask after the softmax",
        "        scores = xp.where(np.tri(q.shape[-2], dtype=bool), scores, -math.inf)\n    weights",
        "        pass\n    weights",
        "    def vjp(dy):",
        "    if causal:\n        weights = weights * np.tri(q.shape[-2])\n\n    def vjp(dy):",
        says="after the softmax",
    ),
    Mistake.of(
        "later positions are seen, earlier ones not",
        "np.tri(q.shape[-2], dtype=bool)",
        "np.tri(q.shape[-2], dtype=bool).T",
        says="later positions",
    ),
    Mistake.of("hidden scores are 0", "scores, -math.inf)", "scores, 0)", says="-inf belongs there"),
    Mistake.of("seen scores are hidden", "scores, -math.inf)", "-math.inf, scores)", says="the two cases of xp.where are swapped"),
    Mistake.of("a forgotten comma", "(dscores,) = softmax_vjp", "dscores = softmax_vjp", says="`dscores` is a tuple of one array"),
    Mistake.of("all axes reversed", "xp.swapaxes(k, -1, -2)) * scale", "k.T) * scale", says="k.T reverses every axis"),
    Mistake.of(
        "the softmax is skipped going back",
        "(dscores,) = softmax_vjp(xp.matmul(dy, xp.swapaxes(v, -1, -2)))",
        "dscores = xp.matmul(dy, xp.swapaxes(v, -1, -2))",
        says="the softmax",
    ),
    Mistake.of("dk without its transposition", "xp.matmul(xp.swapaxes(dscores, -1, -2), q) * scale", "xp.matmul(dscores, q) * scale"),
    Mistake.of("the scale is forgotten going back", "dq = xp.matmul(dscores, k) * scale", "dq = xp.matmul(dscores, k)", says="a factor of"),
)


def _causes(q, k, v, causal=False):
    scores = q @ np.swapaxes(k, -1, -2)
    scale = q.shape[-1] ** -0.5
    seen = np.tri(*scores.shape[-2:]) == 1

    def y(scores, mask):
        return ops.softmax(np.where(mask, scores, -np.inf)).numpy() @ v

    found = {"the scale 1/√D is missing": y(scores, seen if causal else True)}
    if causal:
        found["the mask is applied after the softmax: the weights of a row no longer add up to 1"] = (
            ops.softmax(scores * scale).numpy() * seen
        ) @ v
        found["the mask is the wrong way round: later positions are seen, earlier ones are not"] = y(scores * scale, seen.T)
        found["no mask: every position sees the later ones"] = y(scores * scale, True)
        found["a score of 0 is not hidden, its weight is exp(0) = 1: -inf belongs there"] = y(np.where(seen, scores * scale, 0), True)
        found["the two cases of xp.where are swapped: where a position is seen, its score stays"] = y(scores * scale, ~seen)
        found["a position does not see itself"] = y(scores * scale, np.tri(scores.shape[-2], scores.shape[-1], -1) == 1)
    return found


def _vjp_causes(dy, q, k, v, causal=False):
    scale = q.shape[-1] ** -0.5
    dscores = dy @ np.swapaxes(v, -1, -2)
    return {"the vjp of the softmax is skipped: dweights is not dscores": (dscores @ k * scale, None, None)}


def mark(work: Work) -> None:
    calls = [
        call(normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)),
        call(normal(2, 4), normal(3, 4), normal(3, 2)),
        call(normal(2, 3, 2), normal(2, 3, 2, seed=1), normal(2, 3, 2, seed=2), causal=True),
    ]
    check_op(work, "scaled_dot_product_attention", calls, causes=_causes, vjp_causes=_vjp_causes)
