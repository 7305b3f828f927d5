"""Numbers of shape (), axes of length 0, variances without a degree of freedom, powers at 0: as in PyTorch, forward and backward."""

import functools
import math

import numpy as np
import pytest
import torch
from op_cases import DEVICES, use
from torch.nn import functional as F

import tinylm
from tinylm import Tensor
from tinylm.engine.devices import to_device
from tinylm.errors import RangeError, ShapeError
from tinylm.verify import Sample, compare_op

REDUCTIONS = ["sum", "mean", "var", "max", "min", "logsumexp"]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:.*degrees of freedom")  # 0/0 and means of nothing


def with_gradient(fn, *arrays, device="cpu"):
    """Returns [the value, the gradient of each argument] under a cotangent of ones."""
    leaves = [Tensor(to_device(np.asarray(a), device), requires_grad=True) for a in arrays]
    y = fn(*leaves)
    y.backward(to_device(np.ones(y.shape, y.dtype), device))
    return [y.numpy(), *(Tensor(x.grad).numpy() for x in leaves)]


def in_pytorch(fn, *arrays):
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    y.backward(torch.ones_like(y))
    return [y.detach().numpy(), *(x.grad.numpy() for x in leaves)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6)


# ---------------------------------------------------------------- shape ()


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("axis", [0, -1, (0,), (-1,), (), None])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_number_has_the_axis_0(name, axis, device):
    x = np.array(1.5)
    for keepdims in (False, True):
        for order in (1, 2):
            report = compare_op(name, Sample("a number", (x,), {"axis": axis, "keepdims": keepdims}), order=order, device=device)
            assert report.ok, report
    found = with_gradient(lambda x: getattr(tinylm, name)(x, axis=axis), x, device=device)
    assert [a.shape for a in found] == [(), ()]


@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_a_number(name, implementation, monkeypatch):
    use(implementation, monkeypatch)
    for axis in (0, -1):
        x = np.array(1.5, np.float32)
        assert_same(
            with_gradient(lambda x, axis=axis: getattr(tinylm, name)(x, axis), x),
            in_pytorch(lambda x, axis=axis: getattr(torch, name)(x, axis), x),
        )


