"""Scaled dot-product attention on a GPU against its reference in float64."""

import importlib
from typing import Any

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines, attention_inputs

import tinylm
from tinylm import Tensor
from tinylm.bindings.cuda.attention import scaled_dot_product_attention, split_heads
from tinylm.engine.arrays import array_module
from tinylm.engine.devices import to_device
from tinylm.errors import ShapeError

pytestmark = pytest.mark.usefixtures("cuda")

NAME = "scaled_dot_product_attention"


@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"steps": 1, "keys": 1, "width": 1},
        {"steps": 67, "keys": 67, "width": 32},  # slightly more than one tile of queries and two tiles of keys
        {"steps": 3, "keys": 70, "width": 20, "out_width": 7},
        {"steps": 70, "keys": 3, "width": 5, "out_width": 33},  # causal: the first 67 queries see nothing
        {"steps": 66, "keys": 35, "width": 64},
        {"steps": 35, "keys": 36, "width": 128, "out_width": 66},
        {"steps": 0, "keys": 4, "width": 8},
    ],
    ids=lambda sizes: " ".join(map(str, sizes.values())),
)
def test_sizes(sizes: dict[str, Any], causal: bool) -> None:
    assert_agrees(NAME, *attention_inputs(2, **sizes), causal=causal)


def test_many_keys() -> None:
    assert_agrees(NAME, *attention_inputs(1, steps=2, keys=4097, width=3))


def test_leading_axes() -> None:
    assert_agrees(NAME, *attention_inputs(steps=3, keys=4, width=2))
    assert_agrees(NAME, *attention_inputs(2, 3, steps=5, keys=4, width=6, out_width=3), causal=True)
    assert_agrees(NAME, *attention_inputs(0, 3, steps=5, keys=4, width=6))


@pytest.mark.parametrize(("heads", "key_heads"), [(6, 2), (3, 1)])
@pytest.mark.parametrize(
    "sizes",
    [{"steps": 1, "keys": 40, "width": 6}, {"steps": 37, "keys": 70, "width": 33, "out_width": 5}, {"steps": 0, "keys": 4, "width": 8}],
)
def test_heads_that_share_keys(sizes: dict[str, Any], heads: int, key_heads: int) -> None:
    q, *_ = attention_inputs(2, heads, **sizes)
    _, k, v = attention_inputs(2, key_heads, **sizes)
    assert_agrees(NAME, q, k, v, causal=True)
    mask = np.random.default_rng(0).random((2, heads, sizes["steps"], sizes["keys"])) < 0.8
    assert_agrees(NAME, q, k, v, mask, dropout=0.2, key=(1, 2))


def test_a_scale_and_scores_that_overflow_alone() -> None:
    q, k, v = attention_inputs(2, steps=9, keys=40, width=8)
    assert_agrees(NAME, q, k, v, scale=-0.3)
    assert_agrees(NAME, q * 40, k, v)  # e^100 is beyond float32


@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
@pytest.mark.parametrize("shape", [(40, 37), (1, 37), (37,), (2, 1, 1, 37), (1, 3, 40, 1), (2, 3, 40, 37)], ids=str)
def test_boolean_masks(shape: tuple[int, ...], causal: bool) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.6
    assert_agrees(NAME, *attention_inputs(2, 3, steps=40, keys=37, width=4), mask, causal=causal)


def test_queries_without_a_visible_key() -> None:
    mask = np.ones((50, 35), bool)
    mask[[0, 7, 49]] = False
    found = assert_agrees(NAME, *attention_inputs(2, steps=50, keys=35, width=4), mask)
    np.testing.assert_array_equal(found["output 0"][:, [0, 7, 49]], 0)
    assert_agrees(NAME, *attention_inputs(2, steps=3, keys=35, width=4), np.zeros((3, 35), bool))


@pytest.mark.parametrize("keys", [32, 37])  # rows that begin at a block of random words, or within one
@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
def test_dropout(keys: int, causal: bool) -> None:
    """The reference draws its mask with NumPy: the results agree only if every word is the same."""
    settings = {"dropout": 0.3, "key": (2**63 + 5, 11), "causal": causal}
    assert_agrees(NAME, *attention_inputs(2, 3, steps=37, keys=keys, width=4), **settings)
    mask = np.random.default_rng(0).random((37, keys)) < 0.6
    assert_agrees(NAME, *attention_inputs(2, 1, steps=37, keys=keys, width=70), mask, **settings)


