"""Optimisers compared with PyTorch's, flat buffers, clipping, state."""

import numpy as np
import pytest
import torch

import tinylm
from tinylm import optim
from tinylm.errors import AnomalyError, CheckpointError, ConfigError
from tinylm.nn import Parameter

SHAPES = [(3, 5), (7,), (), (2, 3, 4)]

CASES = {
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    "sgd decay": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.3}),
    "sgd momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd nesterov": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, torch.optim.Adam, {"lr": 0.1}),
    "adam decay": (optim.Adam, torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.2, "betas": (0.8, 0.9), "eps": 1e-4}),
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
}


def parameters(seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)
    return [Parameter(rng.standard_normal(s)) for s in SHAPES]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(s) for s in SHAPES]


@pytest.mark.parametrize("max_norm", [None, 0.5, 1e9])
@pytest.mark.parametrize("case", CASES)
def test_steps_equal_pytorchs(case: str, max_norm: float | None) -> None:
    kind, reference_kind, settings = CASES[case]
    ours = parameters()
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    optimizer, reference = kind(ours, **settings), reference_kind(theirs, **settings)
    for step in range(6):
        absent = step % len(SHAPES) if step in (2, 3) else None  # parameters without a gradient, in turn
        for i, (p, t, g) in enumerate(zip(ours, theirs, gradients(step), strict=True)):
            p.grad, t.grad = (None, None) if i == absent else (g.copy(), torch.tensor(g))
        if max_norm is not None:
            want = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
        norm = optimizer.step(max_norm=max_norm)
        reference.step()
        if max_norm is not None:
            assert norm == pytest.approx(want, rel=1e-12)
        for p, t in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_groups_have_their_own_settings() -> None:
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = optim.SGD([{"params": [a], "lr": 0.0}, {"params": [b]}], lr=0.5)
    a.grad = b.grad = np.ones(3)
    optimizer.step()
    assert a.data.tolist() == [1, 1, 1]
    assert b.data.tolist() == [0.5, 0.5, 0.5]


def test_a_parameter_without_gradient_is_skipped_decay_included() -> None:
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = optim.AdamW([a, b], lr=0.1, weight_decay=0.5)
    b.grad = np.ones(3)
    optimizer.step(max_norm=1.0)
    assert a.data.tolist() == [1, 1, 1]
    assert (b.data != 1).all()


def test_parameters_and_gradients_live_in_flat_buffers_at_aligned_places() -> None:
    ours = parameters()
    before = [p.data.copy() for p in ours]
    optimizer = optim.AdamW(ours)
    bases = {id(p.data.base if p.data.base.base is None else p.data.base.base) for p in ours}
    assert len(bases) == 1
    for p, value in zip(ours, before, strict=True):
        assert p.data.ctypes.data % 64 == 0
        np.testing.assert_array_equal(p.data, value)
    loss = tinylm.sum(ours[0] * np.random.default_rng(0).standard_normal(SHAPES[0]))
    loss.backward()
    assert ours[0].grad is ours[0].grad_buffer
    assert ours[1].grad is None
    optimizer.zero_grad()
    assert ours[0].grad is None


def test_an_update_counts_as_an_in_place_write() -> None:
    p = Parameter(np.ones(3))
    optimizer = optim.SGD([p], lr=0.1)
    y = p * p
    y.backward(np.ones(3), retain_graph=True)
    optimizer.step()
    with pytest.raises(tinylm.errors.AutogradError, match=r"multiply .*changed in place"):
        y.backward(np.ones(3))


def test_state_round_trip_continues_exactly() -> None:
    def run(stop: int | None) -> list[np.ndarray]:
        ours = parameters()
        optimizer = optim.AdamW(ours, lr=0.1)
        for step in range(6):
            if step == stop:
                values, state = [p.data.copy() for p in ours], optimizer.state_dict()
                ours = [Parameter(v) for v in values]
                optimizer = optim.AdamW(ours, lr=0.1)
                optimizer.load_state_dict(state)
            for p, g in zip(ours, gradients(step), strict=True):
                p.grad = g
            optimizer.step(max_norm=1.0)
        return [p.data for p in ours]

    for a, b in zip(run(None), run(3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_nan_gradient_updates_nothing_and_is_named() -> None:
    ours = parameters()
    optimizer = optim.AdamW(ours)
    before = [p.data.copy() for p in ours]
    for p, g in zip(ours, gradients(0), strict=True):
        p.grad = g
    ours[1].grad[2] = np.nan
    with pytest.raises(AnomalyError, match=r"norm is nan.*parameter 1 of group 0, shape \(7,\)"):
        optimizer.step(max_norm=1.0)
    for p, value in zip(ours, before, strict=True):
        np.testing.assert_array_equal(p.data, value)


def test_bad_input() -> None:
    p = Parameter(np.ones(3))
    with pytest.raises(ConfigError, match="no parameters"):
        optim.SGD([])
    with pytest.raises(ConfigError, match="twice"):
        optim.SGD([p, p])
    with pytest.raises(ConfigError, match=r"\['momentun'\]"):
        optim.SGD([{"params": [p], "momentun": 0.9}])
    with pytest.raises(ConfigError, match="leaf tensors"):
        optim.SGD([p * 2])
    with pytest.raises(ConfigError, match="betas"):
        optim.Adam([p], betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match="nesterov"):
        optim.SGD([p], nesterov=True)
    optimizer = optim.AdamW([p])
    with pytest.raises(CheckpointError, match=r"missing 'exp_avg.0'.*unexpected 'x'"):
        optimizer.load_state_dict({"step.0": np.array(0), "exp_avg_sq.0": np.ones(3), "x": np.ones(1)})
    p.data = np.ones(3)
    p.grad = np.ones(3)
    with pytest.raises(ConfigError, match="make the optimiser last"):
        optimizer.step()


def test_clip_grad_norm_equals_pytorchs() -> None:
    ours = parameters()
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    for p, t, g in zip(ours, theirs, gradients(0), strict=True):
        p.grad, t.grad = g.copy(), torch.tensor(g)
    norm = optim.clip_grad_norm_(ours, 0.7)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, 0.7).item(), rel=1e-12)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="-1"):
        optim.clip_grad_norm_(ours, -1.0)
