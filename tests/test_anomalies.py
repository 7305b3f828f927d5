"""detect_anomaly names the op and the line that first made a NaN or an infinity."""

import inspect
import math
import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.errors import AnomalyError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own remark on the same NaN


def here(offset=0):
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def test_the_forward_names_op_line_and_statistics():
    x = Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    where = here(2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        tinylm.log(x)
    assert str(caught.value) == f"log ({where}) produced NaN in its value; argument 0: float64(2,) min -1 max 2 mean 0.5"


def test_operators_are_named_by_the_users_line():
    x = Tensor(np.array([1.0, 0.0]))
    where = here(2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        1 / x
    assert f"divide ({where}) produced an infinity in its value; argument 0: 1; argument 1: float64(2,)" in str(caught.value)


def test_the_backward_names_the_line_of_the_forward():
    x = Tensor(np.array([0.0, 4.0]), requires_grad=True)
    with tinylm.detect_anomaly():
        y, where = tinylm.sqrt(x), here()
        loss = (y * 1).sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    assert f"sqrt ({where}) produced an infinity in its gradient" in str(caught.value)


def test_the_first_op_is_named_not_the_ones_behind_it():
    x = Tensor(np.array([[1e30, 1.0]], np.float32), requires_grad=True)
    layer = nn.Linear(2, 2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError, match=r"^multiply "):
        layer(x * x).sum()


def test_what_came_in_broken_is_not_flagged():
    x = Tensor(np.array([np.nan, 1.0]))
    with tinylm.detect_anomaly():
        assert math.isnan(tinylm.exp(x).data[0])


def test_masks_of_minus_infinity_are_not_flagged():
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((1, 2, 3, 4)), requires_grad=True) for _ in range(3))
    allowed = np.tri(3, dtype=bool)
    with tinylm.detect_anomaly():
        for mask in (allowed, np.where(allowed, 0.0, -np.inf), tinylm.where(allowed, 0.0, -math.inf)):
            tinylm.scaled_dot_product_attention(q, k, v, mask).sum().backward()
        scores = tinylm.where(allowed, q @ k.swapaxes(-1, -2), -math.inf)
        (tinylm.softmax(scores) @ v).sum().backward()
        attention = nn.MultiheadAttention(4, 2)
        x = Tensor(rng.standard_normal((3, 2, 4)).astype(np.float32))
        padding = np.array([[False, False, True], [False, True, True]])
        y, _ = attention(x, x, x, key_padding_mask=padding, attn_mask=np.where(allowed, 0.0, -np.inf).astype(np.float32))
        y.sum().backward()


def test_a_gradient_that_nobody_asked_for_is_not_inspected():
    x, n = Tensor(np.array([-2.0]), requires_grad=True), Tensor(np.array([2.0]))
    with tinylm.detect_anomaly():
        (x**n).sum().backward()
    np.testing.assert_array_equal(x.grad, [-4.0])


def test_it_ends_with_its_block_and_with_an_exception():
    x = Tensor(np.array([-1.0]))
    with pytest.raises(AnomalyError), tinylm.detect_anomaly():
        tinylm.log(x)
    assert math.isnan(tinylm.log(x).item())


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
