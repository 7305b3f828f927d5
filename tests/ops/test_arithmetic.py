"""Products, remainders, einsum, bounds that are arrays: known answers, values where a naive formula fails, and what is refused."""

import functools
import math
import re

import numpy as np
import pytest
import torch
from op_cases import use

import tinylm
from tinylm import Tensor
from tinylm.engine.devices import to_device
from tinylm.errors import ConfigError, ShapeError
from tinylm.verify import Sample, compare_op

RNG = np.random.default_rng(0)


def gradients(fn, *arrays):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    y.backward(np.ones(y.shape))
    return [x.grad for x in leaves]


# ---------------------------------------------------------------- element by element


def test_remainders_have_the_sign_of_the_divisor():
    a, b = np.array([7.0, -7.0, 7.0, -7.0, 0.5]), np.array([2.0, 2.0, -2.0, -2.0, -3.0])
    np.testing.assert_array_equal((Tensor(a) % b).numpy(), [1.0, 1.0, -1.0, -1.0, -2.5])
    np.testing.assert_array_equal((Tensor(a) // b).numpy(), [3.0, -4.0, -4.0, 3.0, -1.0])
    np.testing.assert_array_equal((7 % Tensor(np.array([4, -4]))).numpy(), [3, -1])
    np.testing.assert_array_equal((-7 // Tensor(np.array([4, -4]))).numpy(), [-2, 1])
    da, db = gradients(lambda a, b: a % b, a, b)
    np.testing.assert_array_equal(da, 1)
    np.testing.assert_array_equal(db, [-3.0, 4.0, 4.0, -3.0, 1.0])
    x = Tensor(a, requires_grad=True)
    assert not (x // 2).requires_grad
    assert not tinylm.floor(x).requires_grad


def test_halves_are_rounded_to_even():
    np.testing.assert_array_equal(tinylm.round(np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 2.51])).numpy(), [-2, 0, 0, 2, 2, 3])
    assert Tensor(np.array([2, 3])).round().dtype.kind == "i"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_activations(dtype):
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4], dtype)
    with np.errstate(all="raise", under="ignore"):
        for fn, expected, slope in [
            (tinylm.softplus, [0, math.exp(-50), math.log(2), 50, 1e4], [0, math.exp(-50), 0.5, 1, 1]),
            (tinylm.elu, [-1, -1, 0, 50, 1e4], [0, math.exp(-50), 1, 1, 1]),
        ]:
            y = fn(Tensor(x))
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
            t = Tensor(x, requires_grad=True)
            np.testing.assert_allclose(tinylm.grad(fn(t), t, np.ones(5, dtype)).numpy(), slope, rtol=1e-6)
            assert y.dtype == dtype
    assert tinylm.expm1(np.array(1e-12)).item() == pytest.approx(1e-12, rel=1e-11)
    assert tinylm.elu(np.array(-1e-12)).item() == pytest.approx(-1e-12, rel=1e-11)


def test_bounds_that_are_arrays():
    x, low, high = np.array([-2.0, 0.0, 3.0, 1.0]), np.array([-1.0, -1.0, -1.0, 2.0]), np.array([1.0, 1.0, 1.0, 0.5])
    np.testing.assert_array_equal(tinylm.clip(x, low, high).numpy(), np.clip(x, low, high))
    dx, dlow, dhigh = gradients(tinylm.clip, x, low, high)
    np.testing.assert_array_equal(dx, [0, 1, 0, 0])
    np.testing.assert_array_equal(dlow, [1, 0, 0, 0])
    np.testing.assert_array_equal(dhigh, [0, 0, 1, 1])
    np.testing.assert_array_equal(gradients(lambda low: tinylm.clip(x, a_min=low), np.array(0.5))[0], 2)
    np.testing.assert_array_equal(gradients(lambda high: tinylm.clip(x, a_max=high), np.array(0.5))[0], 2)
    np.testing.assert_array_equal(Tensor(x).clip(a_max=Tensor(high)).numpy(), np.minimum(x, high))
    assert tinylm.clip(x.astype(np.float32), np.array([0, 0, 0, 0]), 2).dtype == np.float32
    with pytest.raises(ShapeError, match="a tensor holds numbers"):
        tinylm.clip(x, "1")
    with pytest.raises(ConfigError, match="clip: a_max is nan: expected a number, an array or None"):
        tinylm.clip(x, a_max=math.nan)
    with pytest.raises(TypeError, match="multiple values"):
        tinylm.clip(x, 1, a_min=2)


# ---------------------------------------------------------------- products and deviations


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("zeros", [(), (0,), (-1,), (0, -1)])
def test_products_with_zeros(n, zeros, order):
    x = RNG.standard_normal((3, n))
    x[1, list(zeros)] = 0
    report = compare_op("prod", Sample("zeros", (x, 1), {}), order=order)
    assert report.ok, report


def test_a_product_of_nothing_is_one():
    assert tinylm.prod(np.zeros(0)).item() == 1
    assert tinylm.prod(np.zeros((2, 0)), 1, keepdims=True).shape == (2, 1)
    assert gradients(lambda x: tinylm.prod(x, 0), np.zeros((0, 2)))[0].shape == (0, 2)
    assert tinylm.prod(np.array([[2, 3], [4, 5]], np.int8), 1).numpy().tolist() == [6, 20]


def test_a_deviation_of_0_has_no_gradient():
    for ddof in (0, 1):
        x = np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]])
        (dx,) = gradients(lambda x, ddof=ddof: x.std(1, ddof=ddof), x)
        t = torch.tensor(x, requires_grad=True)
        t.std(1, correction=ddof).sum().backward()
        np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-12)
        np.testing.assert_array_equal(dx[0], 0)
    # PyTorch's second derivative is NaN here.
    assert tinylm.hvp(lambda x: tinylm.std(x), np.array([3.5]), np.array([1.0])).item() == 0


