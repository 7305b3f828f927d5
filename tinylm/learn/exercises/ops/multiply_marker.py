"""Marks the product."""

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "y = a * b. Hold b fixed: if a grows by 1, y grows by b. So ∂y/∂a = b, and by symmetry ∂y/∂b = a.",
    "da = dy * b. The vjp is a function inside the function, so it can use a and b:\n    def vjp(dy):\n        return ..., ...",
    "The last line is `return y, vjp`: the function itself, without brackets behind it.",
)
THEN = "tinylm/ops/pointwise.py has it as `multiply`. What @tinylm.op adds (the tape) is in tinylm/engine/op.py."
MISTAKES = (
    Mistake.of("dy is handed on as it is", "return dy * b, dy * a", "return dy, dy", says="which are not 1"),
    Mistake.of("the gradients in the wrong order", "return dy * b, dy * a", "return dy * a, dy * b", says="swapped arguments"),
    Mistake.of("the cotangent is forgotten", "return dy * b, dy * a", "return b, a", says="dy is not used"),
    Mistake.of("a sum instead of a product", "y = a * b", "y = a + b", says="expected"),
    Mistake.of("the vjp is called and not returned", "return y, vjp", "return y, vjp(y)", says="return y, vjp"),
    Mistake.of("one gradient only", "return dy * b, dy * a", "return dy * b", says="expected a tuple with 2 gradients"),
)


def _vjp_causes(dy, a, b):
    return {"dy must be multiplied by ∂y/∂a and ∂y/∂b, which are not 1": (dy, dy)}


def mark(work: Work) -> None:
    check_op(work, "multiply", [call(normal(3), normal(3, seed=1)), call(normal(2, 3), normal(2, 3, seed=1))], vjp_causes=_vjp_causes)
