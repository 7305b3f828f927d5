"""Marks the repaired relu."""

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "The sum hands one array, dy, to both of its arguments. Who else looks at this array after relu's vjp?",
    "dy *= ... writes into the array that it was given. dy * ... makes a new one.",
)
THEN = "tinylm/README.md, how to add an op: a body changes nothing that it was given. gradcheck watches for it."
BUG = Mistake.of(
    "the cotangent is changed in place", "        return (dy * (x > 0),)", "        dy *= x > 0\n        return (dy,)", says="the symptom"
)
MISTAKES = (
    Mistake.of("the wrong side", "(x > 0)", "(x < 0)"),
    Mistake.of("the input is changed in place", "xp.maximum(x, 0), vjp", "xp.maximum(x, 0, out=x), vjp"),
    Mistake.of("everything passes", "dy * (x > 0)", "dy"),
)


def mark(work: Work) -> None:
    relu = work.get("relu")
    work.begin("the gradient of x + relu(x)")
    found = []
    for residual in (False, True):
        x = Tensor([-1.0, 2.0], requires_grad=True)
        h = x * 1.0
        y = h + relu(h) if residual else relu(h)
        y.backward([1.0, 1.0])
        assert x.grad is not None
        found.append(x.grad.tolist())
    text = (
        f"the symptom: at x = -1 and 2 the gradient of relu(x) is {found[0]}, which is right, "
        f"and that of x + relu(x) is {found[1]}, not [1.0, 2.0]"
    )
    work.expect(found[0] != [0.0, 1.0] or found[1] == [1.0, 2.0], text)
    check_op(work, "relu", [call(normal(2, 3)), call([-2.0, -0.1, 0.1, 3.0])])
