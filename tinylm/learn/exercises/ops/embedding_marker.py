"""Marks embedding."""

import numpy as np

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "The value is weight[ids]. ids come first among the arguments, and are integers: the vjp's tuple begins with None.",
    "dweight has weight's shape. scatter_add takes dy as the values, and ids as the key.",
)
THEN = "tinylm/ops/indexing.py: `embedding`, `getitem` and their adjoint `scatter_add`."
MISTAKES = (
    Mistake.of(
        "repeated tokens overwrite each other",
        "lambda dy: (None, xp.scatter_add(dy, ids, weight.shape))",
        "_vjp(ids, weight)",
        "@tinylm.op",
        "def _vjp(ids, weight):\n    def vjp(dy):\n        dweight = np.zeros(weight.shape)\n"
        "        dweight[ids] = dy\n        return None, dweight\n\n    return vjp\n\n\n@tinylm.op",
        "import tinylm\n",
        "import numpy as np\n\nimport tinylm\n",
        says="only its last contribution",
    ),
    Mistake.of(
        "the gradients in the wrong order",
        "(None, xp.scatter_add(dy, ids, weight.shape))",
        "(xp.scatter_add(dy, ids, weight.shape), None)",
        says="integers have no gradient",
    ),
    Mistake.of("the cotangent itself", "xp.scatter_add(dy, ids, weight.shape)", "dy", says="has shape"),
    Mistake.of(
        "repeated tokens are averaged",
        "xp.scatter_add(dy, ids, weight.shape)",
        "xp.scatter_add(dy, ids, weight.shape) / np.maximum(np.bincount(ids.ravel(), minlength=len(weight)), 1)[:, None]",
        "import tinylm\n",
        "import numpy as np\n\nimport tinylm\n",
        says="averaged",
    ),
)


def _vjp_causes(dy, ids, weight):
    last, total = np.zeros(weight.shape), np.zeros(weight.shape)
    last[ids] = dy
    np.add.at(total, ids, dy)
    return {
        "a token that occurs several times gets only its last contribution: they add up": (None, last),
        "the contributions of one token are averaged: they add up": (
            None,
            total / np.maximum(np.bincount(ids.ravel(), minlength=len(weight)), 1)[:, None],
        ),
    }


def mark(work: Work) -> None:
    calls = [call(np.array([2, 0, 2]), normal(4, 3)), call(np.array([[1, 1], [1, 3]]), normal(4, 2))]
    check_op(work, "embedding", calls, vjp_causes=_vjp_causes)
