"""Which calls of modules are recorded in both libraries, and which of them are compared."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn

import tinylm
from tinylm import Tensor, nn
from tinylm.verify import compare, twins_of
from tinylm.verify.models import MODELS
from tinylm.verify.torch.gradients import paired_gradients
from tinylm.verify.torch.layer_calls import Call, matched, recorded, recorded_in_torch


class Inner(nn.Module):
    def forward(self, x: Any, y: Any = None, *, ids: Any = None, flag: Any = None) -> Any:
        return {"a": (x * 2, [None, x + 0]), "b": ids}


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = Inner(), nn.Linear(3, 2)
        self.same = self.last

    def forward(self, x: Any) -> Any:
        found = self.inner(x, x, ids=Tensor(np.array([1])), flag=None)
        return self.last(self.inner(found["a"][0], flag=3)["a"][0]) + self.same(x)


class TorchInner(tnn.Module):
    def forward(self, x: Any, y: Any = None, *, ids: Any = None, flag: Any = None) -> Any:
        return {"a": (x * 2, [None, x + 0]), "b": ids}


class TorchOuter(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = TorchInner(), tnn.Linear(3, 2)
        self.same = self.last

    def forward(self, x: Any) -> Any:
        found = self.inner(x, x, ids=torch.tensor([1]), flag=None)
        return self.last(self.inner(found["a"][0], flag=3)["a"][0]) + self.same(x)


X = np.random.default_rng(0).standard_normal((4, 3))


def both() -> tuple[Any, Any, Any, Any]:
    """Returns the calls of both, and both results."""
    ours, theirs = Outer(), TorchOuter()
    with recorded(ours) as calls:
        y = ours(Tensor(X.astype(np.float32), requires_grad=True))
    with recorded_in_torch(theirs) as their_calls:
        r = theirs(torch.tensor(X, dtype=torch.float32, requires_grad=True))
    return calls, their_calls, y, r


def test_calls_are_in_the_order_in_which_they_end_and_know_when_they_began() -> None:
    calls, their_calls, _, _ = both()
    for found in (calls, their_calls):
        assert [(c.name, c.started, c.keywords) for c in found] == [
            ("inner", 1, {"ids"}),
            ("inner (call 2)", 2, {"flag"}),
            ("last", 3, set()),
            ("last (call 2)", 4, set()),
            ("", 0, set()),
        ]
        assert [[tuple(t.shape) for t in c.inputs] for c in found] == [[(4, 3)]] * 5  # one that is given twice is one
        assert [[tuple(t.shape) for t in c.outputs] for c in found] == [[(4, 3)] * 2] * 2 + [[(4, 2)]] * 3  # integers are left out


def test_the_gradient_of_an_input_is_what_its_call_sends_back() -> None:
    calls, their_calls, y, r = both()
    inputs = [c.inputs[0] for c in calls]
    gradients = tinylm.grad(y.sum(), inputs, retain_graph=True)
    theirs = torch.autograd.grad(r.sum(), [c.inputs[0] for c in their_calls], allow_unused=True)
    # x goes through inner twice, which doubles it; the whole is given what goes through inner and what goes around it.
    for found in ([g.data for g in gradients], [t.numpy() for t in theirs]):
        assert np.abs(found[2]).sum() > 0
        for g, factor in zip(found, (4, 2, 1, 1, 5), strict=True):
            np.testing.assert_allclose(g, factor * found[2], rtol=1e-6)


def call(name: str, *shapes: tuple[int, ...], keywords: Any = ()) -> Call:
    return Call(name, 0, set(keywords), [np.zeros(s) for s in shapes], [])


def test_calls_of_one_name_shapes_and_settings_are_compared() -> None:
    model = TorchOuter()
    theirs = [call("last", (4, 3)), call("inner", (4, 3)), call("inner (call 2)", (4, 3)), call("same", (2, 3)), call("", (4, 3))]
    cases = [
        (call("last", (4, 3)), True),
        (call("last", (4, 2)), False),
        (call("last", (4, 3), (4, 3)), False),
        (call("last", (4, 3), keywords=["input"]), True),  # a parameter of torch.nn.Linear's
        (call("last", (4, 3), keywords=["activation"]), False),
        (call("inner (call 2)", (4, 3), keywords=["x", "y", "ids", "flag"]), True),
        (call("inner (call 3)", (4, 3)), False),
        (call("", (4, 3)), False),  # the whole model
        (call("other", (4, 3)), False),
    ]
    ours = [each for each, _ in cases]
    found = matched(ours, theirs, model)
    assert [any(each is a for a, _ in found) for each in ours] == [expected for _, expected in cases]
    assert all(a.name == b.name for a, b in found)


def test_an_inner_output_of_another_shape_is_listed() -> None:
    class First(tnn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x).T

    class Theirs(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = First(3, 5), tnn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            return self.last(self.first(x).T)

    class Ours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            return self.last(self.first(x))

    report = compare(Ours(), Theirs(), [X])
    assert [(row.name, row.detail) for row in report.failures] == [("output of first", "shape (4, 5) in tinylm, (5, 4) in PyTorch")]


def test_outputs_of_a_module_that_has_several_are_numbered() -> None:
    report = compare(nn.GRU(3, 5), tnn.GRU(3, 5), [X[:, None]])
    assert [row.name for row in report.rows if row.name.startswith("output")] == ["output 0", "output 1"]
    outer = compare(Outer(), TorchOuter(), [X])
    assert outer.ok, outer
    assert [row.name for row in outer.rows] == [
        "output 0 of inner",
        "output 1 of inner",
        "output 0 of inner (call 2)",
        "output 1 of inner (call 2)",
        "output of last",
        "output of last (call 2)",
        "output 0",
        "gradient through last (call 2)",
        "gradient of last.bias",
        "gradient of last.weight",
        "gradient through last",
        "gradient through inner (call 2)",
        "gradient through inner",
        "gradient of x (argument 0)",
    ]


def test_two_ties_on_one_side_are_listed_by_name() -> None:
    class Tied(nn.Module):
        def __init__(self, kind: Any) -> None:
            super().__init__()
            self.d, self.c, self.b, self.a = (kind(3, 3, bias=False) for _ in range(4))

        def forward(self, x: Any) -> Any:
            return self.a(self.b(self.c(self.d(x))))

    class TorchTied(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d, self.c, self.b, self.a = (tnn.Linear(3, 3, bias=False) for _ in range(4))
            self.b.weight, self.c.weight = self.a.weight, self.d.weight

        def forward(self, x: Any) -> Any:
            return self.a(self.b(self.c(self.d(x))))

    report = compare(Tied(nn.Linear), TorchTied(), [X])
    assert [row.name for row in report.failures] == ["tie of a.weight and b.weight", "tie of c.weight and d.weight"]


@pytest.mark.parametrize("name", MODELS)
def test_twins_have_the_same_weights_before_they_are_compared(name: str) -> None:
    ours, theirs, _ = twins_of(name)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], tensor.numpy())


# ---------------------------------------------------------------- gradients side by side


def test_gradients_side_by_side() -> None:
    """Of cᵀ (all floating outputs): y = x², z = 3 x; what takes no part is zero, in either library."""
    x, w = Tensor(X, requires_grad=True), Tensor(X * 2, requires_grad=True)
    t, v = torch.tensor(X, requires_grad=True), torch.tensor(X * 2, requires_grad=True)
    ours, theirs = [x * x, tinylm.argmax(x), x * 3], [t * t, t.argmax(), t * 3]
    c = np.random.default_rng(5).standard_normal(24)
    expected = 2 * X * c[:12].reshape(4, 3) + 3 * c[12:].reshape(4, 3)
    found = paired_gradients([("x", x, t), ("w", w, v)], ours, theirs, np.random.default_rng(5))
    assert [name for name, _, _ in found] == ["x", "w"]
    for side in (1, 2):
        np.testing.assert_allclose(found[0][side], expected)
        np.testing.assert_array_equal(found[1][side], np.zeros((4, 3)))
    assert paired_gradients([], ours, theirs, np.random.default_rng(5)) == []
    assert paired_gradients([("x", x, t)], ours[1:2], theirs[1:2], np.random.default_rng(5)) == []
    constant = paired_gradients([("x", x, t)], [Tensor(X)], [torch.tensor(X)], np.random.default_rng(5))
    np.testing.assert_array_equal(constant[0][1:], np.zeros((2, 4, 3)))


def test_second_gradients_side_by_side() -> None:
    """Of dᵀ (2 x c): 2 c d in x, and 2 x d in the cotangent c."""
    x, t = Tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    rng = np.random.default_rng(5)
    c, d = rng.standard_normal(12).reshape(4, 3), rng.standard_normal(12).reshape(4, 3)
    found = paired_gradients([("x", x, t)], [x * x], [t * t], np.random.default_rng(5), order=2)
    assert [name for name, _, _ in found] == ["x", "second gradient of the cotangent"]
    for side in (1, 2):
        np.testing.assert_allclose(found[0][side], 2 * c * d)
        np.testing.assert_allclose(found[1][side], (2 * X * d).ravel())
