"""Marks sum_to."""

import numpy as np

from tinylm.engine import arrays
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "How many axes are new? x.ndim - len(shape), and they are the first ones of x.",
    "Axis i of `shape` is axis i + front of x, with front = x.ndim - len(shape). It was repeated if shape[i] == 1.",
    "axes = [*range(front), *(front + i for i, n in enumerate(shape) if n == 1)], then x.sum(tuple(axes), keepdims=True).reshape(shape).",
)
THEN = "tinylm/engine/arrays.py has it as `sum_to`: ten lines, for tensors as well."
MISTAKES = (
    Mistake.of(
        "only the axes in front",
        "[*range(front), *(front + i for i, n in enumerate(shape) if n == 1 and x.shape[front + i] != 1)]",
        "list(range(front))",
        says="those of length 1",
    ),
    Mistake.of("axes counted from the wrong end", "(front + i for i, n", "(i for i, n", says="axis i + front"),
    Mistake.of("a list of axes", "axis=tuple(axes)", "axis=axes", says="axis=tuple(axes)"),
    Mistake.of(
        "axes told by their lengths",
        "[*range(front), *(front + i for i, n in enumerate(shape) if n == 1 and x.shape[front + i] != 1)]",
        "[i for i, n in enumerate(x.shape) if n not in shape]",
        says="cannot reshape",
    ),
    Mistake.of("a mean", "x.sum(axis", "x.mean(axis", says="mean"),
    Mistake.of(
        "the first of the repetitions",
        "x.sum(axis=tuple(axes), keepdims=True).reshape(shape)",
        "x[tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim))].reshape(shape)",
        says="the first of the repetitions",
    ),
)

SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 3), (1, 1)),
    ((4, 2, 3), (1, 3)),
    ((4, 2, 3), (2, 1)),
    ((4, 3), ()),
    ((3, 3), (3,)),
    ((2, 2, 2), (2, 1)),
]


def mark(work: Work) -> None:
    sum_to = work.get("sum_to")
    for large, small in SHAPES:
        work.begin(f"from {large} to {small}")
        x = normal(*large)
        right = arrays.sum_to(x, small)
        front = len(large) - len(small)
        axes = [axis for axis, n in enumerate(large) if axis < front or small[axis - front] != n]
        cause = f"from {large} to {small} the axes {axes} are summed: the new ones in front, and those of length 1 that were repeated"
        work.slips["cannot reshape"] = cause
        first = np.broadcast_to(x[tuple(slice(0, 1) for _ in large)], large)
        causes = {"this is the mean; copies of one element add up": right * right.size / x.size, "only one": first}
        if small:
            head = x[(0,) * (x.ndim - len(small))]
            causes["the first of the repetitions alone, and not their sum"] = head[tuple(slice(0, n) for n in small)]
        compare(work, f"sum_to(x {large}, {small})", sum_to(x.copy(), small), right, causes=causes, where=sum_to)
