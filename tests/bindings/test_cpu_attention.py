"""Scaled dot-product attention on the CPU against its reference in float64."""

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, attention_inputs

import tinylm
from tinylm import Tensor
from tinylm.bindings.cpu.attention import scaled_dot_product_attention, split_heads
from tinylm.bindings.cpu.library import Library
from tinylm.errors import ShapeError

pytestmark = pytest.mark.usefixtures("cpu")

NAME = "scaled_dot_product_attention"


@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"steps": 1, "keys": 1, "width": 1},
        {"steps": 1, "keys": 257, "width": 64},  # decoding
        {"steps": 2, "keys": 35, "width": 20, "out_width": 7},
        {"steps": 3, "keys": 70, "width": 20, "out_width": 7},
        {"steps": 67, "keys": 67, "width": 32},
        {"steps": 70, "keys": 3, "width": 5, "out_width": 33},  # causal: the first 67 queries see nothing
        {"steps": 66, "keys": 35, "width": 64},
        {"steps": 35, "keys": 36, "width": 128, "out_width": 66},
        {"steps": 5, "keys": 1030, "width": 3},
        {"steps": 0, "keys": 4, "width": 8},
    ],
    ids=lambda sizes: " ".join(map(str, sizes.values())),
)
def test_sizes(sizes: dict[str, Any], causal: bool) -> None:
    assert_agrees(NAME, *attention_inputs(2, **sizes), device="cpu", causal=causal)


def test_leading_axes() -> None:
    assert_agrees(NAME, *attention_inputs(steps=3, keys=4, width=2), device="cpu")
    assert_agrees(NAME, *attention_inputs(2, 3, steps=5, keys=4, width=6, out_width=3), device="cpu", causal=True)
    assert_agrees(NAME, *attention_inputs(0, 3, steps=5, keys=4, width=6), device="cpu")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 4, 37])
def test_heads_that_share_keys(cpu: Library, steps: int, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    for heads, shared in [(6, 2), (4, 1), (3, 3)]:
        q, *_ = attention_inputs(2, heads, steps=steps, keys=40, width=6)
        _, k, v = attention_inputs(2, shared, steps=steps, keys=40, width=6, out_width=5)
        mask = np.random.default_rng(0).random((2, heads, steps, 40)) < 0.8
        assert_agrees(NAME, q, k, v, mask, device="cpu", causal=True, dropout=0.2, key=(1, 2))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(4, 40),
    st.integers(4, 40),
    st.booleans(),
    st.one_of(st.none(), st.floats(0, 1)),
    st.sampled_from([1, 2, 3, 5]),
)
def test_drawn_shapes(
    cpu: Library, lead: list[int], steps: int, keys: int, width: int, out_width: int, causal: bool, seen: float | None, threads: int
) -> None:
    cpu.functions["pool_size"](threads)
    mask = None if seen is None else np.random.default_rng(steps).random((steps, keys)) < seen
    arrays = attention_inputs(*lead, steps=steps, keys=keys, width=width, out_width=out_width)
    assert_agrees(NAME, *arrays, mask, device="cpu", drawn=True, causal=causal)


@pytest.mark.parametrize("steps", [2, 9])
def test_a_scale_and_scores_that_overflow_alone(steps: int) -> None:
    q, k, v = attention_inputs(2, 3, steps=steps, keys=40, width=8)
    assert_agrees(NAME, q, k, v, device="cpu", scale=-0.3)
    assert_agrees(NAME, q * 40, k, v, device="cpu")  # e^100 is beyond float32


@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
@pytest.mark.parametrize("shape", [(40, 37), (1, 37), (37,), (2, 1, 1, 37), (1, 3, 40, 1), (2, 3, 40, 37)], ids=str)
def test_boolean_masks(shape: tuple[int, ...], causal: bool) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.6
    assert_agrees(NAME, *attention_inputs(2, 3, steps=40, keys=37, width=4), mask, device="cpu", causal=causal)


def test_masks_in_other_layouts() -> None:
    arrays = attention_inputs(2, 3, steps=40, keys=37, width=4)
    wide = np.random.default_rng(0).random((80, 74)) < 0.6
    for mask in (wide[::2, :37], wide[:40, ::2], wide[:74:2, :40].T, wide[39::-1, :37]):
        assert_agrees(NAME, *arrays, mask, device="cpu")


