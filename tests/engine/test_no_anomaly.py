"""What detect_anomaly lets pass: masks of minus infinity, gradients that nobody asked for, steps without a NaN or an infinity."""

import re

import numpy as np
import pytest
from helpers import leaf

import tinylm
from tinylm import Tensor, nn
from tinylm.errors import AnomalyError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own warning about the same NaN


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["boolean", "additive", "learned"])
def test_a_query_without_a_visible_key(kind, dtype):
    """Its value, its gradient and its mask's gradient are zero, where PyTorch gives NaN; the other queries are as without it."""
    rng = np.random.default_rng(0)
    q, k, v = (leaf(rng.standard_normal((2, 2, 3, 4)), dtype) for _ in range(3))
    allowed = np.tri(3, dtype=bool)
    allowed[1] = False
    additive = np.where(allowed, rng.standard_normal((3, 3)), -np.inf).astype(dtype)
    learned = leaf(np.where(allowed, 0.0, -100.0), dtype)
    mask = {"boolean": allowed, "additive": Tensor(additive), "learned": tinylm.where(allowed, learned, -np.inf)}[kind]
    cotangent = rng.standard_normal((2, 2, 3, 4)).astype(dtype)
    with tinylm.detect_anomaly():
        y = tinylm.scaled_dot_product_attention(q, k, v, mask)
        y.backward(cotangent)
    np.testing.assert_array_equal(y.data[:, :, 1], 0)
    np.testing.assert_array_equal(q.grad[:, :, 1], 0)
    if kind == "learned":
        np.testing.assert_array_equal(learned.grad[~allowed], 0)
        assert np.abs(learned.grad[2]).min() > 0
    whole = [leaf(t.data[:, :, rows] if t is q else t.data, dtype) for t, rows in ((q, [0, 2]), (k, None), (v, None))]
    others = mask.data[[0, 2]] if isinstance(mask, Tensor) else mask[[0, 2]]
    z = tinylm.scaled_dot_product_attention(*whole, others)
    z.backward(cotangent[:, :, [0, 2]])
    tolerance = {"float64": 1e-12, "float32": 1e-6}[dtype]
    np.testing.assert_allclose(y.data[:, :, [0, 2]], z.data, rtol=0, atol=tolerance)
    for ours, theirs in ((q.grad[:, :, [0, 2]], whole[0].grad), (k.grad, whole[1].grad), (v.grad, whole[2].grad)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
        assert np.abs(theirs).max() > 0.1


def test_masks_of_minus_infinity_are_not_flagged():
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((1, 2, 3, 4)), requires_grad=True) for _ in range(3))
    c = rng.standard_normal((1, 2, 3, 4))
    allowed = np.tri(3, dtype=bool)
    with tinylm.detect_anomaly():
        for mask in (allowed, np.where(allowed, 0.0, -np.inf), tinylm.where(allowed, 0.0, -np.inf)):
            tinylm.scaled_dot_product_attention(q, k, v, mask).backward(c)
        for scores in (tinylm.where(allowed, q @ k.swapaxes(-1, -2), -np.inf), q @ k.swapaxes(-1, -2) + np.where(allowed, 0.0, -np.inf)):
            (tinylm.softmax(scores) @ v).backward(c)
        attention = nn.MultiheadAttention(4, 2)
        x = Tensor(rng.standard_normal((3, 2, 4)).astype(np.float32))
        padding = np.array([[False, False, True], [False, True, True]])
        y, _ = attention(x, x, x, key_padding_mask=padding, attn_mask=np.where(allowed, 0.0, -np.inf).astype(np.float32))
        y.backward(rng.standard_normal(y.shape).astype(np.float32))


def test_a_gradient_that_nobody_asked_for_is_not_inspected():
    x, n = Tensor(np.array([-2.0]), requires_grad=True), Tensor(np.array([2.0]))
    with tinylm.detect_anomaly():
        (x**n).sum().backward()
    np.testing.assert_array_equal(x.grad, [-4.0])


def test_it_ends_with_its_block_and_with_an_exception():
    x = Tensor(np.array([-1.0]))
    with pytest.raises(AnomalyError), tinylm.detect_anomaly():
        tinylm.log(x)
    assert np.isnan(tinylm.log(x).item())


def test_a_training_step_that_is_fine_passes():
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Dropout(0.5), nn.Linear(4, 5))
    with tinylm.detect_anomaly():
        tinylm.cross_entropy(model(np.array([0, 1, 4])), np.array([1, -100, 0])).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_empty_arrays_and_integers_have_statistics_too():
    @tinylm.op
    def broken(a, b, /):
        return np.array([np.nan]), None

    with (
        tinylm.detect_anomaly(),
        pytest.raises(AnomalyError, match=re.escape("argument 0: array([], dtype=float64); argument 1: int64(1,)")),
    ):
        broken(np.zeros(0), np.array([3]))
