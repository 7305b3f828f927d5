"""Marks the repaired standardisation."""

import numpy as np

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "float32 has about seven digits. How many of them does 300.1² - 300² leave? (90060.01 - 90000)",
    "Two large numbers that are almost equal are subtracted. Subtract the mean before squaring, not after.",
)
THEN = "tinylm/ops/normalization.py; Chan, Golub & LeVeque 1983 compare the ways to compute a variance."
BUG = Mistake.of(
    "the mean of squares less the square of the mean",
    "xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)",
    "xp.mean(x * x, axis=-1, keepdims=True) - mean * mean",
    says="float32",
)
MISTAKES = (
    Mistake.of(
        "negative variances are cut off",
        "xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)",
        "xp.maximum(xp.mean(x * x, axis=-1, keepdims=True) - mean * mean, 0)",
        says="float32",
    ),
    Mistake.of(
        "a larger eps",
        "xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)",
        "xp.mean(x * x, axis=-1, keepdims=True) - mean * mean + 1.0",
        says="float32",
    ),
    Mistake.of("one variance for all rows", "xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)", "xp.mean((x - mean) * (x - mean))"),
    Mistake.of("everything in float64", "    mean = xp.mean", '    x = x.astype("float64")\n    mean = xp.mean', says="float32"),
)


def mark(work: Work) -> None:
    function = work.get("standardize")
    work.begin("float32 gives what float64 gives, for x near 3,000")
    x = 3000 + normal(2, 6)
    double, single = function(x).numpy(), function(x.astype(np.float32)).numpy()
    off = float(np.max(np.abs(np.nan_to_num(single - double, nan=np.inf))))
    text = (
        f"the symptom: the first y is {double[0, 0]:.4f} in float64 and {single[0, 0]:.4f} in float32; the largest difference is {off:.2g}"
    )
    work.expect(off < 0.01, text)
    work.expect(single.dtype == np.float32, "y is float64 where x is float32: twice the memory, and everything after it is float64, too")
    check_op(
        work,
        "standardize",
        [call(normal(4)), call(normal(3, 4), eps=0.1)],
        expected=lambda x, eps=1e-5: ops.layer_norm(x, eps=eps),
        torch=False,
    )
