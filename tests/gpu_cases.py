"""Calls of every op with a CUDA kernel at sizes that fill a GPU, compared with float64 on the GPU itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.arrays import array_module
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor

RNG = np.random.default_rng
FREQUENCIES = tuple(500000.0 ** (-i / 64) for i in range(64))


@dataclass(frozen=True)
class Case:
    """args(scale) gives the host arrays of a call of `name`; a scale of 1 gives the sizes for a GPU."""

    name: str
    args: Callable[[int], list[np.ndarray | None]]
    settings: dict[str, Any]


def normal(*shape: int, seed: int = 0, deviation: float = 1.0) -> np.ndarray:
    return RNG(seed).standard_normal(shape, np.float32) * np.float32(deviation)


def _rows(columns: int) -> Callable[[int], list[np.ndarray | None]]:
    return lambda scale: [normal(16384 // scale, columns), 1 + normal(columns, seed=1), normal(columns, seed=2)]


def _logits(scale: int) -> list[np.ndarray | None]:
    return [normal(2048 // scale, 50257)]


def _targets(scale: int) -> list[np.ndarray | None]:
    targets = RNG(1).integers(50257, size=2048 // scale)
    targets[::7] = -100
    return [normal(2048 // scale, 50257), targets]


def _linear(scale: int) -> list[np.ndarray | None]:
    rows = 16384 // scale
    return [normal(rows, 1023), normal(4097, 1023, seed=1, deviation=0.03), normal(4097, seed=2), normal(rows, 4097, seed=3)]


def _joint(*outputs: int) -> Callable[[int], list[np.ndarray | None]]:
    """Returns a function that makes x (1, T, 1024) and the weights of several linear layers of it, without biases."""
    return lambda scale: [normal(1, 4097 // scale, 1024), *(normal(n, 1024, seed=i, deviation=0.03) for i, n in enumerate(outputs, 1))]


def _tokens(scale: int) -> list[np.ndarray | None]:
    """Returns a million ids, every second of them the same: the longest sum for a row of the table."""
    ids = RNG(0).integers(50257, size=(1024 // scale, 1024))
    ids[:, ::2] = 13
    return [ids, normal(50257, 64, seed=1)]


def _heads(width: int) -> Callable[[int], list[np.ndarray | None]]:
    return lambda scale: [normal(4, 12, 2047 // scale, width, seed=seed) for seed in range(3)]


def _shared_heads(scale: int) -> list[np.ndarray | None]:
    """Returns 32 heads of queries and 8 of keys and values, as in an 8-billion-parameter Llama."""
    return [normal(1, heads, 2047 // scale, 128, seed=seed) for seed, heads in enumerate((32, 8, 8))]


def _sequence(gates: int) -> Callable[[int], list[np.ndarray | None]]:
    def args(scale: int) -> list[np.ndarray | None]:
        hidden = 513 // scale + 1
        shapes = (gates * hidden, 256), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)
        return [normal(256 // scale, 64, 256), *(normal(*shape, seed=i, deviation=0.04) for i, shape in enumerate(shapes, 1))]

    return args


CASES = [
    Case("layer_norm", _rows(4097), {}),
    Case("rms_norm", lambda scale: _rows(4097)(scale)[:2], {}),
    Case("softmax", _logits, {}),
    Case("log_softmax", _logits, {}),
    Case("cross_entropy", _targets, {"label_smoothing": 0.1}),
    Case("linear", _linear, {"activation": "gelu"}),
    Case("embedding", _tokens, {}),
    Case("scaled_dot_product_attention", _heads(64), {"causal": True}),
    Case("scaled_dot_product_attention", _heads(80), {}),
    Case("scaled_dot_product_attention", _shared_heads, {"causal": True}),
    Case("split_heads", lambda scale: [normal(4, 2047 // scale, 3 * 768)], {"parts": 3, "heads": 12}),
    Case("rotary", lambda scale: [normal(4, 32, 4097 // scale, 128)], {"frequencies": FREQUENCIES}),
    Case("rotary", lambda scale: [normal(4, 32, 4097 // scale, 128)], {"frequencies": FREQUENCIES, "start": 9, "pairing": "interleaved"}),
    Case("rotary_heads", _joint(4096, 1024, 1024), {"frequencies": FREQUENCIES}),
    Case("swiglu_linear", _joint(4097, 4097), {}),
    Case("swiglu", lambda scale: [normal(4097 // scale, 11008, seed=seed) for seed in range(2)], {}),
    Case("dropout", lambda scale: [normal((1 << 26) // scale + 1)], {"p": 0.1, "key": (3, 5)}),
    Case("rnn", _sequence(1), {}),
    Case("lstm", _sequence(4), {}),
    Case("gru", _sequence(3), {}),
]


def arguments(case: Case, scale: int, dtype: Any) -> list[Any]:
    """Returns the call's arrays on the device, floating ones in dtype."""
    return [None if a is None else to_device(a.astype(dtype) if a.dtype.kind == "f" else a, "cuda") for a in case.args(scale)]


def results(case: Case, arrays: list[Any], dtype: Any) -> list[Any]:
    """Returns the op's outputs for these `arguments`, and the gradients of its floating arrays under random cotangents."""
    tensors = [None if a is None else Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    out = getattr(ops, case.name)(*tensors, **case.settings)
    outputs = out if isinstance(out, tuple) else (out,)
    for i, y in enumerate(outputs):
        cotangent = normal(*y.shape, seed=100 + i) if y.shape else np.float32(1.5)
        y.backward(to_device(np.asarray(cotangent, dtype), "cuda"), retain_graph=True)
    return [*(y.data for y in outputs), *(t.grad for t in tensors if t is not None and t.requires_grad)]


def free_bytes(card: Any) -> int:
    """Returns the free memory of the GPU, what CuPy keeps of freed arrays included."""
    free, _ = card.cuda.runtime.memGetInfo()
    return free + card.get_default_memory_pool().free_bytes()


def relative_error(a: Any, b: Any) -> float:
    """Returns ‖a - b‖ / ‖b‖, computed in float64 on the device of the arrays."""
    xp = array_module(a, b)
    b = b.astype(np.float64)
    norms = [float(to_numpy(xp.sqrt(xp.sum(x * x)))) for x in (a.astype(np.float64) - b, b)]
    return norms[0] / max(norms[1], 1e-30)
