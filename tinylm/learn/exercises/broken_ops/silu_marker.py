"""Marks the repaired silu."""

import numpy as np

from tinylm.engine.derivatives import hvp
from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "Which of the names in the vjp is an array, even if x is a tensor?",
    "`constant` takes the array out of a tensor: right for masks and indices, wrong for s.",
)
THEN = "tinylm/README.md: how does create_graph work? `constant` is for what has no gradient."
BUG = Mistake.of(
    "σ(x) is computed on the raw array",
    "xp.sigmoid(x)",
    "tinylm.array_module(constant(x)).sigmoid(constant(x))",
    "import tinylm\n",
    "import tinylm\nfrom tinylm.engine.arrays import constant\n",
    says="the symptom",
)
MISTAKES = (
    Mistake.of(
        "x is taken from the raw array",
        "dy * (s + x * s * (1 - s))",
        "dy * (s + constant(x) * s * (1 - s))",
        "import tinylm\n",
        "import tinylm\nfrom tinylm.engine.arrays import constant\n",
        says="the symptom",
    ),
    Mistake.of("a term is lost", "(s + x * s * (1 - s))", "s"),
    Mistake.of(
        "NumPy's own functions",
        "xp.sigmoid(x)",
        "1 / (1 + np.exp(-x))",
        "import tinylm\n",
        "import numpy as np\n\nimport tinylm\n",
        says="xp.exp",
    ),
)


def mark(work: Work) -> None:
    silu = work.get("silu")
    work.begin("the second derivative at x = 1")
    x = Tensor(np.array([1.0]), requires_grad=True)
    silu(x).sum().backward()
    assert x.grad is not None
    second = hvp(lambda x: silu(x).sum(), x.numpy(), np.ones(1)).item()
    h = 1e-4
    slopes = []
    for at in (1 - h, 1 + h):
        t = Tensor(np.array([at]), requires_grad=True)
        silu(t).sum().backward()
        assert t.grad is not None
        slopes.append(t.grad.item())
    measured = (slopes[1] - slopes[0]) / (2 * h)
    text = (
        f"the symptom: the gradient is {x.grad.item():.6f}; it changes by {measured:.6f} per unit of x, "
        f"and the second derivative that is computed is {second:.6f}"
    )
    work.expect(bool(np.isclose(second, measured, rtol=1e-5)), text)
    check_op(work, "silu", [call(normal(2, 3)), call([-3.0, -0.5, 0.7, 4.0])])
