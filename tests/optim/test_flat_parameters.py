"""The flat buffers behind an optimiser: their size, their alignment, and which parameters are updated as one; groups by weight decay."""

import inspect

import numpy as np
import pytest
import torch

from tinylm import optim
from tinylm.errors import AnomalyError, ConfigError
from tinylm.nn import Parameter
from tinylm.optim.groups import decay_groups
from tinylm.optim.muon import orthogonalized
from tinylm.optim.optimizer import FlatParameters


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_parameter_begins_at_64_bytes_and_the_rest_is_zero(dtype: str) -> None:
    per_line, kept = 64 // np.dtype(dtype).itemsize, []
    for size in [1, 2, per_line - 1, per_line, per_line + 1, 5 * per_line, 100_003]:
        shapes = [(size,), (), (2, 3), (0, 4)]
        parameters = [Parameter(np.random.default_rng(i).standard_normal(shape).astype(dtype)) for i, shape in enumerate(shapes)]
        before = [p.data.copy() for p in parameters]
        flat = FlatParameters(parameters)
        flat.add_state("momentum")
        kept.append(flat)  # so that the next one lies elsewhere
        lines = -(-size // per_line) + 1 + -(-6 // per_line)
        for array in (flat.values, flat.grads, flat.state["momentum"]):
            assert array.shape == (lines * per_line,)
            assert array.dtype == dtype
            assert array.ctypes.data % 64 == 0
        for i, (p, value) in enumerate(zip(parameters, before, strict=True)):
            np.testing.assert_array_equal(p.data, value)
            assert np.shares_memory(p.data, flat.values) or not p.size
            assert np.shares_memory(flat.view(flat.grads, i), p.grad_buffer) or not p.size
            assert flat.slices[i].start % per_line == 0
        assert flat.values.sum(dtype=np.float64) == pytest.approx(sum(v.sum(dtype=np.float64) for v in before), rel=1e-6, abs=1e-6)
        assert not flat.grads.any()
        assert not flat.state["momentum"].any()


def test_a_gradient_that_is_there_already_is_kept() -> None:
    p = Parameter(np.ones(3))
    p.grad = np.array([1.0, 2.0, 3.0])
    flat = FlatParameters([p])
    assert p.grad is p.grad_buffer
    assert flat.grads[:3].tolist() == [1, 2, 3]


def test_segments_are_the_longest_runs_of_equal_age() -> None:
    parameters = [Parameter(np.ones(n)) for n in (1, 9, 3, 4, 5, 6)]
    flat = FlatParameters(parameters)

    def step(present: list[int]) -> list[tuple[list[int], int]]:
        for i, p in enumerate(parameters):
            p.grad = np.full(p.shape, float(i)) if i in present else None
        found = [(list(members), steps) for members, steps in flat.segments()]
        for members, _ in found:
            part = flat.grads[flat.span(range(members[0], members[-1] + 1))]
            assert part.size == sum(-(-parameters[i].size // 8) * 8 for i in members)
            assert part.sum() == sum(i * parameters[i].size for i in members)
        versions = [p.version for p in parameters]
        flat.advance()
        assert [p.version != v for p, v in zip(parameters, versions, strict=True)] == [i in present for i in range(6)]
        return found

    assert step([0, 1, 2, 3, 4, 5]) == [([0, 1, 2, 3, 4, 5], 0)]
    assert step([1, 2, 5]) == [([1, 2], 1), ([5], 1)]
    assert step([0, 1, 2, 3, 5]) == [([0], 1), ([1, 2], 2), ([3], 1), ([5], 2)]
    assert step([]) == []
    assert flat.steps == [2, 3, 3, 2, 1, 3]


def test_gradients_of_all_groups_and_their_norm() -> None:
    a, b, c = (Parameter(np.ones(n)) for n in (3, 4, 5))
    optimizer = optim.SGD([{"params": [a, b]}, {"params": [c], "lr": 0.5}], lr=0.1)
    assert optimizer.gradients() == []
    assert optimizer.grad_norm() == 0
    a.grad, c.grad = np.array([1.0, 2.0, 2.0]), np.full(5, 2.0)
    assert optimizer.grad_norm() == pytest.approx(np.sqrt(9 + 20), rel=1e-15)
    assert [g.sum() for g in optimizer.gradients()] == [5, 10]
    for g in optimizer.gradients():
        g *= 2  # views
    assert a.grad.tolist() == [2, 4, 4]
    optimizer.step()
    assert (a.data.tolist(), b.data.tolist(), c.data.tolist()) == ([0.8, 0.6, 0.6], [1] * 4, [-1.0] * 5)
    optimizer.zero_grad()
    assert (a.grad, b.grad, c.grad) == (None, None, None)


def test_matrices_decay_and_vectors_do_not() -> None:
    matrix, vector, scalar, stack = (Parameter(np.ones(s)) for s in ((2, 3), (4,), (), (2, 2, 2)))
    frozen = Parameter(np.ones((2, 2)))
    frozen.requires_grad = False
    groups = decay_groups([vector, matrix, frozen, scalar, stack], 0.3, lr=0.5)
    assert [(g["weight_decay"], g["lr"]) for g in groups] == [(0.3, 0.5), (0.0, 0.5)]
    assert all(p is q for p, q in zip(groups[0]["params"], [matrix, stack], strict=True))
    assert all(p is q for p, q in zip(groups[1]["params"], [vector, scalar], strict=True))
    assert [g["weight_decay"] for g in decay_groups([vector], 0.3)] == [0.0]
    assert [g["weight_decay"] for g in decay_groups([matrix], 0.3)] == [0.3]
    assert decay_groups([frozen], 0.3) == []


def test_a_batch_of_matrices_is_made_orthogonal_one_by_one() -> None:
    for shape in [(2, 7, 3), (3, 4, 4), (2, 2, 3, 5)]:
        g = np.random.default_rng(0).standard_normal(shape)
        one_by_one = np.stack([orthogonalized(m) for m in g.reshape(-1, *shape[-2:])]).reshape(shape)
        np.testing.assert_allclose(orthogonalized(g), one_by_one, rtol=0, atol=1e-12)


def test_no_memory_at_all_is_a_possible_momentum() -> None:
    """With betas of 0, a step of Adam is lr g / (|g| + eps)."""
    for kind in (optim.Adam, optim.AdamW):
        p = Parameter(np.array([1.0, 2.0]))
        optimizer = kind([p], lr=0.25, betas=(0.0, 0.0), eps=1e-12, weight_decay=0.0)
        for value in ([0.75, 2.25], [0.5, 2.5]):
            p.grad = np.array([3.0, -7.0])
            optimizer.step()
            assert p.data.tolist() == pytest.approx(value, rel=1e-10)
        with pytest.raises(ConfigError, match="betas"):
            kind([Parameter(np.ones(1))], betas=(0.9, -0.1))
        with pytest.raises(ConfigError, match="betas"):
            kind([Parameter(np.ones(1))], betas=(-0.1, 0.9))
    optim.Muon([Parameter(np.ones((2, 2)))], momentum=0.0)
    with pytest.raises(ConfigError, match="momentum"):
        optim.Muon([Parameter(np.ones((2, 2)))], momentum=-0.1)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_defaults_are_pytorchs(name: str) -> None:
    """But for SGD's learning rate, which must be given."""
    ours = inspect.signature(getattr(optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    for key, parameter in ours.items():
        if (name, key) != ("SGD", "lr"):
            assert parameter.default == theirs[key].default, key


def test_muons_defaults() -> None:
    ours = {key: p.default for key, p in inspect.signature(optim.Muon).parameters.items() if key != "params"}
    assert ours == {
        "lr": 0.02, "momentum": 0.95, "weight_decay": 0.01, "orthogonal": True, "betas": (0.9, 0.999), "eps": 1e-8,
    }  # fmt: skip


def test_parameters_without_a_gradient_are_not_blamed() -> None:
    first, second = Parameter(np.ones(2)), Parameter(np.ones(3))
    optimizer = optim.SGD([first, second], lr=0.1)
    second.grad = np.array([1.0, np.inf, 1.0])
    with pytest.raises(AnomalyError, match=r"that of parameter 1 of group 0, shape \(3,\)"):
        optimizer.step(max_norm=1.0)
