"""Marks the repaired linear layer."""

import re

from tinylm.engine.tensor import Tensor
from tinylm.errors import TinylmError
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = ("Along which axes of y was bias repeated? For (N, T, M) there are two.", "drows has all positions as rows: (N T, M).")
THEN = "tinylm/ops/linear.py. tests/ops tries every op on one, two and three axes, and on none."
BUG = Mistake.of("a sum over the first axis alone", "xp.sum(drows, axis=0)", "xp.sum(dy, axis=0)", says="backward fails")
MISTAKES = (
    Mistake.of("the first sequence alone", "xp.sum(drows, axis=0)", "xp.sum(xp.reshape(dy, (-1, *dy.shape[-2:])), axis=1)[0]"),
    Mistake.of("a mean", "xp.sum(drows, axis=0)", "xp.mean(drows, axis=0)", says="a mean where a sum belongs"),
    Mistake.of("every axis", "xp.sum(drows, axis=0)", "xp.sum(drows) * xp.ones_like(bias)", says="reduced"),
)


def mark(work: Work) -> None:
    linear = work.get("linear")
    weight, bias = normal(2, 4), normal(2)
    work.begin("backward runs for x (N, T, C)")
    y = linear(normal(3, 5, 4), weight, Tensor(bias, requires_grad=True))
    try:
        y.backward(normal(3, 5, 2))
    except TinylmError as error:
        text = re.sub(r" [(].*?:\d+[)]", "", str(error))  # without the line of this call
        raise work.wrong(f"the symptom: with x (3, 5, 4) backward fails: {text}") from error
    check_op(work, "linear", [call(normal(3, 4), weight, bias), call(normal(2, 3, 4), weight, bias)])
