"""Marks the repaired embedding."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "Print onehot for ids = [0, 0, 1]. How many ones should each row have, and how many each column?",
    "dweight[v] must be the sum over all positions of v: a row of onehotᵀ has a one for each of them.",
    "Whatever keeps only the last (or first) occurrence must go: np.unique, an assignment to dweight[ids], and the like.",
)
THEN = "tinylm/ops/indexing.py and `scatter_add`: the same without a large matrix, in a fixed order."
BUG = Mistake.of(
    "the last occurrence alone",
    "        onehot[np.arange(ids.size), ids.ravel()] = 1\n",
    "        last = {v: n for n, v in enumerate(ids.ravel().tolist())}\n        onehot[[*last.values()], [*last]] = 1\n",
    says="occurs 5 times",
)
MISTAKES = (
    Mistake.of(
        "the mean of the occurrences",
        "xp.matmul(onehot.T,",
        "xp.matmul(onehot.T / np.maximum(onehot.sum(0), 1)[:, None],",
        says="occurs 5 times",
    ),
    Mistake.of(
        "positions and tokens exchanged",
        "onehot[np.arange(ids.size), ids.ravel()] = 1",
        "onehot[np.minimum(ids.ravel(), ids.size - 1), np.arange(ids.size) % len(weight)] = 1",
    ),
)


def mark(work: Work) -> None:
    work.begin("frequent tokens get the gradients of all their occurrences")
    weight = Tensor(normal(3, 2), requires_grad=True)
    ids = np.array([0, 0, 1, 0, 0, 0])
    work.get("embedding")(ids, weight).sum().backward()
    assert weight.grad is not None
    often, once = float(weight.grad[0, 0]), float(weight.grad[1, 0])
    text = (
        f"the symptom: in the loss Σ y token 0 occurs 5 times and its gradient is {often:g}; token 1 occurs once, "
        f"and its gradient is {once:g}"
    )
    work.expect(not np.isclose(often, once), text)
    check_op(work, "embedding", [call(np.array([2, 0, 2]), normal(4, 3)), call(np.array([[1, 1], [1, 3]]), normal(4, 2))])