@pytest.mark.parametrize("name", [*REDUCTIONS, "softmax", "log_softmax", "argmax"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_an_axis_that_does_not_exist(name, shape):
    with pytest.raises(IndexError, match=f"axis {len(shape) + 1} is out of bounds"):
        getattr(tinylm, name)(Tensor(np.ones(shape, np.float32)), axis=len(shape) + 1)


def test_take_along_axis_wants_an_axis_that_exists():
    with pytest.raises(IndexError, match="axis 0 is out of bounds for array of dimension 0"):
        tinylm.take_along_axis(Tensor(1.5), np.array(0), 0)
    with pytest.raises(IndexError, match="axis 3 is out of bounds"):
        tinylm.take_along_axis(Tensor(np.ones((2, 2))), np.zeros((2, 2), int), 3)


def test_losses_want_an_axis_of_classes():
    for name in ("cross_entropy", "nll_loss"):
        with pytest.raises(ShapeError, match=r"the scores have shape \(\), expected \(\.\.\., V\)"):
            getattr(tinylm, name)(Tensor(1.5), np.array(0))


def test_padding_of_a_number_adds_nothing():
    assert_same(with_gradient(lambda x: tinylm.pad(x, ()), 1.5), in_pytorch(lambda x: F.pad(x, []), np.array(1.5)))


# ---------------------------------------------------------------- axes of length 0


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((2, 0), 1), ((2, 0), 0), ((0, 3), -1), ((0, 3), 0)])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "softmax", "log_softmax"])
def test_an_axis_of_length_0(name, shape, axis, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    x = np.ones(shape, np.float32)
    named = {"correction": 0} if name == "var" else {}
    found = with_gradient(lambda x: getattr(tinylm, name)(x, axis=axis), x, device=device)
    assert_same(found, in_pytorch(lambda x: getattr(torch, name)(x, dim=axis, **named), x))


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("steps", "keys", "width", "out"), [(2, 0, 4, 3), (0, 2, 4, 3), (2, 3, 0, 3), (2, 3, 4, 0), (0, 0, 4, 3)])
def test_attention_with_no_keys_queries_or_width(lead, steps, keys, width, out, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    arrays = [np.ones((*lead, *shape), np.float32) for shape in ((steps, width), (keys, width), (keys, out))]
    expected = in_pytorch(F.scaled_dot_product_attention, *arrays)
    assert_same(with_gradient(tinylm.scaled_dot_product_attention, *arrays, device=device), expected)
    if keys == 0:
        assert not expected[0].any()
        mask = to_device(np.ones((steps, 0), bool), device)
        for masks, causal in (((), True), ((mask,), False), ((mask,), True)):
            attend = functools.partial(tinylm.scaled_dot_product_attention, causal=causal)
            assert_same(with_gradient(lambda q, k, v, f=attend, m=masks: f(q, k, v, *m), *arrays, device=device), expected)


# ---------------------------------------------------------------- variances


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
@pytest.mark.parametrize(("values", "axis"), [([1.0, 3.0], 0), ([[1.0, 3.0], [2.0, 2.0]], 1), ([[1.0, 3.0]], (0, 1)), ([5.0], 0)])
def test_variances_with_few_degrees_of_freedom(values, axis, ddof, dtype, device):
    """PyTorch's gradient for ddof > n has the wrong sign; here it is that of ddof = n, as the value is."""
    x = np.array(values, dtype)
    correction = min(ddof, x[0].size if axis == 1 else x.size)
    for keepdims in (False, True):
        found = with_gradient(functools.partial(tinylm.var, axis=axis, ddof=ddof, keepdims=keepdims), x, device=device)
        assert_same(found, in_pytorch(functools.partial(torch.var, dim=axis, correction=correction, keepdim=keepdims), x))
        assert [a.dtype for a in found] == [x.dtype, x.dtype]


# ---------------------------------------------------------------- powers


def test_second_derivatives_of_a_power():
    """d²/dx dn xⁿ = xⁿ⁻¹ (1 + n ln x), also at n = 0, from either first derivative; the others likewise."""
    for x, n in [(2.0, 0.0), (3.0, 0.0), (0.5, 0.0), (2.0, 1.0), (2.0, 2.0), (2.0, -1.0), (3.0, 0.5)]:
        a, b = (Tensor(np.array(v), requires_grad=True) for v in (x, n))
        first = tinylm.grad(a**b, [a, b], create_graph=True)
        (aa, ab), (ba, bb) = ([h.item() for h in tinylm.grad(g, [a, b], retain_graph=True)] for g in first)
        mixed = x ** (n - 1) * (1 + n * math.log(x))
        assert [aa, ab, ba, bb] == pytest.approx([n * (n - 1) * x ** (n - 2), mixed, mixed, x**n * math.log(x) ** 2])


@pytest.mark.parametrize("n", [0.0, 1.0, 2.0, 3.0])
def test_powers_of_0(n):
    """First and second derivatives in x at x = 0, as in PyTorch; with n as an array, none is NaN or infinite."""
    for exponent in (n, np.array(n), Tensor(np.array(n), requires_grad=True)):
        x = Tensor(np.array(0.0), requires_grad=True)
        wanted = [x, exponent] if isinstance(exponent, Tensor) else [x]
        first = tinylm.grad(x**exponent, wanted, create_graph=True)
        assert [g.item() for g in first] == [float(n == 1), 0][: len(wanted)]
        if first[0].requires_grad:
            second = tinylm.grad(first[0], wanted, retain_graph=True)
            assert second[0].item() == (2 if n == 2 else 0)
            assert all(math.isfinite(h.item()) for h in second)


@pytest.mark.parametrize("x", [0.0, 1e-320, -0.0, math.nan])
def test_the_power_0_has_the_slope_0_everywhere(x):
    a, b = Tensor(np.array(x), requires_grad=True), Tensor(np.array(0.0))
    (a**b).backward()
    assert a.grad == 0


# ---------------------------------------------------------------- the padding row of an embedding


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("padding_idx", [-1, -3, 0, 2])
def test_a_padding_row_counted_from_the_end(padding_idx, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    ids, weight = np.array([2, 0, 1, 2]), np.ones((3, 2), np.float32)
    found = with_gradient(lambda w: tinylm.embedding(to_device(ids, device), w, padding_idx=padding_idx), weight, device=device)
    assert_same(found, in_pytorch(lambda w: F.embedding(torch.tensor(ids), w, padding_idx), weight))
    assert not found[1][padding_idx].any()
    for beyond in (3, -4):
        with pytest.raises(RangeError, match=f"padding_idx {beyond} is out of range: expected -3 to 2"):
            tinylm.embedding(to_device(ids, device), to_device(weight, device), padding_idx=beyond)
