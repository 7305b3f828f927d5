"""The fused recurrent ops compared with their composed twins, single sequences, float64, and finite differences."""

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm import Tensor, grad, ops
from tinylm.errors import ConfigError, ShapeError
from tinylm.verify import gradcheck

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
STATES = {"rnn": 1, "gru": 1, "lstm": 2}
kinds = pytest.mark.parametrize("kind", GATES)


def make_arrays(rng, kind, sizes, bias=True, first=True, dtype="float64"):
    """Returns x, weights, biases and initial states, as the op takes them."""
    steps, batch, width, hidden = sizes
    rows = GATES[kind] * hidden
    arrays = [rng.standard_normal(s) for s in ((steps, batch, width), (rows, width), (rows, hidden))]
    arrays += [rng.standard_normal(rows) if bias else None for _ in range(2)]
    arrays += [rng.standard_normal((batch, hidden)) if first else None for _ in range(STATES[kind])]
    return [None if a is None else a.astype(dtype) for a in arrays]


def leaves(arrays):
    return [None if a is None else Tensor(a.copy(), requires_grad=True) for a in arrays]


def joined(tensors):
    return ops.concatenate([t.reshape(-1) for t in tensors])


def options(rng, kind, sizes, reverse, ragged, nonlinearity):
    found = {"reverse": reverse, "lengths": rng.integers(1, sizes[0] + 1, sizes[1]) if ragged else None}
    return found | ({"nonlinearity": nonlinearity} if kind == "rnn" else {})


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(list(GATES)),
    sizes=st.tuples(st.integers(1, 5), st.integers(0, 4), st.integers(1, 3), st.integers(1, 3)),
    bias=st.booleans(),
    first=st.booleans(),
    reverse=st.booleans(),
    ragged=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu", "sigmoid"]),
)
def test_equals_its_composed_twin_to_second_order(seed, kind, sizes, bias, first, reverse, ragged, nonlinearity):
    rng = np.random.default_rng(seed)
    arrays = make_arrays(rng, kind, sizes, bias, first)
    setting = options(rng, kind, sizes, reverse, ragged, nonlinearity)
    fused = getattr(ops, kind)
    results = []
    for function in (fused, fused.op.composed):
        draw = np.random.default_rng(seed + 1)
        inputs = leaves(arrays)
        wanted = [t for t in inputs if t is not None]
        outputs = function(*inputs, **setting)
        y = joined(outputs)
        cotangent = Tensor(draw.standard_normal(y.shape), requires_grad=True)
        y.backward(cotangent.data, retain_graph=True)  # the op's own vjp
        first_order = grad(y, wanted, cotangent, create_graph=True)  # with a fused op, the twin's
        found = {f"output {i}": o.data for i, o in enumerate(outputs)}
        found |= {f"gradient {i}": t.grad for i, t in enumerate(wanted)}
        found |= {f"first {i}": g.data for i, g in enumerate(first_order)}
        scalar = joined(first_order)
        second_order = grad(scalar, [*wanted, cotangent], draw.standard_normal(scalar.shape))
        found |= {f"second {i}": g.data for i, g in enumerate(second_order) if g is not None}  # None: relu's slope is constant
        results.append(found)
    assert results[0].keys() == results[1].keys()
    for group in ("output", "gradient", "first", "second"):
        assert_close({k: (a, results[1][k]) for k, a in results[0].items() if k.startswith(group)}, 1e-12)


