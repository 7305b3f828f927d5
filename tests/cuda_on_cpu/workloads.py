"""Small calls that reach every line of every CUDA kernel, compared with the references in float64.

The sanitizers repeat them, and they must reveal planted mistakes. Sizes are not multiples of
a block, of a warp or of a vector's width.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
from helpers import assert_close
from kernel_helpers import results

from tinylm import Tensor, ops
from tinylm.bindings.cuda import indexing, sequences
from tinylm.bindings.cuda.rounding import rounded
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.kernels import using
from tinylm.engine.products import products, to_bfloat16
from tinylm.errors import RangeError
from tinylm.optim.adam import adamw
from tinylm.optim.optimizer import squared_norm


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng((seed, *shape)).standard_normal(shape) * scale).astype(np.float32)


def agree(name: str, *arrays: Any, **settings: Any) -> None:
    """Asserts that the op on the device in float32 gives the reference's values and gradients to 10⁻⁵ of each array's norm."""
    found, expected = results(name, arrays, "float32", "cuda", settings), results(name, arrays, "float64", "cpu", settings)
    assert found.keys() == expected.keys()
    assert_close({k: (found[k], expected[k].astype(np.float32)) for k in expected}, 1e-5)


def agree_rounded(name: str, *arrays: Any, **settings: Any) -> None:
    """Asserts the same with operands rounded to bfloat16, compared with the reference in float32; see `test_rounded_products.py`."""
    with products("bfloat16"):
        found = results(name, arrays, "float32", "cuda", settings)
        with using("reference"):
            expected = results(name, arrays, "float32", "cpu", settings)
    assert found.keys() == expected.keys()
    assert_close({k: (found[k], expected[k]) for k in expected}, 1e-4)


def reported(read: Callable[[Any], object], *bad: int) -> None:
    """Asserts that a kernel which reads three ids reports each bad one among them, with the next value that comes from the device."""
    for each in bad:
        read(to_device(np.array([0, each, 1]), "cuda"))
        said = ""
        try:
            to_numpy(to_device(np.zeros(1), "cuda"))
        except RangeError as error:
            said = str(error)
        assert f" {each} is out of range" in said, "other bytes"


def agree_after_a_residual(name: str, x: np.ndarray, *parameters: np.ndarray) -> None:
    """Asserts the same of the gradient of h in name(h) + h, whose two parts the kernel adds up."""
    found = []
    for device, dtype in (("cuda", "float32"), ("cpu", "float64")):
        given, *rest = (Tensor(to_device(a.astype(dtype), device), requires_grad=True) for a in (x, *parameters))
        h = given * 2
        (getattr(ops, name)(h, *rest) + h).backward(to_device(normal(*x.shape, seed=9).astype(dtype), device))
        found.append({f"gradient {i}": to_numpy(t.grad).astype(np.float32) for i, t in enumerate((given, *rest))})
    assert_close({key: (found[0][key], found[1][key]) for key in found[0]}, 1e-5)


def _layer_norm() -> None:
    for rows, columns in [(5, 300), (17, 33), (2, 1)]:
        x = normal(rows, columns) if columns > 1 else normal(rows, 1) * 0
        agree("layer_norm", x, normal(columns, seed=1), normal(columns, seed=2), eps=0.1)
    agree("layer_norm", normal(300, 40), None, None, eps=1e-5)
    agree_after_a_residual("layer_norm", normal(5, 70), normal(70, seed=1), normal(70, seed=2))


def _rms_norm() -> None:
    for rows, columns in [(5, 300), (17, 33), (2, 1)]:
        agree("rms_norm", normal(rows, columns), normal(columns, seed=1), eps=0.1)
    agree_after_a_residual("rms_norm", normal(5, 70), normal(70, seed=1))


def _probabilities(name: str) -> Callable[[], None]:
    def run() -> None:
        for columns in (300, 70, 1):
            agree(name, normal(3, columns, scale=5) + 90, axis=-1)

    return run


def _softmax() -> None:
    _probabilities("softmax")()
    x = normal(3, 70)
    x[1] = -np.inf
    agree("softmax", x, axis=-1)


def _cross_entropy() -> None:
    for rows, classes, smoothing in [(7, 300, 0.1), (300, 5, 0.0)]:
        targets = np.random.default_rng(0).integers(classes, size=rows)
        targets[2] = -100
        for reduction in ("mean", "sum", "none"):
            agree("cross_entropy", normal(rows, classes, scale=3) + 90, targets, reduction=reduction, label_smoothing=smoothing)
    logits = Tensor(to_device(normal(3, 5), "cuda"))
    reported(lambda targets: ops.cross_entropy(logits, targets), 5, -1)


def _embedding() -> None:
    ids = np.random.default_rng(0).integers(11, size=(7, 41))  # more than a block reads at once
    ids[:, 0] = 10
    agree("embedding", ids, normal(12, 37))
    agree("embedding", ids[:, :9], normal(12, 70), padding_idx=10)
    with patch.object(indexing, "_ENOUGH_BLOCKS", 1):  # a block takes every second tile of columns
        agree("embedding", ids[0, :5], normal(11, 300))
    weight = Tensor(to_device(normal(11, 3), "cuda"))
    reported(lambda ids: ops.embedding(ids, weight), 11, -1)


def _dropout() -> None:
    for n in (1003, 8, 1):
        agree("dropout", normal(n), p=0.3, key=(3, 2**40 + 5))


def _linear() -> None:
    for activation in (None, "relu", "gelu", "silu", "sigmoid"):
        agree("linear", normal(7, 9), normal(70, 9, seed=1), normal(70, seed=2), normal(7, 70, seed=3), activation=activation)
    for rows, activation in [(1, None), (3, "gelu"), (4, "silu")]:  # few enough for one kernel
        agree("linear", normal(rows, 70), normal(9, 70, seed=1), normal(9, seed=2), normal(rows, 9, seed=3), activation=activation)
    x, gate, up = normal(1, 3, 70), normal(9, 70, seed=1), normal(9, 70, seed=2)
    agree("swiglu_linear", x, gate, up, normal(9, seed=3), None)
    agree(
        "rotary_heads",
        x,
        normal(8, 70, seed=1),
        normal(4, 70, seed=2),
        normal(12, 70, seed=3),
        None,
        normal(4),
        None,
        frequencies=[1.0, 0.1],
    )
    agree("linear", normal(3, 300, 5), normal(33, 5, seed=1), normal(33, seed=2))  # sums of rows in two levels


def _rounding() -> None:
    agree_rounded("linear", normal(7, 9), normal(70, 9, seed=1), normal(70, seed=2), activation="gelu")
    numbers = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, -1e-41, 3.4e38, np.inf, -np.inf, 1 + 2**-7, 3.0]
    nan = np.array([0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    values = np.concatenate([np.array(numbers, np.float32), nan])
    found = to_numpy(rounded(to_device(values, "cuda")))
    np.testing.assert_array_equal(found, to_bfloat16(values), err_msg="other bytes")
    np.testing.assert_array_equal(np.signbit(found[: len(numbers)]), np.signbit(numbers), err_msg="other bytes")


def _recurrent(name: str, gates: int) -> Callable[[], None]:
    def run() -> None:
        hidden, inputs, batch = 37, 5, 9
        shapes = (gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,), (batch, hidden)
        arrays = [normal(3, batch, inputs), *(normal(*shape, seed=i, scale=0.3) for i, shape in enumerate(shapes, 1))]
        extra = [normal(batch, hidden, seed=7)] if name == "lstm" else []
        lengths = [3, 1, 2, 3, 1, 3, 2, 2, 3]
        with patch.object(sequences, "card_of", lambda array: sequences.Card(1, 0, cooperative=False)):  # step by step
            for settings in [{}, {"lengths": lengths}, {"lengths": lengths, "reverse": True}]:
                agree(name, *arrays, *extra, **settings)
            if name == "rnn":
                for nonlinearity in ("relu", "sigmoid"):
                    agree(name, *arrays, nonlinearity=nonlinearity)
        _sequence(name, gates, lengths)

    return run


def _sequence(name: str, gates: int, lengths: list[int]) -> None:
    """Runs a layer in one launch per direction: three blocks of 3, 3 and 1 hidden units, which have 4 of the 9 rows at a time backward."""
    hidden, batch = 7, len(lengths)
    rows, states = gates * hidden, 2 if name == "lstm" else 1
    shapes = (rows, 5), (rows, hidden), (rows,), (rows,), *[(batch, hidden)] * states
    arrays = [normal(3, batch, 5), *(normal(*shape, seed=i, scale=0.3) for i, shape in enumerate(shapes, 1))]
    card = sequences.Card(3, 4 * (3 * rows + 4 * (rows + 3)), cooperative=True)
    with patch.object(sequences, "card_of", lambda array: card):
        agree(name, *arrays)
        agree(name, *arrays, lengths=lengths, reverse=True)
        agree_rounded(name, *arrays, lengths=lengths)


def _rotary() -> None:
    frequencies = [10000.0 ** (-i / 21) for i in range(21)]
    for pairing in ("half", "interleaved"):
        agree("rotary", normal(2, 9, 5, 42), frequencies=frequencies, start=3, pairing=pairing)


def _swiglu() -> None:
    for n in (1003, 8, 1):
        agree("swiglu", normal(n, scale=4), normal(n, seed=1))


def _attention(width: int) -> Callable[[], None]:
    def run() -> None:
        steps, keys = 70, 75
        q, k, v = normal(2, 2, steps, width), normal(2, 2, keys, width, seed=1), normal(2, 2, keys, width - 3, seed=2)
        agree("scaled_dot_product_attention", q, k, v, None, causal=True)
        mask = np.random.default_rng(0).random((2, 1, steps, keys)) > 0.3
        mask[0, 0, 5] = False
        agree("scaled_dot_product_attention", q, k, v, mask, dropout=0.2, key=(3, 5))
        q = normal(2, 6, steps, width, seed=3)  # three heads of queries per head of keys
        agree("scaled_dot_product_attention", q, k, v, mask, causal=True, dropout=0.2, key=(3, 5))
        agree_rounded("scaled_dot_product_attention", q, k, v, mask, causal=True, dropout=0.2, key=(3, 5))

    return run


def _adamw() -> None:
    arrays = [normal(1003, seed=i) for i in range(4)]
    arrays[3] **= 2
    for scale in (None, np.array(0.25, np.float32)):
        expected, found = [a.astype(np.float64) for a in arrays], [to_device(a, "cuda") for a in arrays]
        settings: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "decoupled": True, "step": 3}
        adamw(*expected, **settings, grad_scale=None if scale is None else float(scale))
        adamw(*found, **settings, grad_scale=None if scale is None else to_device(scale, "cuda"))
        names = ("values", "grads", "exp_avg", "exp_avg_sq")
        pairs = {n: (to_numpy(f), e.astype(np.float32)) for n, f, e in zip(names, found, expected, strict=True)}
        assert_close(pairs, 1e-5)


def _squared_norm() -> None:
    x, total = normal(5003), to_device(np.array(2, np.float32), "cuda")
    squared_norm(to_device(x, "cuda"), total)
    expected = np.asarray(2 + np.sum(x.astype(np.float64) ** 2), np.float32)
    assert_close({"total": (to_numpy(total), expected)}, 1e-5)


WORKLOADS: dict[str, Callable[[], None]] = {  # file of kernels/cuda -> what runs its kernels
    "adamw": _adamw,
    "column_sums": _linear,
    "cross_entropy": _cross_entropy,
    "dropout": _dropout,
    "embedding": _embedding,
    "gru": _recurrent("gru", 3),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "log_softmax": _probabilities("log_softmax"),
    "lstm": _recurrent("lstm", 4),
    "rms_norm": _rms_norm,
    "rnn": _recurrent("rnn", 1),
    "rotary": _rotary,
    "scaled_dot_product_attention_32": _attention(21),
    "scaled_dot_product_attention_64": _attention(44),
    "scaled_dot_product_attention_128": _attention(99),
    "round_to_bfloat16": _rounding,
    "softmax": _softmax,
    "squared_norm": _squared_norm,
    "swiglu": _swiglu,
}
