"""Marks the repaired tanh."""

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "The derivative of tanh is between 0 and 1 everywhere. Which of the names in the vjp is never larger than 1?",
    "It is 1 - tanh(x)², not 1 - x².",
)
THEN = "tinylm/ops/elementary.py: ops whose derivative is best written with y keep y, and not x."
BUG = Mistake.of("x where y belongs", "(1 - y * y)", "(1 - x * x)", says="the gradient is -24")
MISTAKES = (
    Mistake.of("the root of it", "(1 - y * y)", "(1 - y * y) ** 0.5"),
    Mistake.of("held within bounds", "(1 - y * y)", "xp.maximum(1 - x * x, 0)"),
    Mistake.of("not squared", "(1 - y * y)", "(1 - y)"),
)


def mark(work: Work) -> None:
    work.begin("the gradient stays within 0 and 1")
    x = Tensor([0.1, 5.0], requires_grad=True)
    work.get("tanh")(x).sum().backward()
    assert x.grad is not None
    small, large = (float(g) for g in x.grad)
    work.expect(
        0 <= large <= 1, f"the symptom: at x = 0.1 the gradient is {small:.2g}, at x = 5, where tanh is flat, the gradient is {large:.4g}"
    )
    check_op(work, "tanh", [call(normal(2, 3)), call([-3.0, -0.2, 0.4, 4.0])])
