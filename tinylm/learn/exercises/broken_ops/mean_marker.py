"""Marks the repaired mean."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = ("If one of n elements grows by 1, by how much does their mean grow?", "The value divides by x.size. Does the vjp?")
THEN = "tinylm/ops/reductions.py: `mean`. A factor like this is what gradcheck names first: try it on the broken one."
BUG = Mistake.of("the division is missing", "xp.ones_like(x) * dy / x.size", "xp.ones_like(x) * dy", says="twice as long")
MISTAKES = (
    Mistake.of("divided by the number of rows", "* dy / x.size", "* dy / len(x)", says="a division by it is missing"),
    Mistake.of("divided twice", "* dy / x.size", "* dy / x.size**2"),
    Mistake.of("the value is changed instead", "* dy / x.size", "* dy", "xp.sum(x) / x.size", "xp.sum(x)"),
)


def mark(work: Work) -> None:
    mean = work.get("mean")
    work.begin("the gradient does not grow with the batch")
    totals = []
    for rows in (8, 16):
        x = Tensor(normal(rows, 4), requires_grad=True)
        mean(x).backward()
        assert x.grad is not None
        totals.append(float(x.grad.sum()))
    text = f"the symptom: the sum of the gradient is {totals[0]:g} for 8 rows and {totals[1]:g} for 16: twice as long"
    work.expect(not np.isclose(totals[1], 2 * totals[0]), text)
    check_op(work, "mean", [call(normal(3)), call(normal(3, 4))])