@pytest.mark.parametrize("dropout", [1e-12, 1 - 1e-9])
def test_nearly_no_and_nearly_all_dropout(dropout: float) -> None:
    assert_agrees(NAME, *attention_inputs(2, steps=5, keys=9, width=4), dropout=dropout, key=(1, 2))


def test_what_the_reference_does() -> None:
    q, k, v = attention_inputs(2, 3, steps=3, keys=4, width=6)
    assert_declines(NAME, q, k, v, np.random.default_rng(0).standard_normal((3, 4)))  # its gradient is a matrix of weights
    assert_declines(NAME, q, k, v, return_weights=True)
    assert_declines(NAME, q, k, v, dropout=1.0, key=(0, 0))
    assert_declines(NAME, q, k[:1], v[:1])  # keys shared by the batch
    assert_declines(NAME, q[None], k[None], v[None])
    assert_declines(NAME, q, k, v, np.ones((1, 2, 3, 3, 4), bool))
    assert_declines(NAME, *attention_inputs(steps=2, keys=2, width=129, out_width=1))
    assert_declines(NAME, *attention_inputs(steps=2, keys=2, width=4, out_width=129))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((3, 4), (5, 4), (6, 4)), "do not fit"), (((3, 4), (5, 3), (5, 4)), "do not fit"), (((4,), (5, 4), (5, 4)), "do not fit")],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    arrays = [Tensor(to_device(np.zeros(s, np.float32), "cuda")) for s in shapes]
    with pytest.raises(ShapeError, match=message):
        tinylm.scaled_dot_product_attention(*arrays)


# ---------------------------------------------------------------- on raw arrays


def on_device(*arrays: np.ndarray) -> list[Any]:
    return [to_device(a.astype(np.float32), "cuda") for a in arrays]


def both(q: Any, k: Any, v: Any, dy: Any, **settings: Any) -> list[np.ndarray]:
    """Returns y and the gradients."""
    y, vjp = scaled_dot_product_attention(q, k, v, **settings)
    return [a.get() for a in (y, *vjp(dy)[:3])]


def record_sizes(monkeypatch: pytest.MonkeyPatch, xp: Any, sizes: list[int]) -> None:
    """Makes `xp` append the size of every array that it creates from now on to `sizes`."""
    for name in ("empty", "empty_like", "zeros", "asarray", "ascontiguousarray", "array", "repeat", "broadcast_to"):
        made = getattr(xp, name)
        monkeypatch.setattr(xp, name, lambda *args, made=made, **named: (a := made(*args, **named), sizes.append(a.size))[0])


def test_heads_are_read_in_place() -> None:
    """q, k and v cut out of one projection and dy in the layout of the next layer give the same bits as copies; y has the layout
    that the next layer reads, and the gradients lie beside each other as those of the projection."""
    rng = np.random.default_rng(0)
    for batch_first, order in ((True, (0, 2, 1, 3)), (False, (2, 0, 1, 3))):
        lead = (2, 5) if batch_first else (5, 2)
        projected, dy = on_device(rng.standard_normal((*lead, 3 * 4 * 6)), rng.standard_normal((*lead, 4, 6)))
        heads, back = split_heads(projected, 3, 4, batch_first=batch_first)
        dy = dy.transpose(0, 2, 1, 3) if batch_first else dy.transpose(1, 2, 0, 3)
        found = both(*heads, dy, causal=True)
        for a, b in zip(found, both(*(a.copy() for a in heads), dy.copy(), causal=True), strict=True):
            np.testing.assert_array_equal(a, b)
        y, vjp = scaled_dot_product_attention(*heads, causal=True)
        assert y.transpose(order).flags.c_contiguous
        gradients = vjp(dy)[:3]
        (whole,) = back(*gradients)
        assert whole.data.ptr == gradients[0].data.ptr, "no copy"
        (copied,) = back(*(g.copy() for g in gradients))
        np.testing.assert_array_equal(whole.get(), copied.get())
        (turned,) = back(gradients[1], gradients[0], gradients[2])
        assert not np.array_equal(turned.get(), whole.get()), "parts in another order are not taken for the whole"


