"""Marks softmax."""

import numpy as np

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "dx_j = dy_j y_j - y_j Σ_i dy_i y_i: the first term is from i = j, the second from all i, i = j included.",
    "Factor out y_j: dx = y (dy - s), where s = Σ_i dy_i y_i is one number per row.",
    "s = xp.sum(dy * y, axis=-1, keepdims=True). Without keepdims, s would not line up with the rows.",
)
THEN = "tinylm/ops/softmax.py. tinylm/ops/README.md derives this vjp, and kernels/README.md makes it fast."
MISTAKES = (
    Mistake.of(
        "the diagonal of the Jacobian alone", "y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))", "y * (1 - y) * dy", says="diagonal"
    ),
    Mistake.of("the sum is left out", "dy - xp.sum(dy * y, axis=-1, keepdims=True)", "dy", says="the sum over i is missing"),
    Mistake.of("one sum of all elements", "xp.sum(e, axis=-1, keepdims=True)", "xp.sum(e)", says="the sum runs over all elements"),
    Mistake.of("one maximum of all elements", "xp.max(x, axis=-1, keepdims=True)", "xp.max(x)", says="the maximum is that of all elements"),
    Mistake.of("no maximum subtracted", "x - xp.max(x, axis=-1, keepdims=True)", "x", says="exponential that overflows"),
    Mistake.of("the sum of dy, not of dy y", "xp.sum(dy * y,", "xp.sum(dy,", says="Σ dy instead of Σ dy y"),
    Mistake.of(
        "along the wrong axis", "xp.sum(e, axis=-1, keepdims=True)", "xp.sum(e, axis=0, keepdims=True)", says="along the first axis"
    ),
)


def _causes(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    whole = np.exp(x - x.max())
    return {
        "the sum runs along the first axis": e / e.sum(axis=0, keepdims=True),
        "the sum runs over all elements: one per row, axis=-1, keepdims=True": e / e.sum(),
        "sum and maximum run over all elements: one per row, axis=-1, keepdims=True": whole / whole.sum(),
        "the maximum is that of all elements: one per row, axis=-1, keepdims=True": whole / whole.sum(axis=-1, keepdims=True),
    }


def _vjp_causes(dy, x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return {
        "only the diagonal of the Jacobian is used, i = j: y_i depends on the other x_j of its row, too": (dy * y * (1 - y),),
        "the sum over i is missing: y_i depends on the other x_j of its row, too": (dy * y,),
        "Σ dy instead of Σ dy y": (y * (dy - dy.sum(axis=-1, keepdims=True)),),
        "the sum runs along the first axis": (y * (dy - (dy * y).sum(axis=0, keepdims=True)),),
        "the sum runs over all elements: one per row, axis=-1, keepdims=True": (y * (dy - (dy * y).sum()),),
        "the factor y is missing": (dy - (dy * y).sum(axis=-1, keepdims=True),),
    }


def mark(work: Work) -> None:
    large = call([[1000.0, 1001.0, 998.0], [-1000.0, 0.0, 1.0]])
    check_op(
        work,
        "softmax",
        [call(normal(2, 3)), call(normal(4)), call(normal(2, 2, 3))],
        values=[large],
        causes=_causes,
        vjp_causes=_vjp_causes,
    )
