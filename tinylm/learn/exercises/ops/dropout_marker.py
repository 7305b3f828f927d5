"""Marks dropout."""

import numpy as np

from tinylm.engine.random_keys import random_uint32
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_float32, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "random_uint32(key, x.size) >= p * 2**32 is an array of booleans, one per element: True where it is kept.",
    "mask = kept.reshape(x.shape).astype(x.dtype) / (1 - p). Compute it once; y and the vjp use the same one.",
)
THEN = "tinylm/ops/dropout.py and tinylm/engine/random_keys.py: why a resumed run repeats its masks."
MISTAKES = (
    Mistake.of("the division by 1 - p is forgotten", " / (1 - p)", "", says="a division by 1 - p is missing"),
    Mistake.of("dropped and kept are exchanged", ">= p * 2**32", "< p * 2**32", says="where it should be kept"),
    Mistake.of(
        "a new mask in the vjp",
        "lambda dy: (dy * mask,)",
        "lambda dy: (dy * (random_uint32((key[0], key[1] + 1), x.size) >= p * 2**32).reshape(x.shape) / (1 - p),)",
        says="another mask",
    ),
    Mistake.of("a mask in float64", ".astype(x.dtype)", '.astype("float64")', says="would be float64"),
    Mistake.of("no mask in the vjp", "lambda dy: (dy * mask,)", "lambda dy: (dy / (1 - p),)", says="no mask"),
    Mistake.of(
        "NumPy's own random numbers",
        "random_uint32(key, x.size) >= p * 2**32",
        "np.random.default_rng().random(x.size) >= p",
        "import tinylm\n",
        "import numpy as np\n\nimport tinylm\n",
    ),
)


def _causes(x, p=0.5, key=None):
    kept = (random_uint32(key, x.size) >= p * 2**32).reshape(x.shape)
    return {
        "a division by 1 - p is missing: y is smaller than x on average": x * kept,
        "an element is dropped where it should be kept, and the reverse": x * ~kept / (1 - p),
        "a division by p, not by 1 - p": x * kept / p,
    }


def _vjp_causes(dy, x, p=0.5, key=None):
    words = (random_uint32((key[0], key[1] + n), x.size) >= p * 2**32 for n in range(1, 4))
    return {
        f"another mask than that of y: of the key {key[0], key[1] + n + 1}": (dy * w.reshape(x.shape) / (1 - p),)
        for n, w in enumerate(words)
    } | {
        "no mask: what was dropped gets no gradient": (dy / (1 - p),),
        "no mask: dx = dy m": (dy,),
    }


def mark(work: Work) -> None:
    calls = [call(normal(2, 6), p=0.5, key=(3, 4)), call(np.abs(normal(9)) + 0.5, p=0.2, key=(1, 0))]
    check_op(work, "dropout", calls, causes=_causes, vjp_causes=_vjp_causes)
    check_float32(work, "dropout", call(normal(9), p=0.2, key=(1, 0)))
