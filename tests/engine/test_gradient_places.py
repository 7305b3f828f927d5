"""Gradients that a GPU's kernels write where they are kept, and add to what has arrived: the same as with copies and additions."""

from typing import Any

import numpy as np
import pytest
from helpers import assert_close

import tinylm
from tinylm import Tensor, ops
from tinylm.engine import gradient_places
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.gradient_places import buffer_for, offer, sum_so_far
from tinylm.optim import SGD


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Leaves:
    """Parameters of one optimiser on a device: w (6, 6), b (6,), table (5, 6)."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.w, self.b, self.table = (self.leaf(normal(*shape, seed=i)) for i, shape in enumerate([(6, 6), (6,), (5, 6)]))
        self.optimizer = SGD([self.w, self.b, self.table], lr=0.1)

    def leaf(self, values: np.ndarray) -> Tensor:
        return Tensor(to_device(values, self.device), requires_grad=True)

    def loss(self, tied: bool = True) -> Tensor:
        """Returns a scalar of a table that is also a projection, a residual around a norm, and a weight in two layers."""
        x = ops.embedding(to_device(np.array([[0, 3, 3], [4, 1, 0]]), self.device), self.table)
        h = x + ops.linear(ops.layer_norm(x, self.b, self.b), self.w, self.b, activation="gelu")
        h = h + ops.swiglu_linear(ops.rms_norm(h, self.b), self.w, self.w)
        logits = ops.linear(h, self.table) if tied else h
        return (logits * to_device(normal(*logits.shape, seed=9), self.device)).sum()

    def gradients(self) -> list[np.ndarray]:
        return [to_numpy(p.grad) for p in (self.w, self.b, self.table)]


@pytest.mark.parametrize("times", [1, 2])
def test_the_gradients_are_those_of_the_cpu(cuda: Any, times: int) -> None:
    """Also where they accumulate over several losses, and where one array is several arguments."""
    found = []
    for device in ("cuda", "cpu"):
        leaves = Leaves(device)
        for _ in range(times):
            leaves.loss().backward()
        assert all(p.grad is p.grad_buffer for p in (leaves.w, leaves.b, leaves.table))
        found.append(leaves.gradients())
    assert_close({str(i): pair for i, pair in enumerate(zip(*found, strict=True))}, 1e-5)


def test_grad_writes_into_no_buffer(cuda: Any) -> None:
    leaves = Leaves("cuda")
    leaves.loss().backward()
    before = [g.copy() for g in leaves.gradients()]
    found = tinylm.grad(leaves.loss() * 3, [leaves.w, leaves.b, leaves.table])
    for kept, now in zip(before, leaves.gradients(), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert_close({str(i): (g.numpy(), 3 * kept) for i, (g, kept) in enumerate(zip(found, before, strict=True))}, 1e-5)


def test_nothing_stays_offered(cuda: Any) -> None:
    leaves = Leaves("cuda")
    leaves.loss().backward()
    assert not gradient_places._offers.buffers
    assert not gradient_places._offers.sums
    leaves.optimizer.zero_grad()
    broken = Tensor(to_device(normal(6), "cuda"), requires_grad=True) * 2
    broken.node.vjp = lambda dy: 1 // 0
    with pytest.raises(ZeroDivisionError):
        (leaves.loss(tied=False) + broken.sum()).backward()
    assert not gradient_places._offers.buffers


def test_what_is_offered() -> None:
    """A buffer of a leaf without a gradient, and the sum of an intermediate result; nothing for two arguments with one array."""
    leaf, other, third = (Tensor(normal(3), requires_grad=True) for _ in range(3))
    inner = third * 2
    leaf.grad_buffer, other.grad_buffer = np.zeros(3, np.float32), np.zeros(3, np.float32)
    other.grad = other.grad_buffer
    slots = [normal(3, seed=5)]
    offer([None, leaf, other, inner], {inner.node: slots})
    assert buffer_for(other.data) is None
    assert buffer_for(inner.data) is sum_so_far(leaf.data) is None
    assert buffer_for(leaf.data) is leaf.grad_buffer
    assert buffer_for(leaf.data) is None, "once"
    total = slots[0]
    assert sum_so_far(inner.data) is total
    assert slots == [None], "the vjp returns it with its own gradient added"
    offer([leaf, leaf, inner, Tensor(inner.data, requires_grad=True)], {inner.node: [total]})
    assert buffer_for(leaf.data) is sum_so_far(inner.data) is None
    offer([], {})
