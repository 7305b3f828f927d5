"""Kinks and ties as PyTorch has them, and values for which a naive formula overflows or gives NaN."""

import math

import numpy as np
import pytest
import torch
from scipy import special

import tinylm
from tinylm import Tensor
from tinylm.engine import kernels
from tinylm.verify import Sample, compare_op

# ---------------------------------------------------------------- kinks and ties

KINKS = {
    "abs": [(np.array([0.0, -0.0, 1.0]),)],
    "relu": [(np.array([0.0, -0.0, 1.0]),)],
    "clip": [
        (np.array([-1.0, 0.0, 1.0, 2.0]), -1.0, 1.0),
        (np.array([-1.0, 0.0, 1.0, 2.0]), np.full(4, -1.0), np.full(4, 1.0)),
        (np.array([-1.0, 0.0, 1.0]), np.zeros(3), np.zeros(3)),
    ],
    "elu": [(np.array([0.0, -0.0, 1.0]),), (np.array([0.0, 1.0]), 0.5)],
    "leaky_relu": [(np.array([0.0, -0.0, 1.0]),)],
    "std": [(np.array([[1.0, 1.0], [1.0, 2.0]]), 1)],
    "prod": [(np.array([0.0, 2.0, 3.0]),), (np.array([0.0, 2.0, 0.0]),), (np.zeros(3),)],
    "remainder": [(np.array([-4.0, 4.0, 0.0]), np.array([2.0, -2.0, 3.0]))],
    "maximum": [(np.array([1.0, 2.0]), np.array([1.0, 3.0])), (np.zeros((2, 1)), np.zeros(3))],
    "minimum": [(np.array([1.0, 2.0]), np.array([1.0, 3.0])), (np.zeros((2, 1)), np.zeros(3))],
    "max": [(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]), axis) for axis in (None, 0, 1, (0, 1))],
    "min": [(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]), axis) for axis in (None, 0, 1, (0, 1))],
    "power": [(np.array([0.0, 2.0]), 2), (np.array([0.0, 2.0]), np.array([2.0, 0.0])), (np.array([0.0, 0.0]), np.array([0.0, 3.0]))],
}


@pytest.mark.parametrize(("name", "args"), [(name, args) for name, several in KINKS.items() for args in several])
def test_derivatives_at_kinks_are_pytorchs(name, args):
    report = compare_op(name, Sample("a kink", args, {}))
    assert report.ok, report


def test_power_of_a_negative_base_has_no_derivative_in_the_exponent():
    x, n = Tensor(np.array([-2.0, 3.0]), requires_grad=True), Tensor(np.array([2.0, 2.0]), requires_grad=True)
    (x**n).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [-4.0, 6.0])
    assert math.isnan(n.grad[0])
    assert n.grad[1] == pytest.approx(9 * math.log(3))


# ---------------------------------------------------------------- extreme values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_functions(dtype):
    x = Tensor(np.array([-1e4, -200.0, 0.0, 200.0, 1e4], dtype), requires_grad=True)
    for fn, expected, slope in [
        (tinylm.sigmoid, [0, 0, 0.5, 1, 1], [0, 0, 0.25, 0, 0]),
        (tinylm.tanh, [-1, -1, 0, 1, 1], [0, 0, 1, 0, 0]),
        (tinylm.silu, [0, 0, 0, 200, 1e4], [0, 0, 0.5, 1, 1]),
        (tinylm.gelu, [0, 0, 0, 200, 1e4], [0, 0, 0.5, 1, 1]),
        (lambda x: tinylm.gelu(x, "tanh"), [0, 0, 0, 200, 1e4], [0, 0, 0.5, 1, 1]),
    ]:
        y = fn(x)
        np.testing.assert_allclose(y.data, expected, atol=1e-30)
        np.testing.assert_allclose(tinylm.grad(y, x, np.ones(5, dtype)).data, slope, atol=1e-30)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_softmax_and_its_relatives_do_not_overflow(scale):
    x = np.array([[0.0, scale, -scale], [scale, scale, scale]])
    for name in ("softmax", "log_softmax", "logsumexp"):
        report = compare_op(name, Sample("large", (x, -1), {}))
        assert report.ok, report
    report = compare_op("cross_entropy", Sample("large", (x, np.array([1, 2])), {}))
    assert report.ok, report
    report = compare_op("binary_cross_entropy_with_logits", Sample("large", (x[0], np.array([0.0, 1.0, 0.5])), {}))
    assert report.ok, report


def test_the_gradient_of_logsumexp_is_the_softmax_at_any_magnitude():
    x = Tensor(np.full(3, 1e30, np.float32), requires_grad=True)
    tinylm.logsumexp(x).backward()
    np.testing.assert_allclose(x.grad, np.full(3, 1 / 3), rtol=1e-6)


def test_a_row_of_minus_infinity():
    """softmax gives zeros, logsumexp -inf, both without a gradient and without a warning."""
    x = Tensor(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), requires_grad=True)
    for fn, expected in [(tinylm.softmax, [[0, 0], [1, 0]]), (lambda x: tinylm.logsumexp(x, -1), [-np.inf, 0])]:
        y = fn(x)
        np.testing.assert_array_equal(y.data, expected)
        g = tinylm.grad(y, x, np.random.default_rng(0).standard_normal(y.shape)).data
        assert np.isfinite(g).all()
        np.testing.assert_array_equal(g[0], 0)


