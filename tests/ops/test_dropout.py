"""Dropout masks are those of NumPy's Philox4x64-10 raw stream, word by word."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine.random_keys import default_generator, random_uint32
from tinylm.errors import ConfigError
from tinylm.ops.dropout import keep_mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 5), (2, 3, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mask_is_the_documented_one(p, shape, dtype):
    key = (123456789, 42)
    n = int(np.prod(shape))
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw((n + 1) // 2)
    halves = np.stack([words & 0xFFFFFFFF, words >> 32], axis=-1).ravel()[:n]  # the low half first
    expected = np.where(halves >= round(p * 2**32), np.dtype(dtype).type(1 / (1 - p)), 0).reshape(shape)
    mask = keep_mask(np.zeros(0, dtype), shape, p, key)
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == dtype
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    np.testing.assert_array_equal(tinylm.dropout(Tensor(x), p, key=key).data, x * expected)


def test_the_fraction_of_zeros_is_p():
    mask = keep_mask(np.zeros(0), (200_000,), 0.3, (1, 1))
    assert (mask == 0).mean() == pytest.approx(0.3, abs=0.005)  # 5 standard deviations
    assert mask.mean() == pytest.approx(1, abs=0.01)


def test_streams_of_different_keys_differ():
    masks = [keep_mask(np.zeros(0), (64,), 0.5, key).tobytes() for key in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert len(set(masks)) == 4


def test_each_call_takes_the_next_key_and_a_seed_repeats_them():
    x = Tensor(np.ones(64))

    def three():
        return [tinylm.dropout(x, 0.5).data for _ in range(3)]

    tinylm.manual_seed(7)
    first = three()
    tinylm.manual_seed(7)
    again = three()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], first[1])
    assert default_generator.state == (7, 3)


def test_the_gradient_uses_the_same_mask():
    x = Tensor(np.ones(50), requires_grad=True)
    y = tinylm.dropout(x, 0.5)
    c = np.random.default_rng(0).standard_normal(50)
    y.backward(c)
    np.testing.assert_array_equal(x.grad, c * y.data)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_probability_out_of_range(p):
    with pytest.raises(ConfigError, match="dropout probability"):
        tinylm.dropout(Tensor(np.ones(3)), p)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range(seed):
    with pytest.raises(ConfigError, match="out of range"):
        tinylm.manual_seed(seed)


def test_arrays_of_odd_length_start_with_those_of_even_length():
    np.testing.assert_array_equal(random_uint32((3, 4), 5), random_uint32((3, 4), 6)[:5])