def test_queries_without_a_visible_key() -> None:
    mask = np.ones((50, 35), bool)
    mask[[0, 7, 49]] = False
    found = assert_agrees(NAME, *attention_inputs(2, steps=50, keys=35, width=4), mask, device="cpu")
    np.testing.assert_array_equal(found["output 0"][:, [0, 7, 49]], 0)
    for steps in (1, 3):
        assert_agrees(NAME, *attention_inputs(2, steps=steps, keys=35, width=4), np.zeros((steps, 35), bool), device="cpu")


@pytest.mark.parametrize("keys", [32, 37])  # rows that begin at a block of random words, or within one
@pytest.mark.parametrize("steps", [1, 37])
@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
def test_dropout(keys: int, steps: int, causal: bool) -> None:
    """The reference draws its mask with NumPy: the results agree only if every word is the same."""
    drawn = {"dropout": 0.3, "key": (2**63 + 5, 11), "causal": causal, "device": "cpu"}
    assert_agrees(NAME, *attention_inputs(2, 3, steps=steps, keys=keys, width=4), **drawn)
    mask = np.random.default_rng(0).random((steps, keys)) < 0.6
    assert_agrees(NAME, *attention_inputs(2, 1, steps=steps, keys=keys, width=70), mask, **drawn)


@pytest.mark.parametrize("dropout", [1e-12, 1 - 1e-9])
def test_nearly_no_and_nearly_all_dropout(dropout: float) -> None:
    assert_agrees(NAME, *attention_inputs(2, steps=5, keys=9, width=4), device="cpu", dropout=dropout, key=(1, 2))


def test_what_the_reference_does() -> None:
    q, k, v = attention_inputs(2, 3, steps=3, keys=4, width=6)
    assert_declines(NAME, q, k, v, np.random.default_rng(0).standard_normal((3, 4)), device="cpu")  # its gradient is a matrix of weights
    assert_declines(NAME, q, k, v, device="cpu", return_weights=True)
    assert_declines(NAME, q, k, v, device="cpu", dropout=1.0, key=(0, 0))
    assert_declines(NAME, q, k[:1], v[:1], device="cpu")  # keys shared by the batch
    assert_declines(NAME, q[None], k[None], v[None], device="cpu")
    assert_declines(NAME, q, k, v, np.ones((1, 2, 3, 3, 4), bool), device="cpu")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((3, 4), (5, 4), (6, 4)), "do not fit"), (((3, 4), (5, 3), (5, 4)), "do not fit"), (((4,), (5, 4), (5, 4)), "do not fit")],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        tinylm.scaled_dot_product_attention(*(Tensor(np.zeros(s, np.float32)) for s in shapes))


# ---------------------------------------------------------------- on raw arrays


def both(q: Any, k: Any, v: Any, dy: Any, *mask: Any, **named: Any) -> list[np.ndarray]:
    """Returns y and the gradients."""
    y, vjp = scaled_dot_product_attention(q, k, v, *mask, **named)
    return [y, *vjp(dy)[:3]]


def single(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype(np.float32) for a in arrays]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("steps", [1, 35])
def test_heads_are_read_in_place_and_nothing_is_copied(steps: int, batch_first: bool) -> None:
    """q, k and v of one projection and dy in the layout of the next layer give the same bits as copies; y has the
    layout that the next layer reads, and the gradients lie side by side as the projection's gradient."""
    rng = np.random.default_rng(0)
    shape, axes = ((2, steps), (0, 2, 1, 3)) if batch_first else ((steps, 2), (1, 2, 0, 3))
    projected, dy = single(rng.standard_normal((*shape, 3 * 4 * 6)), rng.standard_normal((*shape, 4, 6)))
    heads, back = split_heads(projected, 3, 4, batch_first=batch_first)
    assert all(np.shares_memory(a, projected) for a in heads)
    dy = dy.transpose(axes)
    y, *gradients = found = both(*heads, dy, causal=True)
    for a, b in zip(found, both(*(a.copy() for a in heads), dy.copy(), causal=True), strict=True):
        np.testing.assert_array_equal(a, b)
    assert y.transpose(np.argsort(axes)).flags.c_contiguous
    (whole,) = back(*gradients)
    assert all(np.shares_memory(a, whole) for a in gradients)
    (copied,) = back(*(a.copy() for a in gradients))
    np.testing.assert_array_equal(whole, copied)
    assert whole.flags.c_contiguous
    assert not any(np.shares_memory(a, copied) for a in gradients)


