"""The matrix products of one step of a workload, read from the calls of the CPU kernels while a step runs.

Those inside attention (scores times values) and inside a recurrent step (state times weights) are not among them: their kernels mix
them with other work, block by block.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.tinylm_side import tinylm_side
from benchmark.workloads import Workload
from tinylm.bindings.cpu.library import library

READING_ROWS = 4  # with so few, a product takes as long as reading its weights


@dataclass(frozen=True)
class Product:
    """C = A B with A (m, k) and B (k, n); with a_transposed or b_transposed, the transpose is what is stored."""

    m: int
    n: int
    k: int
    a_transposed: bool = False
    b_transposed: bool = False

    @property
    def name(self) -> str:
        """Returns what the product is in a linear layer Y = X Wᵀ."""
        return "dW = dYᵀ X" if self.a_transposed else "Y = X Wᵀ" if self.b_transposed else "dX = dY W"

    @property
    def reads_weights(self) -> bool:
        return self.m <= READING_ROWS and self.b_transposed and not self.a_transposed

    @property
    def operations(self) -> int:
        """Returns the number of floating-point operations: a multiplication and an addition for each k of each number of C."""
        return 2 * self.m * self.n * self.k

    @property
    def weight_bytes(self) -> int:
        return 4 * self.n * self.k


def _forward(rows: int, inputs: int, *outputs: int) -> list[Product]:
    """Returns the products of linear layers of the same input."""
    return [Product(rows, n, inputs, b_transposed=True) for n in outputs if n]


def _backward(rows: int, inputs: int, outputs: int, frozen: bool = False) -> list[Product]:
    """Returns the products of the gradients of a linear layer: of its input and, unless that is frozen, of its weight."""
    of_weight = [] if frozen else [Product(outputs, inputs, rows, a_transposed=True)]
    return [Product(rows, inputs, outputs), *of_weight]


def _linear_backward(rows: int, inputs: int, outputs: int, *arrays: Any) -> list[Product]:
    return _backward(rows, inputs, outputs, arrays[-2] is None)


def _matmul(
    batches: int,
    m: int,
    n: int,
    k: int,
    _rounded: int,
    _a: Any,
    _a_next: int,
    a_transposed: int,
    _b: Any,
    _b_next: int,
    b_transposed: int,
    _c: Any,
) -> list[Product]:
    return [Product(m, n, k, bool(a_transposed), bool(b_transposed))] * batches


def _joint_forward(sizes: Any, *_: Any) -> list[Product]:
    return _forward(sizes.rows, sizes.inputs, *(layer.outputs for layer in sizes.layers))


def _joint_backward(sizes: Any, *arrays: Any) -> list[Product]:
    outputs = [(layer.outputs, dweight) for layer, dweight in zip(sizes.layers, arrays[-6:-3], strict=True) if layer.outputs]
    return [p for n, dweight in outputs for p in _backward(sizes.rows, sizes.inputs, n, dweight is None)]


def _recurrent_forward(gates: int, s: Any, *_: Any) -> list[Product]:
    return _forward(s.steps * s.batch, s.inputs, gates * s.hidden)


def _recurrent_backward(gates: list[int], s: Any, *_: Any) -> list[Product]:
    """gates: how many gates' rows of the input's weights each pair of products has."""
    rows = s.steps * s.batch
    of_inputs = [p for count in gates for p in _backward(rows, s.inputs, count * s.hidden)]
    return [*of_inputs, Product(sum(gates) * s.hidden, s.hidden, rows, a_transposed=True)]


READERS: dict[str, Callable[..., list[Product]]] = {  # by the name of the C function: the products of a call, from its arguments
    "linear_forward": lambda rows, inputs, outputs, *_: _forward(rows, inputs, outputs),
    "linear_backward": _linear_backward,
    "matmul_batches": _matmul,
    "joint_linear_forward": _joint_forward,
    "rotary_heads_forward": _joint_forward,
    "joint_linear_backward": _joint_backward,
    "rnn_forward": functools.partial(_recurrent_forward, 1),
    "rnn_backward": functools.partial(_recurrent_backward, [1]),
    "lstm_forward": functools.partial(_recurrent_forward, 4),
    "lstm_backward": functools.partial(_recurrent_backward, [4]),
    "gru_forward": functools.partial(_recurrent_forward, 3),
    "gru_backward": functools.partial(_recurrent_backward, [2, 1]),
}


@contextlib.contextmanager
def counted() -> Iterator[Counter[Product]]:
    """Counts the products of all calls of the kernels within it. It changes nothing if there are no kernels."""
    found = library()
    products: Counter[Product] = Counter()
    originals = {} if found is None else {name: found.functions[name] for name in READERS}

    def reading(name: str) -> Callable[..., int]:
        def run(*arguments: Any) -> int:
            products.update(READERS[name](*arguments))
            return int(originals[name](*arguments))

        return run

    try:
        if found is not None:
            found.functions.update({name: reading(name) for name in originals})
        yield products
    finally:
        if found is not None:
            found.functions.update(originals)


def products_of(work: Workload) -> Counter[Product]:
    """Returns the products of one step, and how often it computes each."""
    step = tinylm_side(work, "cpu").step
    with counted() as products:
        step(next(work.batches(1)))
    return products
