"""MultiheadAttention compared with torch.nn.MultiheadAttention, its masks, its cache and its errors."""

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise, replay_dropout
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm import Tensor, nn
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn.attention import merged_mask


def some_masks(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a boolean or floating mask; key 0 stays visible, since PyTorch gives NaN to a query that sees nothing."""
    hidden = rng.random(shape) < 0.4
    hidden[..., 0] = False
    return hidden if kind == "bool" else np.where(hidden, -np.inf, rng.standard_normal(shape))


@settings(max_examples=100)
@given(
    seed=st.integers(0, 1000),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    heads=st.integers(1, 3),
    width=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    dims=st.sampled_from([(None, None), (5, None), (None, 2), (3, 7)]),
    kind=st.sampled_from(["bool", "float"]),
    attn=st.sampled_from([None, 2, 3]),
    padding=st.booleans(),
    weights=st.sampled_from([{"need_weights": False}, {}, {"average_attn_weights": False}]),
    dtype=st.sampled_from([("float64", 0), ("float32", 2)]),  # float32: sums of few elements may cancel, so two more elements
)
def test_equals_pytorch(seed, sizes, heads, width, bias, batch_first, dims, kind, attn, padding, weights, dtype):
    rng = np.random.default_rng(seed)
    (kdim, vdim), (dtype, more) = dims, dtype
    (batch, steps, keys), embed = (n + more for n in sizes), heads * (width + more)
    theirs = torch.nn.MultiheadAttention(embed, heads, bias=bias, kdim=kdim, vdim=vdim, batch_first=batch_first)
    randomise(theirs, rng)
    ours = nn.MultiheadAttention(embed, heads, bias=bias, kdim=kdim, vdim=vdim, batch_first=batch_first)
    lengths = [(steps, embed), (keys, kdim or embed), (keys, vdim or embed)]
    inputs = [rng.standard_normal((batch, n, d) if batch_first else (n, batch, d)) for n, d in lengths]
    attn_shapes = {2: (steps, keys), 3: (batch * heads, steps, keys)}
    masks = {
        "attn_mask": some_masks(rng, kind, attn_shapes[attn]) if attn else None,
        "key_padding_mask": some_masks(rng, kind, (batch, keys)) if padding else None,
    }
    assert_parity(ours, theirs, inputs, masks=masks, settings=weights, dtype=dtype, seed=seed)


@pytest.mark.parametrize("bias", [True, False])
def test_shared_inputs_equal_pytorch(bias):
    """One tensor that serves as two or three of q, k and v takes fewer matrix products."""
    rng = np.random.default_rng(0)
    theirs = torch.nn.MultiheadAttention(6, 2, bias=bias)
    randomise(theirs, rng)
    ours = nn.MultiheadAttention(6, 2, bias=bias)
    query, memory = rng.standard_normal((4, 3, 6)), rng.standard_normal((5, 3, 6))
    assert_parity(ours, theirs, [query], call=lambda module, x: module(x, x, x))
    assert_parity(ours, theirs, [query, memory], call=lambda module, x, m: module(x, m, m))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dropout_equals_pytorch_composed_with_the_same_masks(dtype):
    rng = np.random.default_rng(1)
    ours, generator = nn.MultiheadAttention(6, 2, dropout=0.4), Generator()
    theirs = replay_dropout(torch.nn.MultiheadAttention(6, 2, dropout=0.4), generator)
    randomise(theirs, rng)
    arrays = [rng.standard_normal((n, 3, 6)) for n in (4, 5, 5)]
    generator.state = default_generator.state
    assert_parity(ours, theirs, arrays, settings={"average_attn_weights": False}, dtype=dtype)
    x = Tensor(arrays[0].astype(dtype))
    assert (ours(x, x, x, average_attn_weights=False)[1].data == 0).any()
    ours.eval()
    assert (ours(x, x, x, average_attn_weights=False)[1].data > 0).all()


def attention_and_input(steps=5, batch=2, **settings):
    attention = nn.MultiheadAttention(6, 2, **settings).to(dtype="float64")
    return attention, Tensor(np.random.default_rng(3).standard_normal((steps, batch, 6)))


def test_boolean_and_floating_masks_can_be_mixed():
    attention, x = attention_and_input()
    later = ~np.tri(5, dtype=bool)
    padding = np.array([[False] * 5, [False, False, False, True, True]])
    expected, _ = attention(x, x, x, attn_mask=later, key_padding_mask=padding)
    added = np.where(later, -np.inf, 0.0)
    np.testing.assert_allclose(attention(x, x, x, attn_mask=added, key_padding_mask=padding)[0].data, expected.data, rtol=1e-12)
    added = np.where(padding, -np.inf, 0.0)
    np.testing.assert_allclose(attention(x, x, x, attn_mask=later, key_padding_mask=added)[0].data, expected.data, rtol=1e-12)


def test_is_causal_is_the_square_subsequent_mask():
    attention, x = attention_and_input()
    later = ~np.tri(5, dtype=bool)
    expected, weights = attention(x, x, x, attn_mask=later)
    assert (weights.data[:, later] == 0).all()
    for mask in (None, later, ~later):  # then the mask is not read
        np.testing.assert_allclose(attention(x, x, x, attn_mask=mask, is_causal=True)[0].data, expected.data, rtol=1e-12)
    padding = np.array([[False] * 5, [False, False, False, True, True]])
    both, _ = attention(x, x, x, attn_mask=later, key_padding_mask=padding)
    assert not np.allclose(both.data, expected.data)
    np.testing.assert_allclose(attention(x, x, x, key_padding_mask=padding, is_causal=True)[0].data, both.data, rtol=1e-12)


def test_a_query_that_sees_nothing_gives_the_bias_alone():
    attention, x = attention_and_input()
    attention.out_proj.bias.data[:] = np.arange(6)
    y, weights = attention(x, x, x, key_padding_mask=np.array([[True] * 5, [False] * 5]))
    np.testing.assert_array_equal(y.data[:, 0], np.tile(np.arange(6.0), (5, 1)))
    np.testing.assert_array_equal(weights.data[0], 0)
    np.testing.assert_allclose(weights.data[1].sum(-1), 1)


def test_a_float64_mask_does_not_promote_a_float32_layer():
    attention, x = nn.MultiheadAttention(6, 2), Tensor(np.ones((5, 2, 6), np.float32))
    y, weights = attention(x, x, x, attn_mask=np.zeros((5, 5)))
    assert y.dtype == weights.dtype == np.float32


def test_a_floating_mask_gets_its_gradient():
    attention, x = attention_and_input()
    bias = Tensor(np.zeros((5, 5)), requires_grad=True)
    y, _ = attention(x, x, x, attn_mask=bias)
    cotangent = np.random.default_rng(4).standard_normal(y.shape)
    y.backward(cotangent)
    step = np.zeros((5, 5))
    step[1, 2] = 1e-6
    high, low = (attention(x, x, x, attn_mask=m)[0].data for m in (step, -step))
    assert bias.grad[1, 2] == pytest.approx(((high - low) * cotangent).sum() / 2e-6, rel=1e-6)


@given(batch_first=st.booleans(), parts=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_cache_equals_one_causal_call(batch_first, parts):
    attention = nn.MultiheadAttention(6, 2, batch_first=batch_first).to(dtype="float64")
    x = np.random.default_rng(5).standard_normal((2, sum(parts), 6))
    axis = 1 if batch_first else 0
    x = x if batch_first else x.swapaxes(0, 1)
    whole, _ = attention.attend(*[Tensor(x)] * 3, is_causal=True)
    cache = nn.KeyValueCache()
    outs = []
    for piece in np.split(x, np.cumsum(parts)[:-1], axis):
        outs.append(attention.attend(*[Tensor(piece)] * 3, is_causal=True, cache=cache)[0].data)
    np.testing.assert_allclose(np.concatenate(outs, axis), whole.data, atol=1e-12)
    assert [c.shape for c in (cache.keys, cache.values)] == [(2, 2, sum(parts), 3)] * 2


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dims", [{}, {"kdim": 4, "vdim": 5}])
@pytest.mark.parametrize("bias", [False, True])
def test_keys_and_values_stand_for_the_key_and_the_value(batch_first, dims, bias):
    rng = np.random.default_rng(7)
    attention = nn.MultiheadAttention(6, 2, bias=bias, batch_first=batch_first, **dims).to(dtype="float64")
    for p in attention.parameters():
        p.data[:] += 0.1 * rng.standard_normal(p.shape)
    query, key, value = (rng.standard_normal((3, 3, width)) for width in (6, dims.get("kdim", 6), dims.get("vdim", 6)))
    padding = np.array([[False, False, False], [False, True, True], [False, False, True]])
    cotangent = rng.standard_normal((3, 3, 6))
    found = []
    for shared in (False, True):
        for projected in (False, True):
            attention.zero_grad()
            q, k = Tensor(query, requires_grad=True), Tensor(key, requires_grad=True)
            v = k if shared and not dims else Tensor(value, requires_grad=True)
            pair = attention.keys_and_values(k, v) if projected else (k, v)
            y, _ = attention(q, *pair, key_padding_mask=padding)
            y.backward(cotangent)
            found.append([y.data, q.grad, k.grad, v.grad, *(p.grad for p in attention.parameters())])
        assert all(shape == (3, 2, 3, 3) for shape in (x.shape for x in attention.keys_and_values(k, v)))
        for a, b in zip(*found[-2:], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_initial_weights_are_pytorchs():
    attention = nn.MultiheadAttention(64, 4)
    assert not attention.in_proj_bias.data.any()
    assert not attention.out_proj.bias.data.any()
    for weight, bound in ((attention.in_proj_weight, (6 / 256) ** 0.5), (attention.out_proj.weight, 1 / 8)):
        top = float(np.abs(weight.data).max())
        assert 0.98 * bound < top <= bound
        assert weight.data.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    unequal = nn.MultiheadAttention(64, 4, kdim=128)
    assert 0.98 * (6 / 192) ** 0.5 < np.abs(unequal.k_proj_weight.data).max() <= (6 / 192) ** 0.5


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"attn_mask": np.zeros((5, 4), bool)}, r"attn_mask has shape \(5, 4\), expected \(5, 5\) or \(4, 5, 5\)"),
        ({"attn_mask": np.zeros((3, 5, 5), bool)}, r"attn_mask has shape \(3, 5, 5\), expected .* or \(4, 5, 5\) or \(2, 5, 5\)"),
        ({"key_padding_mask": np.zeros((5, 2), bool)}, r"key_padding_mask has shape \(5, 2\), expected \(2, 5\)"),
        ({"attn_mask": np.zeros((5, 5), int)}, "attn_mask has dtype int64, expected boolean or floating"),
    ],
)
def test_a_mask_that_does_not_fit(masks, message):
    attention, x = attention_and_input()
    with pytest.raises(ShapeError, match=message):
        attention(x, x, x, **masks)


def test_inputs_that_do_not_fit():
    attention, x = attention_and_input()
    with pytest.raises(ShapeError, match=r"query has shape \(5, 6\), expected \(T, N, E\)"):
        attention(x[:, 0], x, x)
    with pytest.raises(ShapeError, match=r"key has shape \(5, 1, 6\), its batch should be 2"):
        attention(x, x[:, :1], x)
    with pytest.raises(ShapeError, match=r"key \(4, 2, 6\) and value \(5, 2, 6\) differ in length"):
        attention(x, x[:4], x)
    keys, values = attention.keys_and_values(x, x)
    with pytest.raises(ShapeError, match=r"the keys have shape \(1, 2, 5, 3\), expected \(2, 2, 5, 3\) for a query \(5, 2, 6\)"):
        attention(x, keys[:1], values[:1])
    with pytest.raises(ShapeError, match=r"the values have shape \(2, 2, 4, 3\), expected \(2, 2, 5, 3\)"):
        attention(x, keys, values[:, :, :4])
    with pytest.raises(ShapeError, match="last axis should be 6"):
        attention(x[..., :5], x[..., :5], x[..., :5])
    with pytest.raises(ConfigError, match="embed_dim 6 is not a multiple of num_heads 4"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(ConfigError, match=r"dropout probability 1\.5"):
        nn.MultiheadAttention(6, 2, dropout=1.5)


def test_a_mask_for_each_sequence_is_that_mask_for_each_of_its_heads():
    attention, x = attention_and_input()
    rng = np.random.default_rng(8)
    cotangent = rng.standard_normal(x.shape)
    for kind in ("bool", "float"):
        masks = some_masks(rng, kind, (2, 5, 5))
        found = []
        for mask in (masks, np.repeat(masks, 2, axis=0)):  # (N, T, S), (N heads, T, S)
            added = Tensor(mask, requires_grad=kind == "float")
            y, weights = attention(x, x, x, attn_mask=added, key_padding_mask=some_masks(np.random.default_rng(9), "bool", (2, 5)))
            attention.zero_grad()
            y.backward(cotangent)
            found.append([y.data, weights.data, attention.in_proj_weight.grad, added.grad])
        for one, other in zip(found[0][:3], found[1][:3], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
        if kind == "float":
            np.testing.assert_allclose(found[0][3], found[1][3].reshape(2, 2, 5, 5).sum(1), rtol=1e-10, atol=1e-14)
        assert not np.allclose(attention(x, x, x, attn_mask=masks[::-1].copy())[0].data, found[0][0])
    single = nn.MultiheadAttention(6, 1).to(dtype="float64")  # with one head both forms are one
    hidden = some_masks(rng, "bool", (2, 5, 5))
    weights = single(x, x, x, attn_mask=hidden)[1].data
    assert (weights[hidden] == 0).all()
    assert (weights[~hidden] > 0).all()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dims", [{}, {"kdim": 5, "vdim": 3}])
@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}])
def test_one_sequence_without_a_batch_equals_pytorch(batch_first, dims, weights):
    rng = np.random.default_rng(10)
    theirs = torch.nn.MultiheadAttention(6, 2, batch_first=batch_first, **dims)
    randomise(theirs, rng)
    ours = nn.MultiheadAttention(6, 2, batch_first=batch_first, **dims)
    inputs = [rng.standard_normal((n, width)) for n, width in ((4, 6), (5, dims.get("kdim", 6)), (5, dims.get("vdim", 6)))]
    for kind, shape in (("bool", (4, 5)), ("float", (2, 4, 5))):
        masks = {"attn_mask": some_masks(rng, kind, shape), "key_padding_mask": some_masks(rng, kind, (5,))}
        assert_parity(ours, theirs, inputs, masks=masks, settings=weights)
    assert_parity(ours, theirs, inputs, settings=weights, dtype="float32")
    if not dims:
        assert_parity(ours, theirs, inputs[:1], call=lambda module, x: module(x, x, x, **weights))


def test_one_sequence_with_a_cache_or_keys_and_values():
    attention, x = attention_and_input(batch=1)
    expected, _ = attention(x, x, x, is_causal=True)
    one = x[:, 0]
    cache = nn.KeyValueCache()
    parts = [attention.attend(*[one[a:b]] * 3, is_causal=True, cache=cache)[0] for a, b in ((0, 3), (3, 5))]
    np.testing.assert_allclose(np.concatenate([attention.out_proj(y).data for y in parts]), expected.data[:, 0], atol=1e-12)
    keys, values = attention.keys_and_values(one, one)
    assert keys.shape == (1, 2, 5, 3)
    np.testing.assert_allclose(attention(one, keys, values)[0].data, attention(x, x, x)[0].data[:, 0], atol=1e-12)
    with pytest.raises(ShapeError, match=r"key_padding_mask has shape \(1, 5\), expected \(S,\) for one sequence"):
        attention(one, one, one, key_padding_mask=np.zeros((1, 5), bool))
    with pytest.raises(ShapeError, match=r"key has shape \(5, 6\), expected \(T, N, E\), or \(T, E\) for all three"):
        attention(x, one, one)


def test_no_mask_stays_none():
    assert merged_mask(None, None, (2, 2, 5, 5), "float64") is None