@pytest.mark.parametrize("batch_first", [True, False])
def test_cotangents_in_other_layouts_are_copied(batch_first: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 24))
    for parts in (1, 2, 3):
        assert_agrees("split_heads", x, parts=parts, heads=4, batch_first=batch_first, device="cpu")
    x = x.astype(np.float32)
    heads, vjp = split_heads(x, 3, 4, batch_first=batch_first)
    np.testing.assert_array_equal(vjp(*heads)[0], x)
    for order in ([1, 0, 2], [0, 0, 0], [0, 2, 1]):
        (dx,) = vjp(*(heads[i] for i in order))
        np.testing.assert_array_equal(dx, x.reshape(3, 5, 3, 8)[:, :, order].reshape(x.shape))
    (dx,) = vjp(*(a.astype(np.float64) for a in heads))
    assert dx.dtype == np.float32


def test_rows_that_are_strided_reversed_or_broadcast() -> None:
    rng = np.random.default_rng(0)
    wide, dy = single(rng.standard_normal((3, 2, 5, 12)), rng.standard_normal((2, 5, 6)))
    for cut in (wide[:, :, :, ::2], wide[:, :, ::-1, :6], wide[:, ::-1, :, 1:7], np.broadcast_to(wide[:, :1, :, :6], (3, 2, 5, 6))):
        q, k, v = cut
        for a, b in zip(both(q, k, v, dy), both(q.copy(), k.copy(), v.copy(), dy), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_second_backward_pass_and_other_cotangents() -> None:
    q, k, v = single(*attention_inputs(2, steps=30, keys=40, width=6))
    mask = np.random.default_rng(0).random((40, 30)).T < 0.6  # the copy that it makes must live as long as the vjp
    y, vjp = scaled_dot_product_attention(q, k, v, mask)
    expected = [d.copy() for d in vjp(y)[:3]]
    del mask
    gc.collect()
    assert vjp(y)[3] is None
    for dy in (y, np.asfortranarray(y), y.astype(np.float64)):
        for a, b in zip(vjp(dy)[:3], expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("steps", [1, 40])
def test_nan_and_infinity_stay_in_their_row(steps: int) -> None:
    for value in (np.nan, np.inf):
        q, k, v = single(*attention_inputs(1, steps=steps, keys=36, width=4))
        q[0, -1, 1] = value
        y, dq, *_ = both(q, k, v, np.ones_like(q))
        assert np.isnan(y[0]).any(axis=1).tolist() == [i == steps - 1 for i in range(steps)]
        assert np.isnan(dq[0]).any(axis=1).tolist() == [i == steps - 1 for i in range(steps)]
        q, k, v = single(*attention_inputs(1, steps=steps, keys=36, width=4))
        v[0, 3, 2] = value
        y, dq, dk, dv = both(q, k, v, np.ones_like(q))
        assert (~np.isfinite(y[0])).sum(axis=0).tolist() == [0, 0, steps, 0]
        assert np.isnan(dq).any()
        assert np.isnan(dk).any()
        assert np.isfinite(dv).all()


def test_blocks_that_no_query_sees_are_not_visited() -> None:
    """NaN times a weight of 0 would be NaN: what lies beyond the causal edge is not multiplied at all."""
    q, k, v = single(*attention_inputs(1, steps=128, keys=128, width=4))
    later = v.copy()
    later[:, 64:] = np.nan
    y, dq, _, _ = both(q, k, later, np.ones_like(v), causal=True)
    assert np.isfinite(y[:, :48]).all()
    assert np.isfinite(dq[:, :48]).all()


def test_nothing_as_large_as_the_weights_is_kept() -> None:
    q, k, v = single(*attention_inputs(2, steps=66, keys=66, width=3))
    _, vjp = scaled_dot_product_attention(q, k, v)
    kept = [a for cell in vjp.__closure__ for a in gc.get_referents(cell.cell_contents, cell) if isinstance(a, np.ndarray)]
    assert 0 < max(a.size for a in kept) <= 2 * 66 * 3