# ---------------------------------------------------------------- einsum


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("bqd,bkd->bqk", [(2, 3, 4), (2, 5, 4)]),
        ("ij,jk,kl,lm", [(2, 3), (3, 4), (4, 2), (2, 5)]),
        ("iij->j", [(3, 3, 2)]),
        ("ii,jj->ij", [(2, 2), (3, 3)]),
        ("iii->i", [(2, 2, 2)]),
        ("ba", [(2, 3)]),
        ("bA,aA", [(2, 3), (4, 3)]),
        ("...,...", [(3,), (2, 3)]),
        ("...i->...", [(2, 3)]),
        ("i...,ij->...j", [(2, 3, 1), (2, 4)]),
        ("i,i", [(1,), (3,)]),
        ("i,j,k->", [(2,), (3,), (2,)]),
        ("ijkl,jl->ki", [(2, 3, 2, 4), (3, 4)]),
        ("ab,ab,ab->b", [(2, 3), (1, 3), (2, 1)]),
        (",", [(), ()]),
    ],
)
def test_einsum_is_numpys(subscripts, shapes):
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    found, expected = tinylm.einsum(subscripts, *arrays).numpy(), np.einsum(subscripts, *arrays)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(tinylm.einsum(arrays, subscripts).numpy(), found, rtol=0)
    report = tinylm.verify.gradcheck(functools.partial(tinylm.einsum, subscripts), *arrays)
    assert report.ok, report


def test_einsum_drawn_at_random():
    """Letters, lengths, repetitions and broadcasting drawn at random, values by NumPy and gradients by PyTorch."""
    rng = np.random.default_rng(1)
    for _ in range(60):
        terms = ["".join(rng.choice(list("abcd"), rng.integers(0, 4))) for _ in range(rng.integers(1, 4))]
        used = sorted(set("".join(terms)))
        out = "".join(rng.permutation(rng.choice(used, rng.integers(0, len(used) + 1), replace=False))) if used else ""
        lengths = dict(zip("abcd", rng.integers(1, 4, 4).tolist(), strict=True))
        shapes = []
        for term in terms:
            one = {c for c in term if rng.random() < 0.2}
            shapes.append(tuple(1 if c in one else lengths[c] for c in term))
        arrays, subscripts = [rng.standard_normal(shape) for shape in shapes], f"{','.join(terms)}->{out}"
        np.testing.assert_allclose(tinylm.einsum(subscripts, *arrays).numpy(), np.einsum(subscripts, *arrays), rtol=1e-9, atol=1e-12)
        report = compare_op("einsum", Sample(f"{subscripts} {shapes}", (arrays, subscripts), {}))
        assert report.ok, report


def test_einsum_of_integers_and_beside_floats():
    whole = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(tinylm.einsum("ij->j", whole).numpy(), whole.sum(0))
    assert tinylm.einsum("ij,j", whole, np.ones(3, np.float32)).dtype == np.float32


@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_einsum_on_the_device(device, monkeypatch):
    use("auto", monkeypatch)
    a, b = RNG.standard_normal((2, 3, 4)).astype(np.float32), RNG.standard_normal((2, 5, 4)).astype(np.float32)
    found = tinylm.einsum("bqd,bkd->bqk", Tensor(to_device(a, device)), Tensor(to_device(b, device)))
    np.testing.assert_allclose(found.numpy(), np.einsum("bqd,bkd->bqk", a, b), rtol=1e-5, atol=1e-6)


X = np.ones((2, 3))
REFUSED = [
    ((X, [0, 1]), "einsum: the first argument is array([[1., 1., 1.], [1., 1., 1.]]): expected subscripts such as 'ij,jk->ik'"),
    (("ij,jk", X), "einsum: 'ij,jk' for arrays of shapes (2, 3): expected 1 operands, separated by commas"),
    (("i", X), "'i' does not name the 2 axes of its array"),
    (("ijk", X), "'ijk' does not name the 2 axes"),
    (("i1", X), "expected letters, at most one '...' per operand, and at most one '->'"),
    (("ij->i->j", X), "expected letters"),
    (("......", X), "expected letters"),
    (("ij->k", X), "the result 'k' is not possible: no operand has 'k'"),
    (("ij->ii", X), "the result 'ii' is not possible: a letter is there twice"),
    (("...j->j", X), "the result 'j' is not possible: '...' is missing in the result"),
    (("ij,ij", X, X.T), "einsum: the axis 'i' has the lengths 2 and 3"),
    (("ii", X), "einsum: the axis 'i' has the lengths 2 and 3; the shape (2, 3) has the letters 'ii'"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_einsum_refuses(args, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        tinylm.einsum(*args)
