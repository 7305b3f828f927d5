"""Operands that are not plain float32 arrays: integers, numbers, two floating dtypes, other byte orders, odd strides."""

import numpy as np
import pytest
from op_cases import DEVICES, run, use

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches, registry
from tinylm.errors import ShapeError
from tinylm.verify.arguments import mapped, on_device
from tinylm.verify.samples import makers, samples_of

LAYERS = {"linear", "swiglu_linear", "rotary_heads", "layer_norm", "rms_norm", "scaled_dot_product_attention", "rnn", "lstm", "gru"}
MEANS_SOMETHING_ELSE = {"scaled_dot_product_attention": 3}  # the mask: integers in it say who attends to whom


def samples(name, count=4):
    """Returns the arguments of some samples, in float32, with the settings."""
    return [(on_device(list(s.args), "cpu", "float32"), s.settings) for s in list(samples_of(name))[:count]]


def floating_places(args):
    """Yields (argument, member of a list or None) of each floating array."""
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            yield i, None
        elif isinstance(a, list):
            yield from ((i, j) for j, m in enumerate(a) if isinstance(m, np.ndarray) and m.dtype.kind == "f")


def with_one(args, place, fn):
    """Returns the arguments with fn of the array at one place."""
    i, j = place
    changed = [list(a) if isinstance(a, list) else a for a in args]
    if j is None:
        changed[i] = np.asarray(fn(args[i]))
    else:
        changed[i][j] = np.asarray(fn(args[i][j]))
    return changed


def value(name, args, settings, device="cpu"):
    y = getattr(tinylm, name)(*on_device(args, device), **settings)
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


MIXED = [name for name in sorted(registry) if name in makers and any(len(list(floating_places(a))) > 1 for a, _ in samples(name, 99))]


# ---------------------------------------------------------------- integers and numbers


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("name", MIXED)
def test_integers_beside_float32_count_as_float32(name, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    for args, settings in samples(name, 3 if device == "cpu" else 1):
        places = [p for p in floating_places(args) if p[0] != MEANS_SOMETHING_ELSE.get(name)]
        for place in places if len(places) > 1 else []:
            for dtype in ("int64", "uint8", "bool"):
                integers = with_one(args, place, lambda a, dtype=dtype: (1 + np.abs(np.round(2 * a))).astype(dtype))
                expected = value(name, with_one(integers, place, lambda a: a.astype(np.float32)), settings, device)
                for a, b in zip(value(name, integers, settings, device), expected, strict=True):
                    assert a.dtype == b.dtype, (place, dtype)
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"{place} {dtype}")


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_gradients_beside_integers(dtype):
    whole, x = np.array([[1], [0]]).astype(dtype), np.array([[0.5, 2.0]], np.float32)
    for fn, slope in [
        (lambda x: x * whole, [[1, 1]]),
        (lambda x: whole * x + whole, [[1, 1]]),
        (lambda x: x / (whole + 1), [[1.5, 1.5]]),
        (lambda x: x - whole, [[2, 2]]),
        (lambda x: x**whole, [[1, 1]]),
        (lambda x: tinylm.maximum(x, whole), [[1.0, 2]]),
        (lambda x: tinylm.where(x > whole, x, whole), [[1, 2]]),
        (lambda x: tinylm.concatenate([x, whole.T]), [[1, 1]]),
        (lambda x: x @ whole, [[1, 0]]),
    ]:
        t = Tensor(x, requires_grad=True)
        y = fn(t)
        assert y.dtype == np.float32
        y.sum().backward()
        assert t.grad.dtype == np.float32
        np.testing.assert_array_equal(t.grad, slope)


def test_the_loss_of_integer_labels_is_float32():
    z = np.array([0.5, -1.0], np.float32)
    loss = tinylm.binary_cross_entropy_with_logits(Tensor(z), np.array([1, 0]))
    assert loss.dtype == np.float32
    assert loss.item() == tinylm.binary_cross_entropy_with_logits(Tensor(z), np.array([1, 0], np.float32)).item()
    assert tinylm.binary_cross_entropy_with_logits(Tensor(z[0]), np.float32(1)).dtype == np.float32


