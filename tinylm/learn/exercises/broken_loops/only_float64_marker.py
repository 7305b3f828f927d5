"""Marks the repaired loss."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.exercises.broken_loops import only_float64
from tinylm.learn.work import Work

HINTS = (
    "np.float32(1) - 1 / (1 + np.exp(np.float32(-20))) is 0. What is its logarithm?",
    "Never take the logarithm of a probability that was rounded: go from the score to the log-probability directly.",
    "label softplus(-z) + (1 - label) softplus(z).",
)
THEN = "tinylm/ops/losses.py: `binary_cross_entropy_with_logits`. cross_entropy takes scores for the same reason."
BUG = Mistake.of(
    "the logarithm of a rounded probability",
    "    return (labels * tinylm.softplus(-scores) + (1 - labels) * tinylm.softplus(scores)).mean()",
    "    p = tinylm.sigmoid(scores)\n    return -(labels * tinylm.log(p) + (1 - labels) * tinylm.log(1 - p)).mean()",
    says="the symptom",
)
MISTAKES = (
    Mistake.of(
        "p is kept away from 0 and 1",
        "    return (labels * tinylm.softplus(-scores) + (1 - labels) * tinylm.softplus(scores)).mean()",
        (
            "    p = tinylm.clip(tinylm.sigmoid(scores), 1e-6, 1 - 1e-6)\n"
            "    return -(labels * tinylm.log(p) + (1 - labels) * tinylm.log(1 - p)).mean()"
        ),
        says="expected 30",
    ),
    Mistake.of(
        "softplus(z) - label z",
        "(labels * tinylm.softplus(-scores) + (1 - labels) * tinylm.softplus(scores)).mean()",
        "(tinylm.softplus(scores) - labels * scores).mean()",
        says="the difference of two large numbers",
    ),
    Mistake.of(
        "the wrong sign",
        "tinylm.softplus(-scores) + (1 - labels) * tinylm.softplus(scores)",
        "tinylm.softplus(scores) + (1 - labels) * tinylm.softplus(-scores)",
    ),
    Mistake.of(
        "softplus written out",
        "(1 - labels) * tinylm.softplus(scores)",
        "(1 - labels) * tinylm.log(1 + tinylm.exp(scores))",
        says="is not finite",
    ),
)


def mark(work: Work) -> None:
    train, loss_of = work.get("train"), work.get("loss_of")
    work.begin("float32 trains as float64 does")
    double, single = train("float64"), train("float32")
    bad = [step for step, loss in enumerate(single) if not np.isfinite(loss)]
    if bad:
        before = f"the loss is {single[bad[0] - 1]:.2e} at step {bad[0] - 1} in both, and " if bad[0] else ""
        text = f"{before}at step {bad[0]} {single[bad[0]]} in float32 and {double[bad[0]]:.2e} in float64"
        raise work.wrong(f"the symptom: {text}")
    work.begin("the loss is exact for large scores")
    for score, label, right in (
        (30.0, 0.0, 30.0),
        (-100.0, 1.0, 100.0),
        (100.0, 0.0, 100.0),
        (0.5, 1.0, np.log1p(np.exp(-0.5))),
        (30.0, 1.0, np.log1p(np.exp(-30))),
    ):
        for dtype in ("float64", "float32"):
            loss = loss_of(Tensor(np.array([score], dtype)), np.array([label], dtype)).item()
            text = f"the loss of the score {score:g} with the label {label:g} in {dtype} is {loss:.6g}: expected {right:.6g}"
            if not np.isfinite(loss):
                raise work.wrong(f"{text}; it is not finite", "", loss_of)
            lost = "the small loss is the difference of two large numbers" if right < 1e-12 and abs(loss) < 1e-5 else ""
            work.expect(abs(loss - right) <= 1e-5 * right, text, lost, loss_of)
    work.begin("the losses of the whole training")
    right_losses = only_float64.train("float64")
    work.expect(
        bool(np.allclose(double, right_losses, rtol=1e-8)),
        f"the loss is {double[-1]:.4g} at the end: expected {right_losses[-1]:.4g}",
        "",
        train,
    )
    work.expect(
        bool(np.allclose(single, right_losses, rtol=2e-3)),
        f"the loss is {single[-1]:.4g} in float32: expected {right_losses[-1]:.4g}",
        "",
        train,
    )
