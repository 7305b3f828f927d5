"""Marks the repaired logsumexp."""

import numpy as np

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "You have met this in softmax: what can be subtracted from all x of a row?",
    "log Σ exp(x) = m + log Σ exp(x - m), with m the row's maximum: exact for every m.",
)
THEN = "tinylm/ops/reductions.py: `logsumexp` also survives rows that are -inf throughout."
BUG = Mistake.of(
    "the maximum is not subtracted",
    "    top = xp.max(x, axis=-1, keepdims=True)\n",
    "",
    "exp(x - top)",
    "exp(x)",
    " + top",
    "",
    says="y is inf",
)
MISTAKES = (
    Mistake.of("the scores are cut off", "exp(x - top)", "exp(xp.minimum(x, 80.0))", " + top", ""),
    Mistake.of("subtracted and not added again", " + top", "", says="expected"),
    Mistake.of("the maximum of all rows", "xp.max(x, axis=-1, keepdims=True)", "xp.max(x)"),
)


def mark(work: Work) -> None:
    logsumexp = work.get("logsumexp")
    work.begin("y is finite for large scores, in float32")
    parts = []
    for top in (5.0, 88.0, 100.0, -120.0):
        y = float(logsumexp(np.array([top, top - 1], np.float32)).numpy())
        parts.append(f"{y:.5g} for scores up to {top:g}")
        if not np.isfinite(y):
            raise work.wrong(f"the symptom: {', '.join(parts)}; y is inf or -inf")
    rows = call([[1000.0, 1001.0, 999.0], [-1000.0, -1001.0, -999.0]])
    check_op(
        work, "logsumexp", [call(normal(2, 3)), call(normal(4))], values=[rows], expected=lambda x: ops.logsumexp(x, axis=-1), torch=False
    )