def test_a_query_without_a_visible_key_gives_zeros_and_no_gradient():
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((2, 3, 4)), requires_grad=True) for _ in range(3))
    mask = np.ones((2, 3, 3), bool)
    mask[0, 1] = False
    y = tinylm.scaled_dot_product_attention(q, k, v, mask)
    np.testing.assert_array_equal(y.data[0, 1], 0)
    y.backward(rng.standard_normal(y.shape))
    np.testing.assert_array_equal(q.grad[0, 1], 0)
    assert all(np.isfinite(t.grad).all() for t in (q, k, v))


@pytest.mark.parametrize(("mask", "causal"), [(None, False), (None, True), ("boolean", False), ("floating", False)])
def test_attention_equals_pytorchs_own_function(mask, causal):
    """F.scaled_dot_product_attention with the mathematical backend, where it has the same options."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 2, 3, 4)) for _ in range(3)]
    c = rng.standard_normal((2, 2, 3, 4))
    array = {None: None, "boolean": np.tri(3, dtype=bool)[::-1] | np.eye(3, dtype=bool), "floating": rng.standard_normal((3, 3))}[mask]
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    y = tinylm.scaled_dot_product_attention(*ours, None if array is None else array.copy(), causal=causal)
    y.backward(c)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        r = torch.nn.functional.scaled_dot_product_attention(
            *theirs, None if array is None else torch.tensor(array.copy()), is_causal=causal
        )
        r.backward(torch.tensor(c))
    np.testing.assert_allclose(y.data, r.detach().numpy(), rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_grouped_heads_equal_pytorchs_own_function():
    """F.scaled_dot_product_attention(enable_gqa=True): which heads of k and v serve which head of q."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, heads, 3, 4)) for heads in (6, 2, 2)]
    theirs = torch.nn.functional.scaled_dot_product_attention(*map(torch.tensor, arrays), is_causal=True, enable_gqa=True)
    np.testing.assert_allclose(tinylm.scaled_dot_product_attention(*arrays, causal=True).data, theirs.numpy(), rtol=1e-10, atol=1e-12)


def test_rotated_products_depend_on_the_distance_alone():
    """The purpose of rotary positions (eq. 16): the product of a query and a key at positions t and s equals that at t
    + 1000 and s + 1000."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 5, 8))
    frequencies = [1.0, 0.1, 0.01, 0.001]
    for pairing in ("half", "interleaved"):
        products = [
            tinylm.rotary(q, frequencies, start, pairing=pairing).data @ tinylm.rotary(k, frequencies, start, pairing=pairing).data.T
            for start in (0, 1000)
        ]
        np.testing.assert_allclose(*products, rtol=1e-10, atol=1e-12)
        assert np.abs(products[0] - q @ k.T).max() > 0.1


def test_nan_is_passed_on_and_not_hidden():
    x = Tensor(np.array([1.0, np.nan, 3.0]), requires_grad=True)
    for fn in (
        tinylm.exp,
        tinylm.relu,
        tinylm.abs,
        tinylm.softmax,
        tinylm.layer_norm,
        tinylm.gelu,
        lambda x: x * 0,
        tinylm.max,
        tinylm.sum,
    ):
        assert np.isnan(fn(x).data).any()


# ---------------------------------------------------------------- cross-entropy in blocks


@pytest.mark.parametrize("chunk", [1, 6, 11, 1000])
@pytest.mark.parametrize("named", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}])
def test_cross_entropy_in_blocks_of_rows(chunk, named, monkeypatch):
    """The loss and its first two derivatives do not depend on how many rows are computed at once."""
    monkeypatch.setattr("tinylm.ops.losses._CHUNK", chunk)
    sample = Sample("blocks", (np.random.default_rng(0).standard_normal((7, 5)), np.array([0, 4, -100, 2, 2, -100, 1])), named)
    for order in (1, 2):
        report = compare_op("cross_entropy", sample, order=order)
        assert report.ok, report


def test_cross_entropy_with_every_target_ignored_is_nan_as_in_pytorch():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        loss = tinylm.cross_entropy(Tensor(np.zeros((2, 3))), np.array([-100, -100]))
    assert math.isnan(loss.item())


def test_a_masked_class_in_an_ignored_row_does_not_reach_the_loss():
    logits = np.array([[-np.inf, 0.0, 1.0], [-np.inf, 2.0, 1.0]])
    targets = np.array([-100, 1])
    for name, x in [("cross_entropy", logits), ("nll_loss", logits)]:
        report = compare_op(name, Sample("ignored", (x, targets), {}))
        assert report.ok, report
        assert np.isfinite(getattr(tinylm, name)(Tensor(x), targets).item())


def test_single_precision_does_not_suffer_from_large_logits():
    rng = np.random.default_rng(0)
    z = (rng.standard_normal((6, 9)) * 3 + 500).astype(np.float32)
    targets = rng.integers(0, 9, 6)

    def results(x):
        t = Tensor(x, requires_grad=True)
        loss = tinylm.cross_entropy(t, targets)
        loss.backward()
        return loss.data, t.grad

    for a, b in zip(results(z), results(z.astype(np.float64)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_gelu_keeps_its_digits_far_below_zero():
    """Where erf is -1 to the last bit, Φ is not 0."""
    x = np.array([-5.0, -8.5, -20.0, -37.0])
    with kernels.using("reference"):
        leaf = Tensor(x, requires_grad=True)
        y = tinylm.gelu(leaf)
        y.backward(np.ones(4))
    np.testing.assert_allclose(y.numpy(), x * special.ndtr(x), rtol=1e-13)
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(leaf.grad, special.ndtr(x) + x * density, rtol=1e-12)
