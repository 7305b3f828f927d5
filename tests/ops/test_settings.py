"""The numbers that ops take as settings: the reference, the C kernel and the CUDA kernel refuse the same ones."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinylm import ops
from tinylm.bindings.cpu import attention as cpu_attention
from tinylm.bindings.cpu import losses as cpu_losses
from tinylm.bindings.cpu import normalization as cpu_normalization
from tinylm.bindings.cuda import attention as cuda_attention
from tinylm.bindings.cuda import losses as cuda_losses
from tinylm.bindings.cuda import normalization as cuda_normalization
from tinylm.bindings.cuda import rotary as cuda_rotary
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError

X = np.ones((2, 3), np.float32)
IDS = np.array([0, 1])
NO_NUMBERS = [math.nan, np.float32("nan"), "1", True, [1.0]]
NO_BOUNDS = [math.nan, np.float32("nan"), True]  # of clip, which takes arrays too and refuses texts as every op does
NO_INTEGERS = [1.5, *NO_NUMBERS]


def everywhere(name: str, *arrays: Any) -> list[Any]:
    """Returns the op's function of settings: the reference (in float64), the op with its C kernel, and the bindings themselves."""
    bindings = {
        "layer_norm": (cpu_normalization.layer_norm, cuda_normalization.layer_norm),
        "rms_norm": (cpu_normalization.rms_norm, cuda_normalization.rms_norm),
        "scaled_dot_product_attention": (cpu_attention.scaled_dot_product_attention, cuda_attention.scaled_dot_product_attention),
        "cross_entropy": (cpu_losses.cross_entropy, cuda_losses.cross_entropy),
    }[name]
    op = getattr(ops, name)
    double = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    return [
        lambda **settings: op.op.body(*double, **settings),
        lambda **settings: op(*arrays, **settings),
        *(lambda binding=binding, **settings: binding(*arrays, **settings) for binding in bindings),
    ]


@pytest.mark.parametrize(
    ("name", "arrays", "setting", "wrong"),
    [
        ("layer_norm", (X,), "eps", [-1, -1e-9, math.inf, None, *NO_NUMBERS]),
        ("rms_norm", (X,), "eps", [-1, -1e-9, math.inf, None, *NO_NUMBERS]),
        ("scaled_dot_product_attention", (X, X, X), "scale", [math.inf, -math.inf, *NO_NUMBERS]),
        ("cross_entropy", (X, IDS), "ignore_index", [None, *NO_INTEGERS]),
        ("cross_entropy", (X, IDS), "label_smoothing", [-0.1, 1.1, None, *NO_NUMBERS]),
    ],
)
def test_what_every_device_refuses(name: str, arrays: Any, setting: str, wrong: list[Any]) -> None:
    for call in everywhere(name, *arrays):
        for value in wrong:
            with pytest.raises(ConfigError, match=rf"^{setting} "):
                call(**{setting: value})


OTHERS: list[tuple[Callable[[Any], Any], list[Any]]] = [
    (lambda bound: ops.clip(X, bound), NO_BOUNDS),
    (lambda bound: ops.clip(X, 0, bound), NO_BOUNDS),
    (lambda slope: ops.leaky_relu(X, slope), [math.inf, None, *NO_NUMBERS]),
    (lambda alpha: ops.elu(X, alpha), [math.inf, None, *NO_NUMBERS]),
    (lambda ddof: ops.var(X, ddof=ddof), [math.inf, None, *NO_NUMBERS]),
    (lambda f: ops.rotary(X[:, :2], [f]), [math.inf, None, *NO_NUMBERS[:-1]]),
    (lambda f: cuda_rotary.rotary(X[:, :2], [f]), [math.inf, None, *NO_NUMBERS[:-1]]),
    (lambda start: ops.rotary(X[:, :2], [1.0], start), [None, *NO_INTEGERS]),
    (lambda index: ops.embedding(IDS, X, padding_idx=index), NO_INTEGERS),
    (lambda n: ops.split_heads(X[None], n, 1), [0, -1, None, *NO_INTEGERS]),
    (lambda n: ops.split_heads(X[None].astype(np.float64), 1, n), [0, -1, None, *NO_INTEGERS]),
    (lambda n: ops.nll_loss(X, IDS, ignore_index=n), [None, *NO_INTEGERS]),
    (lambda p: ops.scaled_dot_product_attention(X, X, X, dropout=p), [-0.1, 1.1, None, *NO_NUMBERS]),
    (lambda p: ops.dropout(X, p), [-0.1, 1.1, None, *NO_NUMBERS]),
]


@pytest.mark.parametrize(("call", "wrong"), OTHERS)
def test_refused(call: Callable[[Any], Any], wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(ConfigError, match=r"is |dropout probability"):
            call(value)


def test_numbers_of_every_kind_give_the_same() -> None:
    for x in (X * [1, 2, 4], (X * [1, 2, 4]).astype(np.float32)):
        for eps in (np.float32(0.5), np.float64(0.5), np.array(0.5)):
            np.testing.assert_array_equal(ops.layer_norm(x, eps=eps).data, ops.layer_norm(x, eps=0.5).data)
            np.testing.assert_array_equal(ops.rms_norm(x, eps=eps).data, ops.rms_norm(x, eps=0.5).data)
        np.testing.assert_array_equal(ops.layer_norm(x, eps=0).data, ops.layer_norm(x, eps=0.0).data)
        for scale in (2, np.int64(2), np.array(2.0)):
            found = ops.scaled_dot_product_attention(x, x, x, scale=scale).data
            np.testing.assert_array_equal(found, ops.scaled_dot_product_attention(x, x, x, scale=2.0).data)
    np.testing.assert_array_equal(ops.clip(X, -math.inf, 0.5).data, 0.5 * X)
    np.testing.assert_array_equal(ops.clip(X, np.array([0, 2, 3]), math.inf).data, X * [1, 2, 3])
    assert ops.clip(np.array([1, 5]), 0, 3).dtype.kind == "i"


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var"])
@pytest.mark.parametrize("wanted", [False, True])
def test_numpys_reductions_name_the_op_to_use(name: str, wanted: bool) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes no out, as NumPy's function passes it: call tinylm\.{name} for a tensor$"):
        getattr(np, name)(Tensor(X, requires_grad=wanted), axis=0)
    np.testing.assert_array_equal(np.clip(Tensor(X), 0, 0.5), 0.5 * X)  # NumPy goes on with the values, as before
