"""Muon: its orthogonal updates, and its AdamW groups."""

import numpy as np
import pytest
import torch

from tinylm import optim
from tinylm.errors import CheckpointError, ConfigError
from tinylm.nn import Parameter
from tinylm.optim.muon import COEFFICIENTS, STEPS, orthogonalized
from tinylm.verify.torch.optimizers import TorchMuon

SHAPES = [(6, 4), (4, 6), (8, 4), (5, 5), (1, 3), (3, 1), (1, 1)]  # (8, 4) and (3, 1) are stacks of squares


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 7), (1, 1)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    g = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    x = s / np.sqrt((s * s).sum(-1, keepdims=True))
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        x = a * x + b * x**3 + c * x**5
    np.testing.assert_allclose(orthogonalized(g), (u * x[..., None, :]) @ vt, rtol=1e-5, atol=1e-5)  # because of the 1e-7 added to the norm
    assert (x > 0.6).all()
    assert (x < 1.3).all()


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_steps_are_the_formula_and_the_other_groups_are_adamw(max_norm: float | None) -> None:
    rng = np.random.default_rng(0)
    ours = [Parameter(rng.standard_normal(s)) for s in SHAPES]
    vectors = [Parameter(rng.standard_normal(3)) for _ in range(2)]
    theirs, their_vectors = ([torch.tensor(p.data.copy(), requires_grad=True) for p in ps] for ps in (ours, vectors))
    adamw = {"params": vectors, "orthogonal": False, "lr": 0.1, "betas": (0.8, 0.9)}
    optimizer = optim.Muon([{"params": ours}, adamw], lr=0.03, momentum=0.9, weight_decay=0.2)
    muon = TorchMuon(theirs, lr=0.03, momentum=0.9, weight_decay=0.2)
    reference = torch.optim.AdamW(their_vectors, lr=0.1, betas=(0.8, 0.9), weight_decay=0.2)
    for step in range(5):
        absent = 3 if step == 2 else None
        for i, (p, t) in enumerate(zip([*ours, *vectors], [*theirs, *their_vectors], strict=True)):
            g = rng.standard_normal(p.shape)
            p.grad, t.grad = (None, None) if i == absent else (g.copy(), torch.tensor(g))
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_([*theirs, *their_vectors], max_norm)
        optimizer.step(max_norm=max_norm)
        reference.step()
        muon.step()
        for p, t in zip([*ours, *vectors], [*theirs, *their_vectors], strict=True):
            np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_pytorchs_own_muon_agrees_as_far_as_its_bfloat16_goes() -> None:
    rng = np.random.default_rng(1)
    p = Parameter(rng.standard_normal((12, 8)))  # not a stack of squares, which PyTorch does not know
    t = torch.tensor(p.data.copy(), requires_grad=True)
    start = p.data.copy()
    ours = optim.Muon([p], lr=0.1, weight_decay=0.0)
    theirs = torch.optim.Muon([t], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        g = rng.standard_normal(p.shape)
        p.grad, t.grad = g.copy(), torch.tensor(g)
        ours.step()
        theirs.step()
    moved, expected = p.data - start, t.detach().numpy() - start
    assert np.linalg.norm(moved - expected) < 0.05 * np.linalg.norm(expected)


def test_state_and_what_muon_refuses() -> None:
    def made() -> tuple[list[Parameter], optim.Muon]:
        ps = [Parameter(np.ones((2, 3))), Parameter(np.ones(4))]
        return ps, optim.Muon([{"params": ps[:1]}, {"params": ps[1:], "orthogonal": False}], lr=0.1)

    def steps(ps: list[Parameter], optimizer: optim.Muon, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for p in ps:
            p.grad = rng.standard_normal(p.shape)
        optimizer.step()

    ps, optimizer = made()
    steps(ps, optimizer, 0)
    state = optimizer.state_dict()
    assert set(state) == {"step.0", "exp_avg.0", "step.1", "exp_avg.1", "exp_avg_sq.1", "lr.0", "lr.1"}
    others, other = made()
    for p, q in zip(others, ps, strict=True):
        p.data[...] = q.data
    other.load_state_dict(state)
    steps(ps, optimizer, 1)
    steps(others, other, 1)
    for p, q in zip(others, ps, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    with pytest.raises(CheckpointError, match=r"unexpected 'exp_avg_sq\.1'"):
        optim.Muon([Parameter(np.ones((2, 3))), Parameter(np.ones((2, 2)))]).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"shape \(3,\): expected a matrix"):
        optim.Muon([Parameter(np.ones(3))])
    with pytest.raises(ConfigError, match=r"momentum is 1\.0"):
        optim.Muon([Parameter(np.ones((3, 3)))], momentum=1.0)
