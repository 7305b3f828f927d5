"""Weights as files have them, of random bytes, and the comparison of a kernel that reads them with the gguf library's decoding."""

import functools
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import quants
from helpers import assert_close

import tinylm
from tinylm import Tensor
from tinylm.engine.kernels import launches
from tinylm.engine.products import products, to_bfloat16
from tinylm.engine.stored_weights import StoredWeights
from tinylm.files.stored_tensors import KEPT


def of_bytes(format: str, raw: np.ndarray, columns: int) -> StoredWeights:
    """Returns bytes (rows, bytes of a row) as a matrix."""
    return StoredWeights(format, raw, columns, functools.partial(quants.dequantize, qtype=Kind[format]))


def stored(format: str, rows: int, columns: int, scales: Callable[[Any, Any], np.ndarray] | None = None) -> StoredWeights:
    """Returns random bytes as a matrix, with scales of a sensible size."""
    rng = np.random.default_rng(rows + columns)
    if format in ("F16", "BF16"):
        numbers = rng.standard_normal((rows, columns)).astype(np.float32)
        halves = numbers.astype(np.float16).view(np.uint16) if format == "F16" else (numbers.view(np.uint32) >> 16).astype(np.uint16)
        raw = halves.view(np.uint8).reshape(rows, -1)
    else:
        block, size = gguf.GGML_QUANT_SIZES[Kind[format]]
        raw = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
        for place in KEPT[format][1]:
            made = rng.uniform(-0.05, 0.05, raw.shape[:2]) if scales is None else scales(rng, raw.shape[:2])
            raw[..., place : place + 2] = made.astype("<f2")[..., None].view(np.uint8)
        raw = raw.reshape(rows, -1)
    return of_bytes(format, raw, columns)


def assert_product(w: StoredWeights, batch: int, rng: np.random.Generator, *, rounded: bool = False) -> None:
    """Asserts that Y = X Wᵀ and dX = dY W are the products of the decoded matrix, and that the kernel made them."""
    exact: Callable[[np.ndarray], np.ndarray] = to_bfloat16 if rounded else lambda a: a
    decoded = exact(w.decoded()).astype(np.float64)
    x = Tensor(rng.standard_normal((batch, w.shape[1])).astype(np.float32), requires_grad=True)
    dy = rng.standard_normal((batch, w.shape[0])).astype(np.float32)
    before = launches["linear", "cpu"]
    with products("bfloat16" if rounded else "float32"):
        y = tinylm.linear(x, Tensor(w), frozen=True)
    y.backward(dy)
    assert launches["linear", "cpu"] == before + 1
    true = exact(x.data) @ decoded.T, exact(dy) @ decoded
    assert_close({"y": (y.data, true[0].astype(np.float32)), "dx": (x.grad, true[1].astype(np.float32))}, 1e-5)


def assert_joint_product(op: str, rows: int) -> None:
    """Asserts that an op of several layers in several formats gives what it gives for their decoded weights, to the last bit."""
    rng = np.random.default_rng(4)
    kept = [stored("Q4_K", 16, 256), stored("Q6_K", 16, 256), stored("Q8_0", 8, 256)][: 2 if op == "swiglu_linear" else 3]
    settings: dict[str, Any] = {} if op == "swiglu_linear" else {"frequencies": (1.0, 0.5), "start": 3}
    values = rng.standard_normal((1, rows, 256)).astype(np.float32)
    results = []
    for weights in (kept, [w.decoded() for w in kept]):
        x = Tensor(values, requires_grad=True)
        before = launches[op, "cpu"]
        made = getattr(tinylm.ops, op)(x, *map(Tensor, weights), frozen=True, **settings)
        assert launches[op, "cpu"] == before + 1
        outputs = made if isinstance(made, tuple) else (made,)
        draw = np.random.default_rng(rows)
        sum((y * draw.standard_normal(y.shape).astype(np.float32)).sum() for y in outputs).backward()
        results.append({f"output {i}": y.data for i, y in enumerate(outputs)} | {"dx": x.grad})
    assert_close({name: (results[0][name], expected) for name, expected in results[1].items()}, 0.0)