@pytest.mark.parametrize("implementation", ["reference", "auto"])
def test_numpy_scalars_as_settings_do_not_promote_float32(implementation, monkeypatch):
    use(implementation, monkeypatch)
    x = Tensor(np.ones((2, 4), np.float32))
    for y in (
        tinylm.layer_norm(x, eps=np.float64(1e-5)),
        tinylm.rms_norm(x, eps=np.float64(1e-5)),
        tinylm.scaled_dot_product_attention(x, x, x, scale=np.float64(0.5)),
        tinylm.clip(x, np.float64(0), np.float64(0.5)),
        tinylm.dropout(x, np.float64(0.5), key=(0, 0)),
        tinylm.pad(x, ((0, 1), (0, 0)), np.float64(2)),
        x.mean(np.int64(1)),
        x.var(np.int64(1), ddof=np.int64(1)),
        tinylm.stack([x[0, 0], 0.5, 2]),
    ):
        assert y.dtype == np.float32


# ---------------------------------------------------------------- two floating dtypes


@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("name", MIXED)
def test_float64_beside_float32(name, implementation, monkeypatch):
    """Layers refuse it and name both dtypes; arithmetic promotes as NumPy does."""
    use(implementation, monkeypatch)
    launches.clear()
    for args, settings in samples(name):
        places = list(floating_places(args))
        for place in places if len(places) > 1 else []:
            mixed = with_one(args, place, lambda a: a.astype(np.float64))
            if name in LAYERS:
                with pytest.raises(ShapeError, match=r"is float(32|64), \w+ is float(64|32): expected one dtype"):
                    value(name, mixed, settings)
            else:
                for y, y32 in zip(value(name, mixed, settings), value(name, args, settings), strict=True):
                    assert y.dtype == (np.float64 if y32.dtype.kind == "f" else y32.dtype)
    assert name not in LAYERS or not launches


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(4, 2), nn.LayerNorm(4), nn.RMSNorm(4), nn.LSTM(4, 3), nn.GRU(4, 3), nn.RNN(4, 3), nn.TransformerEncoderLayer(4, 2, 8)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_float64_array_is_refused_by_float32_layers(layer):
    x = np.ones((3, 2, 4))
    with pytest.raises(ShapeError, match=r"x is float64, \w+ is float32: expected one dtype; convert one with \.astype"):
        layer(Tensor(x))
    layer(Tensor(x.astype(np.float32)))
    layer(Tensor(x.astype(np.float16)))
    layer(Tensor(x.astype(np.int64)))


# ---------------------------------------------------------------- byte orders and strides

LAYOUTS = {
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "not aligned": lambda a: _in_record(a, "i1"),
    "strides that are no whole numbers of elements": lambda a: _in_record(a, "i2"),
}


def _in_record(a, before):
    record = np.zeros(a.shape, [("before", before), ("a", a.dtype)])
    record["a"] = a
    return record["a"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("implementation", ["reference", "auto"])
@pytest.mark.parametrize("name", [name for name in sorted(registry) if name in makers])
def test_other_layouts_of_the_same_numbers(name, implementation, layout, monkeypatch):
    use(implementation, monkeypatch)
    for args, settings in samples(name):
        found, expected = (run(name, a, settings) for a in (mapped(args, LAYOUTS[layout]), args))
        for a, b in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_tensor_and_its_gradient_have_the_machines_byte_order():
    x = Tensor(np.arange(3).astype(np.dtype("float32").newbyteorder()), requires_grad=True)
    assert x.dtype.isnative
    x.reshape(3, 1).backward(np.ones((3, 1)).astype(x.dtype.newbyteorder()))
    assert x.grad.dtype.isnative
    np.testing.assert_array_equal(x.grad, 1)
    assert to_device(x.data, "cpu") is x.data
