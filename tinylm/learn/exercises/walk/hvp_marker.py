"""Marks the Hessian-vector product."""

from tinylm import ops
from tinylm.engine.derivatives import hvp as right_hvp
from tinylm.learn.comparing import as_array, compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "First g = ∂L/∂x, with create_graph=True: without it g is a plain result, with no record of how it depends on x.",
    "Then the scalar s = (g * v).sum(), and tinylm.grad(s, x) is H v.",
)
THEN = "tinylm/engine/derivatives.py has `hvp` and `jacobian`. tinylm/README.md: how create_graph works."
MISTAKES = (
    Mistake.of("the graph of the gradient is not kept", "f(x), x, create_graph=True", "f(x), x", says="create_graph"),
    Mistake.of("v is forgotten", "(g * v).sum()", "g.sum()", says="v is not used"),
    Mistake.of("the gradient itself", "return tinylm.grad((g * v).sum(), x)", "return g * v", says="only one derivative"),
)


def mark(work: Work) -> None:
    hvp = work.get("hvp")
    weights = normal(3, 4)

    def loss(x):
        return (ops.tanh(weights @ x) ** 2).sum()

    work.begin("H v of Σ x³, whose Hessian is diagonal: 6 x v")
    x, v = normal(4), normal(4, seed=1)
    causes = {"v is not used: this is the sum of the rows of H": 6 * x, "this has only one derivative": 3 * x * x * v}
    try:
        got = hvp(lambda x: (x**3).sum(), x, v)
    except Exception as error:
        if "does not depend on anything that requires a gradient" in str(error):
            raise work.wrong("the gradient does not depend on x any more", "create_graph=True is missing in the first grad", hvp) from error
        raise
    compare(work, "H v", got, 6 * x * v, causes=causes, where=hvp)
    work.begin("H v of Σ tanh(W x)², against tinylm.hvp")
    compare(work, "H v", hvp(loss, x, v), right_hvp(loss, x, v), where=hvp)
    work.begin("H v is linear in v")
    compare(
        work,
        "H (v + 2 x) - H v",
        as_array(hvp(loss, x, v + 2 * x)) - as_array(hvp(loss, x, v)),
        2 * as_array(hvp(loss, x, x)),
        where=hvp,
    )
