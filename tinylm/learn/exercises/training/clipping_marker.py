"""Marks clipping."""

import numpy as np

from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "norm = math.sqrt(sum((g * g).sum() for g in grads)): add up all squares of all arrays, then one root.",
    "factor = min(1, max_norm / norm), the same for all arrays. What if all gradients are zero?",
)
THEN = "tinylm/optim/gradient_clipping.py. `optimizer.step(max_norm=1.0)` clips within the update."
MISTAKES = (
    Mistake.of("short gradients are lengthened", "min(1.0, max_norm / norm)", "max_norm / norm", says="made longer"),
    Mistake.of(
        "each array by its own norm",
        "[g * factor for g in grads]",
        "[g * min(1.0, max_norm / math.sqrt((g * g).sum())) for g in grads]",
        says="by its own norm",
    ),
    Mistake.of("a small number added to the norm", "max_norm / norm", "max_norm / (norm + 1e-6)", says="nothing is added"),
    Mistake.of("element by element", "[g * factor for g in grads]", "[g.clip(-max_norm, max_norm) for g in grads]", says="element"),
    Mistake.of(
        "a sum of norms",
        "math.sqrt(sum(float((g * g).sum()) for g in grads))",
        "sum(math.sqrt((g * g).sum()) for g in grads)",
        says="one root of the sum",
    ),
    Mistake.of("zero gradients", " if norm > 0 else 1.0", "", says="ZeroDivisionError"),
    Mistake.of(
        "no root", "math.sqrt(sum(float((g * g).sum()) for g in grads))", "sum(float((g * g).sum()) for g in grads)", says="root is missing"
    ),
)


def mark(work: Work) -> None:
    clip = work.get("clip")
    grads = [3 * normal(2, 3), normal(4, seed=1), np.array(0.3)]
    norm = float(np.sqrt(sum((g * g).sum() for g in grads)))
    cases = [("long gradients become max_norm long", 1.0), ("short gradients stay as they are", 100.0)]
    for step, limit in cases:
        work.begin(step)
        result = clip([g.copy() for g in grads], limit)
        work.expect(isinstance(result, tuple | list) and len(result) == 2, "expected (norm, list of gradients)", "", clip)
        causes = {
            "the norm is one root of the sum of all squares, not a sum of roots": sum(float(np.sqrt((g * g).sum())) for g in grads),
            "the root is missing": norm**2,
        }
        compare(work, "the norm", result[0], norm, causes=causes, where=clip)
        work.expect(len(result[1]) == 3, f"{len(result[1])} gradients are returned: expected 3", "", clip)
        for k, (got, g) in enumerate(zip(result[1], grads, strict=True)):
            own = float(np.sqrt((g * g).sum()))
            wrong = {
                "gradients are made longer: nothing changes if the norm is below max_norm": g * limit / norm,
                "each array is clipped by its own norm: the direction of the whole changes": g * min(1, limit / own),
                "the formula has max_norm/norm: nothing is added to the norm": g * limit / (norm + 1e-6),
                "each element is clipped for itself: the direction changes": np.clip(g, -limit, limit),
            }
            compare(work, f"gradient {k}", got, g * min(1.0, limit / norm), causes=wrong, where=clip)
    work.begin("gradients that are all zero")
    norm, (same,) = clip([np.zeros(3)], 1.0)
    compare(work, "a zero gradient", same, np.zeros(3), where=clip)