@pytest.mark.parametrize(("kind", "nonlinearity"), [("rnn", "tanh"), ("rnn", "relu"), ("rnn", "sigmoid"), ("lstm", None), ("gru", None)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_float32_equals_float64(kind, nonlinearity, reverse, ragged):
    """On a net of some size with initial weights: in a net of one hidden unit with large weights a gradient can cancel
    to less than float32 resolves."""
    rng, sizes = np.random.default_rng(13), (8, 3, 5, 6)
    arrays = make_arrays(rng, kind, sizes)
    arrays = [a.astype("float32") if a.ndim == 3 else (a / 6**0.5).astype("float32") for a in arrays]
    setting = options(rng, kind, sizes, reverse, ragged, nonlinearity)
    results = []
    for dtype in ("float32", "float64"):
        draw = np.random.default_rng(14)
        inputs = leaves([a.astype(dtype) for a in arrays])
        outputs = getattr(ops, kind)(*inputs, **setting)
        assert all(o.dtype == dtype for o in outputs)
        joined(outputs).backward(np.concatenate([draw.standard_normal(o.size).astype("float32") for o in outputs]).astype(dtype))
        results.append([[o.data for o in outputs], [t.grad for t in inputs]])
    for ours, exact in zip(*results, strict=True):
        assert_close({str(i): (a.astype("float64"), b) for i, (a, b) in enumerate(zip(ours, exact, strict=True))}, 1e-5)


@kinds
@pytest.mark.parametrize("reverse", [False, True])
def test_each_sequence_of_a_batch_is_as_if_alone(kind, reverse):
    """With lengths, outputs, final states and gradients equal those of the sequences run one by one, cut to their lengths."""
    rng = np.random.default_rng(0)
    arrays = make_arrays(rng, kind, (5, 4, 3, 2))
    lengths = np.array([2, 5, 1, 2])
    together = leaves(arrays)
    outputs = getattr(ops, kind)(*together, reverse=reverse, lengths=lengths)
    cotangents = [rng.standard_normal(o.shape) for o in outputs]
    joined(outputs).backward(np.concatenate([c.ravel() for c in cotangents]))
    alone = leaves(arrays)
    for n, length in enumerate(lengths):
        x, states = alone[0][:length, n : n + 1], [s[n : n + 1] for s in alone[5:]]
        found = getattr(ops, kind)(x, *alone[1:5], *states, reverse=reverse)
        assert np.all(outputs[0].data[length:, n] == 0)
        assert_close({"output": (outputs[0].data[:length, n : n + 1], found[0].data)}, 1e-12)
        assert_close({str(i): (a.data[n : n + 1], b.data) for i, (a, b) in enumerate(zip(outputs[1:], found[1:], strict=True))}, 1e-12)
        parts = [cotangents[0][:length, n], *(c[n] for c in cotangents[1:])]
        joined(found).backward(np.concatenate([p.ravel() for p in parts]))
    assert_close({str(i): (a.grad, b.grad) for i, (a, b) in enumerate(zip(together, alone, strict=True))}, 1e-12)


@kinds
def test_padding_is_not_looked_at(kind):
    """NaN in x beyond a sequence's end, or in the cotangent there, changes nothing."""
    rng = np.random.default_rng(1)
    arrays = make_arrays(rng, kind, (4, 3, 2, 2))
    lengths = np.array([2, 4, 3])
    padding = np.arange(4)[:, None] >= lengths
    cotangent = rng.standard_normal((4, 3, 2))
    results = []
    for filler in (0.0, np.nan):
        x, dy = arrays[0].copy(), cotangent.copy()
        x[padding] = dy[padding] = filler
        inputs = leaves([x, *arrays[1:]])
        y, *_ = getattr(ops, kind)(*inputs, lengths=lengths)
        y.backward(dy)
        results.append([y.data, *(t.grad for t in inputs)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(results[0][1][padding] == 0)


@kinds
def test_a_nan_inside_a_sequence_is_seen(kind):
    arrays = make_arrays(np.random.default_rng(2), kind, (3, 2, 2, 2))
    arrays[0][1, 0, 0] = np.nan
    y, h, *_ = getattr(ops, kind)(*arrays)
    assert np.isnan(y.data[1:, 0]).all()
    assert np.isnan(h.data[0]).all()
    assert np.isfinite(y.data[:, 1]).all()
    assert np.isfinite(y.data[0]).all()


@kinds
def test_reverse_reads_the_sequence_backwards(kind):
    arrays = make_arrays(np.random.default_rng(3), kind, (4, 2, 3, 2))
    turned = [arrays[0][::-1], *arrays[1:]]
    for a, b in zip(getattr(ops, kind)(*arrays, reverse=True), getattr(ops, kind)(*turned), strict=True):
        np.testing.assert_array_equal(a.data, b.data[::-1] if b.ndim == 3 else b.data)


@kinds
@pytest.mark.parametrize("lengths", [None, [2, 3]])
def test_pure_and_repeatable(kind, lengths):
    """Neither pass writes to an input or a cotangent, and a second backward gives the same gradients."""
    rng = np.random.default_rng(4)
    arrays = make_arrays(rng, kind, (3, 2, 2, 2))
    kept = [a.copy() for a in arrays]
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    y = joined(getattr(ops, kind)(*inputs, lengths=lengths))
    dy = rng.standard_normal(y.shape)
    kept_dy = dy.copy()
    first = grad(y, inputs, dy, retain_graph=True)
    again = grad(y, inputs, dy)
    for a, b, x, k in zip(first, again, arrays, kept, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(x, k)
    np.testing.assert_array_equal(dy, kept_dy)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_gates_neither_overflow_nor_lose_their_limit(kind, dtype):
    """Warnings are errors here, so an overflow would fail; tanh and σ stay at their limits."""
    arrays = make_arrays(np.random.default_rng(5), kind, (3, 2, 2, 2), dtype=dtype)
    arrays[0] *= 1e4
    inputs = leaves(arrays)
    y, *_ = getattr(ops, kind)(*inputs)
    y.backward(np.ones(y.shape, dtype))
    assert (np.abs(y.data) <= 1).all()
    assert all(np.isfinite(t.grad).all() for t in inputs)


@kinds
def test_one_tensor_in_two_roles_and_common_ancestors(kind):
    """A second derivative passes through inputs that were computed, and counts every use of a tensor."""
    rng = np.random.default_rng(6)
    arrays = make_arrays(rng, kind, (3, 2, 2, 2))
    rows = GATES[kind] * 2
    fused = getattr(ops, kind)
    results = []
    for function in (fused, fused.op.composed):
        draw = np.random.default_rng(7)
        a, b = leaves([arrays[0], arrays[1]])
        weight = ops.tanh(b) * 2
        state = a[0] * a[1]
        y = joined(function(a * a, weight, weight, b.reshape(-1)[:rows], None, *[state] * STATES[kind]))
        (da, db) = grad(y, [a, b], draw.standard_normal(y.shape), create_graph=True)
        z = joined([da, db])
        results.append([da, db, *grad(z, [a, b], draw.standard_normal(z.shape))])
    assert_close({str(i): (a.data, b.data) for i, (a, b) in enumerate(zip(*results, strict=True))}, 1e-12)


@kinds
@pytest.mark.parametrize("setting", [{}, {"reverse": True}, {"lengths": [3, 1]}, {"lengths": [2, 3], "reverse": True}])
def test_against_finite_differences(kind, setting):
    arrays = make_arrays(np.random.default_rng(8), kind, (3, 2, 2, 2))
    for order in (1, 2):
        report = gradcheck(getattr(ops, kind), *arrays, order=order, **setting)
        assert report.ok, str(report)


@pytest.mark.parametrize("nonlinearity", ["relu", "sigmoid"])
def test_the_other_nonlinearities_against_finite_differences(nonlinearity):
    arrays = make_arrays(np.random.default_rng(9), "rnn", (3, 2, 2, 2))
    assert np.abs(np.stack([a for a in ops.rnn(*arrays, nonlinearity="relu")[0].data.ravel() if a > 0])).min() > 1e-3  # away from the kink
    for order in (1, 2):
        report = gradcheck(ops.rnn, *arrays, order=order, nonlinearity=nonlinearity)
        assert report.ok, str(report)


@kinds
def test_shapes_that_do_not_fit(kind):
    arrays = make_arrays(np.random.default_rng(10), kind, (3, 2, 4, 5))
    function = getattr(ops, kind)
    rows = GATES[kind] * 5

    def error(position, shape):
        wrong = [*arrays]
        wrong[position] = np.zeros(shape)
        with pytest.raises(ShapeError, match=kind) as caught:
            function(*wrong)
        return str(caught.value)

    assert "at least one step" in error(0, (0, 2, 4))
    assert "(2, 4)" in error(0, (2, 4))
    assert f"expected ({rows}, 3)" in error(0, (3, 2, 3))
    assert f"weight_hh has shape ({rows}, 6)" in error(2, (rows, 6)) or "weight_ih" in error(2, (rows, 6))
    assert f"a bias has shape (1,), expected ({rows},)" in error(3, (1,))
    assert "an initial state has shape (1, 2, 5), expected (2, 5)" in error(5, (1, 2, 5))
    assert "an initial state has shape (1, 5), expected (2, 5)" in error(5, (1, 5))


@kinds
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 0], "length 0 is out of range: expected 1 to 3"),
        ([4, 1], "length 4 is out of range: expected 1 to 3"),
        ([1, -1], "length -1 is out of range"),
        ([1], "expected 2 integers"),
        ([[1, 1]], "expected 2 integers"),
        ([1.0, 2.0], "expected 2 integers"),
    ],
)
def test_lengths_that_do_not_fit(kind, lengths, message):
    arrays = make_arrays(np.random.default_rng(11), kind, (3, 2, 4, 5))
    with pytest.raises(ShapeError, match=message):
        getattr(ops, kind)(*arrays, lengths=lengths)


def test_an_unknown_nonlinearity():
    arrays = make_arrays(np.random.default_rng(12), "rnn", (3, 2, 4, 5))
    with pytest.raises(ConfigError, match="nonlinearity 'gelu': expected 'tanh', 'relu' or 'sigmoid'"):
        ops.rnn(*arrays, nonlinearity="gelu")
