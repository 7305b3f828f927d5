"""Marks backward over a tape of the learner's."""

from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "Begin with y.grad = np.ones_like(y.data) and pending = {y.age: y}. Then loop while pending is not empty.",
    "node = pending.pop(max(pending)) is the youngest. A leaf has no vjp: nothing more is to be done with it.",
    (
        "for parent, g in zip(node.parents, node.vjp(node.grad)): add g to parent.grad (or set it, "
        "if it is None), then pending[parent.age] = parent."
    ),
)
THEN = "tinylm/engine/autograd.py: `walk` is this loop with a heap, and frees each node that it has passed."
MISTAKES = (
    Mistake.of("a second gradient replaces the first", "g if parent.grad is None else parent.grad + g", "g", says="replaces"),
    Mistake.of("the oldest first", "max(pending)", "min(pending)", says="before its gradient was complete"),
    Mistake.of(
        "no gradient of y itself", "    y.grad = np.ones_like(y.data)\n", "    y.grad = np.zeros_like(y.data)\n", says="y.grad must be 1"
    ),
    Mistake.of(
        "recursion",
        (
            "    pending = {y.age: y}\n    while pending:\n        node = pending.pop(max(pending))\n"
            "        if node.vjp is None:\n            continue\n"
        ),
        (
            "    pending = {}\n\n    def visit(node):\n        for p in node.parents:\n"
            "            pending[p.age] = p\n            visit(p)\n\n    visit(y)\n"
            "    order = sorted([*pending.values(), y], key=lambda v: -v.age)\n    for node in order:\n"
            "        if node.vjp is None:\n            continue\n"
        ),
        says="calls itself",
    ),
    Mistake.of(
        "only the first parent is followed",
        "            pending[parent.age] = parent",
        "            if parent is node.parents[0]:\n                pending[parent.age] = parent",
        says="was left out",
    ),
    Mistake.of(
        "in the order in which they were found",
        "pending.pop(max(pending))",
        "pending.pop(next(iter(pending)))",
        "            pending[parent.age] = parent",
        "            if parent.age not in found:\n                pending[parent.age] = parent\n                found.add(parent.age)",
        "    pending = {y.age: y}\n",
        "    pending, found = {y.age: y}, {y.age}\n",
        says="before its gradient was complete",
    ),
    Mistake.of("the sum in place", "parent.grad + g", "parent.grad.__iadd__(g)", says="in place"),
)


def mark(work: Work) -> None:
    value, backward = work.get("Value"), work.get("backward")
    add, multiply, exp = (work.get(name) for name in ("add", "multiply", "exp"))

    work.begin("the gradients of one product")
    a, b = value(normal(3)), value(normal(3, seed=1))
    y = multiply(a, b)
    backward(y)
    work.expect(y.grad is not None and bool(np.all(y.grad == 1)), f"y.grad is {y.grad}: y.grad must be 1", "", backward)
    compare(work, "the gradient of a in a b", a.grad, b.data, where=backward)
    compare(work, "the gradient of b in a b", b.grad, a.data, where=backward)

    work.begin("the gradient of x in x + x")
    x = value(normal(2))
    backward(add(x, x))
    causes = {"a second gradient replaces the first: it must be added": np.ones(2)}
    compare(work, "the gradient of x", x.grad, np.full(2, 2.0), causes=causes, where=backward)

    work.begin("each vjp is called once, when its gradient is complete")
    calls, x = [0], value(np.ones(1))
    y = x
    for _ in range(5):
        product = multiply(y, value(np.ones(1)))
        y = add(y, product)
        y.vjp, product.vjp = _counted(y.vjp, calls), _counted(product.vjp, calls)
    backward(y)
    cause = "a vjp was called before its gradient was complete, and then again: take the youngest first"
    cause = cause if calls[0] > 10 else "a Value that led to y was left out"
    work.expect(calls[0] == 10, f"10 vjps were called {calls[0]} times", cause, backward)
    got = None if x.grad is None else np.asarray(x.grad).tolist()
    cause = "a vjp was called before its gradient was complete: take the youngest first"
    work.expect(got == [32.0], f"five times y = y + y makes 32 x, and the gradient of x is {got}: expected [32.0]", cause, backward)

    work.begin("gradients of different Values do not share memory")
    a, b = value(normal(2)), value(normal(2, seed=1))
    s = add(a, b)
    y = add(multiply(s, a), s)
    backward(y)
    cause = "a sum was made in place: += also changes the array in which another Value has its gradient"
    work.expect(bool(np.all(y.grad == 1)), f"y.grad is {y.grad} at the end", cause, backward)
    compare(work, "the gradient of b in (a + b) a + (a + b)", b.grad, 1 + a.data, where=backward)

    work.begin("a larger computation, against the engine")
    a, b = value(normal(3)), value(normal(3, seed=1))
    backward(multiply(add(multiply(a, b), exp(a)), add(a, b)))
    x, z = Tensor(a.data, requires_grad=True), Tensor(b.data, requires_grad=True)
    ((x * z + ops.exp(x)) * (x + z)).backward(np.ones(3))
    for name, v, t in (("a", a, x), ("b", b, z)):
        compare(work, f"the gradient of {name} in (a b + exp(a)) (a + b)", v.grad, t.grad, where=backward)

    work.begin("a chain of 20,000 Values")
    x = value(np.ones(1))
    y = x
    for _ in range(20_000):
        y = _same(y, value)
    backward(y)
    compare(work, "the gradient of x at the start of the chain", x.grad, np.ones(1), where=backward)


def _counted(vjp: Any, calls: list[int]) -> Any:
    def counted(dy: Any) -> Any:
        calls[0] += 1
        return vjp(dy)

    return counted


def _same(parent: Any, value: Any) -> Any:
    """Returns a Value that equals its parent."""
    return value(parent.data, (parent,), lambda dy: (dy,))
