"""hypothesis draws shapes, axes, keys, dtypes and layouts; NumPy and PyTorch give the expected results."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_cases import layouts

import tinylm
from tinylm import Tensor
from tinylm.verify import Sample, compare_op

settings_of_this_file = settings(max_examples=15, deadline=None)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
full_shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)
sides = st.integers(0, 3)
seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def agrees(name, *args, orders=(1, 2), **named):
    """Asserts that the op equals its PyTorch reference: values, gradients, and gradients of gradients."""
    for order in orders:
        report = compare_op(name, Sample("drawn", args, named), order=order)
        assert report.ok, report


@given(st.data(), hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3), seeds)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
@settings_of_this_file
def test_broadcasting(name, data, drawn, seed):
    a, b = (normal(seed + i, *shape) for i, shape in enumerate(drawn.input_shapes))
    b = b + np.where(b < 0, -0.5, 0.5)
    agrees(name, a, b)
    assert getattr(tinylm, name)(Tensor(a), Tensor(b)).shape == drawn.result_shape


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3), seeds)
@settings_of_this_file
def test_where(drawn, seed):
    condition, a, b = (normal(seed + i, *shape) for i, shape in enumerate(drawn.input_shapes))
    agrees("where", np.asarray(condition > 0), a, b)


@given(st.data(), shapes, st.booleans(), seeds)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "logsumexp", "var"])
@settings_of_this_file
def test_axes(name, data, shape, keepdims, seed):
    axes = data.draw(st.none() | hnp.valid_tuple_axes(len(shape), min_size=1) if shape else st.none())
    if axes is not None and len(axes) == 1 and data.draw(st.booleans()):
        axes = axes[0]
    reduced = shape if axes is None else [shape[i] for i in np.atleast_1d(axes)]
    if name != "sum" and 0 in reduced:
        return  # NumPy has no mean, minimum or maximum of an empty array
    agrees(name, normal(seed, *shape), axis=axes, keepdims=keepdims)


@given(st.data(), full_shapes, seeds)
@pytest.mark.parametrize("name", ["getitem", "scatter_add"])
@settings_of_this_file
def test_keys(name, data, shape, seed):
    key = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=3))
        | hnp.arrays(bool, shape)
    )
    x = normal(seed, *shape)
    if name == "getitem":
        agrees(name, x, key)
    else:
        agrees(name, normal(seed, *np.asarray(x[key]).shape), key, shape)


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3), seeds)
@settings_of_this_file
def test_matmul(drawn, seed):
    agrees("matmul", *(normal(seed + i, *shape) for i, shape in enumerate(drawn.input_shapes)))


@given(st.data(), full_shapes, st.lists(sides, min_size=1, max_size=4), seeds)
@settings_of_this_file
def test_concatenate_and_split(data, shape, lengths, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for i, n in enumerate(lengths):
        one = list(shape)
        one[axis] = n
        parts.append(normal(seed + i, *one))
    agrees("concatenate", parts, axis)
    agrees("split", np.concatenate(parts, axis), np.cumsum(lengths)[:-1].tolist(), axis)


@given(full_shapes, st.booleans(), st.booleans(), seeds)
@settings_of_this_file
def test_norms(shape, with_weight, with_bias, seed):
    x = normal(seed, *shape[:-1], shape[-1] + 1)
    weight = normal(seed + 1, shape[-1] + 1) if with_weight else None
    agrees("layer_norm", x, weight, normal(seed + 2, shape[-1] + 1) if with_bias else None, eps=0.1)
    agrees("rms_norm", x, weight, eps=0.1)


@given(st.data(), full_shapes, seeds)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@settings_of_this_file
def test_softmax(name, data, shape, seed):
    agrees(name, normal(seed, *shape), axis=data.draw(st.integers(-len(shape), len(shape) - 1)))


@given(st.data(), st.lists(sides, max_size=2), sides, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), seeds)
@settings_of_this_file
def test_attention(data, lead, steps, keys, width, out, seed):
    q, k, v = normal(seed, *lead, steps, width), normal(seed + 1, *lead, keys, width), normal(seed + 2, *lead, keys, out)
    kind = data.draw(st.sampled_from(["none", "boolean", "floating"]))
    mask_shape = (*[data.draw(st.sampled_from([1, n])) for n in lead], steps, keys)
    mask = {"none": None, "boolean": normal(seed + 3, *mask_shape) > -0.5, "floating": normal(seed + 3, *mask_shape)}[kind]
    named = {
        "causal": data.draw(st.booleans()),
        "dropout": data.draw(st.sampled_from([0.0, 0.3])),
        "return_weights": data.draw(st.booleans()),
        "key": (seed, 1),
    }
    agrees("scaled_dot_product_attention", q, k, v, mask, **named)


@given(st.data(), st.lists(sides, max_size=1), st.integers(2, 3), st.integers(1, 3), sides, st.integers(1, 4), seeds)
@settings_of_this_file
def test_grouped_heads(data, lead, shared, group, steps, keys, seed):
    q, k, v = (
        normal(seed, *lead, shared * group, steps, 2),
        normal(seed + 1, *lead, shared, keys, 2),
        normal(seed + 2, *lead, shared, keys, 3),
    )
    mask_heads = data.draw(st.sampled_from([[], [1], [shared * group]]))
    mask = data.draw(st.sampled_from([None, normal(seed + 3, *mask_heads, steps, keys), normal(seed + 3, *mask_heads, steps, keys) > -0.5]))
    named = {"causal": data.draw(st.booleans()), "dropout": data.draw(st.sampled_from([0.0, 0.3])), "key": (seed, 1)}
    agrees("scaled_dot_product_attention", q, k, v, mask, return_weights=data.draw(st.booleans()), **named)


@given(st.lists(sides, max_size=2), sides, st.integers(1, 4), st.integers(0, 200), st.sampled_from(["half", "interleaved"]), seeds)
@settings_of_this_file
def test_rotary(lead, steps, pairs, start, pairing, seed):
    frequencies = np.random.default_rng(seed).random(pairs).tolist()
    agrees("rotary", normal(seed, *lead, steps, 2 * pairs), frequencies, start, pairing=pairing)


@given(shapes, seeds)
@settings_of_this_file
def test_swiglu(shape, seed):
    agrees("swiglu", normal(seed, *shape), normal(seed + 1, *shape))


@given(st.lists(sides, max_size=2), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), seeds)
@settings_of_this_file
def test_swiglu_linear(lead, width, out, gate_bias, up_bias, seed):
    weights = normal(seed, out, width), normal(seed + 1, out, width)
    biases = [normal(seed + 2 + i, out) if given else None for i, given in enumerate((gate_bias, up_bias))]
    agrees("swiglu_linear", normal(seed + 4, *lead, width), *weights, *biases)


@given(st.data(), sides, sides, st.integers(1, 3), st.integers(1, 2), st.sampled_from(["half", "interleaved"]), seeds)
@settings_of_this_file
def test_rotary_heads(data, batch, steps, width, pairs, pairing, seed):
    rows = [2 * pairs * data.draw(st.integers(1, 3)) for _ in range(3)]
    weights = [normal(seed + i, n, width) for i, n in enumerate(rows)]
    biases = [normal(seed + i, n) if data.draw(st.booleans()) else None for i, n in enumerate(rows)]
    named = {"frequencies": np.random.default_rng(seed).random(pairs).tolist(), "start": data.draw(st.integers(0, 200)), "pairing": pairing}
    agrees("rotary_heads", normal(seed + 3, batch, steps, width), *weights, *biases, **named)


@given(st.lists(sides, max_size=2), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), seeds)
@settings_of_this_file
def test_linear(lead, width, out, with_bias, with_residual, seed):
    agrees(
        "linear",
        normal(seed, *lead, width),
        normal(seed + 1, out, width),
        normal(seed + 2, out) if with_bias else None,
        normal(seed + 3, *lead, out) if with_residual else None,
        activation="gelu",
    )


@given(st.data(), st.lists(sides, max_size=2), st.integers(2, 5), seeds)
@settings_of_this_file
def test_cross_entropy(data, lead, classes, seed):
    targets = data.draw(hnp.arrays(np.int64, tuple(lead), elements=st.sampled_from([*range(classes), -100])))
    reduction = data.draw(st.sampled_from(["sum", "none"]) if not (targets >= 0).any() else st.sampled_from(["mean", "sum", "none"]))
    agrees(
        "cross_entropy", normal(seed, *lead, classes), targets, reduction=reduction, label_smoothing=data.draw(st.sampled_from([0.0, 0.2]))
    )


@given(st.data(), hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3), seeds)
@settings_of_this_file
def test_dtypes_promote_as_in_numpy_and_gradients_keep_their_own(data, drawn, seed):
    dtypes = [data.draw(st.sampled_from(["float32", "float64"])) for _ in range(2)]
    a, b = (
        Tensor(normal(seed + i, *shape).astype(dtype), requires_grad=True)
        for i, (shape, dtype) in enumerate(zip(drawn.input_shapes, dtypes, strict=True))
    )
    y = a * b + a
    assert y.dtype == np.result_type(*dtypes)
    y.backward(normal(seed, *y.shape).astype(y.dtype))
    for x in (a, b):
        assert x.grad.dtype == x.dtype
        assert x.grad.shape == x.shape


@given(st.data(), full_shapes, st.sampled_from(["float32", "float64"]), seeds)
@settings_of_this_file
def test_layouts_make_no_difference(data, shape, dtype, seed):
    x, c = normal(seed, *shape).astype(dtype), normal(seed + 1, *shape).astype(dtype)

    def both(x, c):
        t = Tensor(x, requires_grad=True)
        y = tinylm.softmax(tinylm.layer_norm(t.T) * 2, axis=0).T
        y.backward(c)
        return y.numpy(), t.grad

    expected = both(x, c)
    for (layout, x2), (_, c2) in zip(layouts(x), layouts(c), strict=True):
        for a, b in zip(both(x2, c2), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=layout)
            assert a.dtype == dtype