@pytest.mark.parametrize("batch_first", [True, False])
def test_split_heads(batch_first: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 24))
    for parts in (1, 2, 3):
        assert_agrees("split_heads", x, parts=parts, heads=4, batch_first=batch_first)


def test_shared_heads_are_read_in_place_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are the same as with a copy of the keys for each head, whose gradients are then added up; no array is as
    large as those copies."""
    rng = np.random.default_rng(0)
    queries, projected, dy = on_device(*(rng.standard_normal(s) for s in [(2, 5, 24), (2, 37, 2 * 2 * 6), (2, 4, 5, 6)]))
    q = queries.reshape(2, 5, 4, 6).transpose(0, 2, 1, 3)
    k, v = (projected[:, :, i * 12 : i * 12 + 12].reshape(2, 37, 2, 6).transpose(0, 2, 1, 3) for i in range(2))
    xp = array_module(q)
    y, dq, dk, dv = both(q, xp.repeat(k, 2, axis=1), xp.repeat(v, 2, axis=1), dy)
    sizes: list[int] = []
    record_sizes(monkeypatch, xp, sizes)
    found = both(q, k, v, dy)
    np.testing.assert_array_equal(found[0], y)
    np.testing.assert_array_equal(found[1], dq)
    for shared, copies in zip(found[2:], (dk, dv), strict=True):
        each = copies.reshape(2, 2, 2, 37, 6)
        np.testing.assert_allclose(shared, each[:, :, 0] + each[:, :, 1], rtol=0, atol=1e-6 * np.abs(each).max())
    assert max(sizes) == 2 * k.size, "the gradients of k and v, in one array"
    assert sizes.count(2 * k.size) == 1


def test_rows_that_are_strided_or_reversed() -> None:
    rng = np.random.default_rng(0)
    wide, dy = on_device(rng.standard_normal((3, 2, 5, 12)), rng.standard_normal((2, 5, 6)))
    for cut in (wide[:, :, :, ::2], wide[:, :, ::-1, :6], wide[:, ::-1, :, 1:7]):
        q, k, v = cut
        for a, b in zip(both(q, k, v, dy), both(q.copy(), k.copy(), v.copy(), dy), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_vjp_may_run_twice_and_nothing_waits() -> None:
    q, k, v = on_device(*attention_inputs(2, steps=5, keys=4, width=6))
    with importlib.import_module("cupyx").allow_synchronize(False):
        _, vjp = scaled_dot_product_attention(q, k, v, dropout=0.5, key=(1, 2))
        first, second = vjp(q), vjp(q)
    assert first[3] is None
    for a, b in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(a.get(), b.get())


def test_nan_stays_in_its_row() -> None:
    q, k, v = attention_inputs(1, steps=40, keys=36, width=4)
    q[0, 35, 1] = np.nan
    (y, *_) = both(*on_device(q, k, v, np.zeros((1, 40, 4))))
    assert np.isnan(y[0]).any(axis=1).tolist() == [i == 35 for i in range(40)]


def test_tiles_that_no_query_sees_are_not_visited() -> None:
    """NaN times a weight of 0 would be NaN: what lies beyond the causal edge is not multiplied at all."""
    q, k, v = attention_inputs(1, steps=128, keys=128, width=4)
    dy = np.ones_like(v)
    later = v.copy()
    later[:, 64:] = np.nan
    y, dq, _, _ = both(*on_device(q, k, later, dy), causal=True)
    assert np.isfinite(y[:, :64]).all()
    assert np.isfinite(dq[:, :64]).all()
    dy[:, :32] = np.nan
    _, _, dk, dv = both(*on_device(q, k, v, dy), causal=True)
    assert np.isfinite(dk[:, 32:]).all()
    assert np.isfinite(dv[:, 32:]).all()


def test_nothing_as_large_as_the_weights_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, dy = on_device(*attention_inputs(2, steps=66, keys=66, width=3), np.ones((2, 66, 3)))
    sizes: list[int] = []
    record_sizes(monkeypatch, array_module(q), sizes)
    both(q, k, v, dy, dropout=0.5, key=(1, 2))
    assert max(sizes) == 3 * 2 * 66 * 3, "the gradients of q, k and v, in one array"
