"""Losses over targets of which some or all are ignored: an ignored row adds nothing, whatever stands in it."""

import numpy as np
import pytest
import torch
from op_cases import use
from torch.nn import functional as F

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches

VARIANTS = [
    (name, {"reduction": reduction} | more)
    for name in ("cross_entropy", "nll_loss")
    for reduction in ("mean", "sum", "none")
    for more in ({}, *([{"label_smoothing": 0.2}] if name == "cross_entropy" else []))
]
IMPLEMENTATIONS = [("reference", "cpu"), ("auto", "cpu"), ("reference", "emulated"), ("auto", "emulated")]
variants = pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=str)
implementations = pytest.mark.parametrize(("implementation", "device"), IMPLEMENTATIONS, indirect=["device"])
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's: the mean over no target is 0/0


def rows(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def both(name, scores, targets, settings, device, cotangent=None):
    """Returns (loss, gradient) of tinylm and of PyTorch."""
    ours = Tensor(to_device(scores, device), requires_grad=True)
    y = getattr(tinylm, name)(ours, to_device(targets, device), **settings)
    c = np.ones(y.shape, np.float32) if cotangent is None else np.broadcast_to(cotangent, y.shape).astype(np.float32)
    y.backward(to_device(c, device))
    theirs = torch.tensor(scores, requires_grad=True)
    t = getattr(F, name)(theirs, torch.tensor(targets), **settings)
    t.backward(torch.tensor(c))
    return (y.numpy(), Tensor(ours.grad).numpy()), (t.detach().numpy(), theirs.grad.numpy())


@variants
@implementations
@pytest.mark.parametrize("targets", [[-100, -100, -100], [-100, 2, -100], [1, 0, 3]])
def test_losses_and_gradients_are_pytorchs(name, settings, targets, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    before = sum(launches.values())
    (loss, gradient), (expected, slope) = both(name, rows(3, 4), np.array(targets), settings, device, cotangent=0.5)
    assert (sum(launches.values()) > before) == (implementation == "auto" and name == "cross_entropy"), "the kernel ran where there is one"
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)  # NaN for the mean over no target
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)
    assert not gradient[np.array(targets) < 0].any()


@variants
@implementations
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_an_ignored_row_stays_there(name, settings, value, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    scores = rows(3, 4)
    targets = np.array([2, -100, 1])
    (loss, gradient), _ = both(name, scores, targets, settings, device)
    scores[1] = value
    (same_loss, same_gradient), _ = both(name, scores, targets, settings, device)
    np.testing.assert_array_equal(same_loss, loss)
    np.testing.assert_array_equal(same_gradient, gradient)


@variants
@implementations
def test_a_cotangent_of_nan_does_not_reach_ignored_rows(name, settings, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    (_, gradient), _ = both(name, rows(2, 4), np.array([-100, -100]), settings, device, cotangent=np.nan)
    np.testing.assert_array_equal(gradient, 0)


@implementations
def test_a_micro_batch_without_targets_leaves_the_gradient_of_the_others(implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    x, targets = rows(2, 3, 5), np.array([[0, 2, 1], [-100, -100, -100]])

    def gradients(micro_batches):
        tinylm.manual_seed(0)
        layer = nn.Linear(5, 4).to(device)
        for i in micro_batches:
            tinylm.cross_entropy(layer(Tensor(to_device(x[i], device))), to_device(targets[i], device)).backward()
        return [Tensor(p.grad).numpy() for p in layer.parameters()]

    for alone, with_the_empty_one in zip(gradients([0]), gradients([1, 0, 1]), strict=True):
        assert alone.any()
        np.testing.assert_array_equal(alone, with_the_empty_one)


def test_the_second_derivative_without_targets_is_0():
    x = Tensor(rows(2, 3), requires_grad=True)
    g = tinylm.grad(tinylm.cross_entropy(x, np.array([-100, -100])), x, create_graph=True)
    np.testing.assert_array_equal(g.data, 0)
    np.testing.assert_array_equal(tinylm.grad(g, x, rows(2, 3)).data, 0)


@pytest.mark.parametrize("implementation", ["reference", "auto"])
def test_a_padding_row_gets_no_gradient_whatever_arrives(implementation, monkeypatch):
    use(implementation, monkeypatch)
    ids, dy = np.array([1, 0, 1, 2]), rows(4, 3)
    dy[[0, 2]] = np.nan
    for padding_idx in (1, -2):
        weight = Tensor(rows(3, 3), requires_grad=True)
        tinylm.embedding(ids, weight, padding_idx=padding_idx).backward(dy)
        np.testing.assert_array_equal(weight.grad, [dy[1], np.zeros(3), dy[3]])
