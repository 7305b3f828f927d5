"""Kernels at the sizes that they are made for, and beyond 2³¹ elements, where a 32-bit index would overflow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_cases import CASES, Case, arguments, free_bytes, normal, relative_error, results

from tinylm import Tensor, no_grad, ops
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.kernels import launches, registry
from tinylm.optim import SGD, AdamW, Optimizer
from tinylm.optim.optimizer import squared_norm

pytestmark = pytest.mark.cuda
TOLERANCE = 1e-5


def ids_of(cases: list[Case]) -> list[str]:
    return [f"{case.name} {i}" for i, case in enumerate(cases)]


@pytest.mark.parametrize("case", CASES, ids=ids_of(CASES))
def test_values_and_gradients(case: Case, scale: int) -> None:
    launches.clear()
    found = results(case, arguments(case, scale, np.float32), np.float32)
    if ("cuda", "float32") in registry[case.name].kernels:
        assert launches[case.name, "cuda"] == 1
    for i, (a, b) in enumerate(zip(found, results(case, arguments(case, scale, np.float64), np.float64), strict=True)):
        assert relative_error(a, b) <= TOLERANCE, i


def test_dropout_masks_are_those_of_the_host(scale: int) -> None:
    x = np.ones((1 << 26) // scale + 3, np.float32)
    host, there = (ops.dropout(Tensor(a), 0.3, key=(11, 7)).numpy() for a in (x, to_device(x, "cuda")))
    np.testing.assert_array_equal(host, there)


@pytest.mark.parametrize(
    "make", [lambda p: AdamW(p, lr=0.1, weight_decay=0.1), lambda p: SGD(p, lr=0.1, momentum=0.9)], ids=["adamw", "sgd"]
)
def test_updates(make: Callable[[Any], Optimizer], scale: int) -> None:
    size = (1 << 26) // scale + 5
    after = []
    for dtype in (np.float32, np.float64):
        p = Tensor(to_device(normal(size).astype(dtype), "cuda"), requires_grad=True)
        optimizer = make([p])
        for k in range(3):
            p.grad = to_device(normal(size, seed=k + 1).astype(dtype), "cuda")
            optimizer.step(max_norm=1.0)
        after.append(p.data)
    assert relative_error(*after) <= TOLERANCE


# ---------------------------------------------------------------- past 2³¹ elements


@pytest.fixture
def many(card: Any, scale: int) -> int:
    """Returns the number of rows of 65,536 columns that make more than 2³¹ elements. Skips the test if the GPU lacks
    the memory for three such arrays."""
    rows = (2**31 // 65536 + 8) // scale
    free, needed = free_bytes(card), 3 * 4 * rows * 65536
    if free < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of free memory on the GPU, which has {free / 2**30:.0f}")
    return rows


ROW_OPS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "layer_norm": ops.layer_norm,
    "rms_norm": ops.rms_norm,
    "cross_entropy": lambda x: ops.cross_entropy(x, Tensor(to_device(np.full(len(x), 17), x.device)), reduction="none"),
}


@pytest.mark.parametrize("name", ROW_OPS)
def test_the_last_row(card: Any, many: int, name: str) -> None:
    row = normal(65536)
    x = card.zeros((many, 65536), np.float32)
    x[-1] = to_device(row, "cuda")
    with no_grad():
        last = ROW_OPS[name](Tensor(x)).data[-1]
        expected = ROW_OPS[name](Tensor(row[None].astype(np.float64))).data[-1]
    assert relative_error(last, to_device(np.asarray(expected), "cuda")) <= TOLERANCE


def test_the_norm_of_the_last_elements(card: Any, many: int) -> None:
    grad = card.zeros(many * 65536, np.float32)
    tail = normal(1000)
    grad[-1000:] = to_device(tail, "cuda")
    total = card.zeros((), np.float32)
    squared_norm(grad, total)
    np.testing.assert_allclose(to_numpy(total), np.sum(tail.astype(np.float64) ** 2), rtol=TOLERANCE)
