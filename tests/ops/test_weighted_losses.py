"""Losses with probabilities as targets, and with weights of classes and of positive examples."""

import math

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import AutogradError, ConfigError, DeviceError, ShapeError
from tinylm.verify import Sample, compare_op

RNG = np.random.default_rng(0)
Z, IDS, W = RNG.standard_normal((4, 3)), np.array([0, 2, -100, 1]), np.array([0.5, 2.0, 1.25])


def loss_and_gradient(loss, z):
    t = Tensor(z, requires_grad=True)
    y = loss(t)
    y.backward(RNG.standard_normal(y.shape) if y.ndim else None)
    return y.numpy(), t.grad


def test_known_answers():
    half = np.log(np.array([[0.5, 0.25, 0.25]]))
    assert tinylm.cross_entropy(half, np.array([[0.5, 0.5, 0.0]])).item() == pytest.approx(1.5 * math.log(2))
    assert tinylm.cross_entropy(half, np.array([1]), weight=[1, 3, 1], reduction="sum").item() == pytest.approx(6 * math.log(2))
    two = np.repeat(half, 2, axis=0)  # -log p: ln 2 with weight 3, 2 ln 2 with weight 1
    assert tinylm.cross_entropy(two, np.array([0, 1]), weight=[3, 1, 9]).item() == pytest.approx((3 + 2) / 4 * math.log(2))
    assert tinylm.nll_loss(two, np.array([0, 1]), weight=[3, 1, 9]).item() == pytest.approx((3 + 2) / 4 * math.log(2))
    positive = tinylm.binary_cross_entropy_with_logits(np.zeros(2), np.array([1.0, 0.0]), pos_weight=3.0, reduction="none")
    np.testing.assert_allclose(positive.numpy(), [3 * math.log(2), math.log(2)])


def test_ids_are_probabilities_of_one():
    ids = np.array([0, 2, 1, 1])
    for settings in ({}, {"weight": W, "reduction": "sum"}, {"weight": W, "label_smoothing": 0.2, "reduction": "none"}):
        by_id, gradient = loss_and_gradient(lambda z, s=settings: (tinylm.cross_entropy(z, ids, **s) * 1).sum(), Z)
        given, gradient2 = loss_and_gradient(lambda z, s=settings: tinylm.cross_entropy(z, np.eye(3)[ids], **s).sum(), Z)
        np.testing.assert_allclose(by_id, given, rtol=1e-12)
        np.testing.assert_allclose(gradient, gradient2, rtol=1e-10, atol=1e-15)


def test_weights_of_one_change_nothing():
    for loss in (tinylm.cross_entropy, tinylm.nll_loss):
        with_weights, without = (loss_and_gradient(lambda z, s=s, loss=loss: loss(z, IDS, **s), Z) for s in ({"weight": np.ones(3)}, {}))
        for a, b in zip(with_weights, without, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15)
    t = RNG.random((4, 3))
    one, none = (tinylm.binary_cross_entropy_with_logits(Z, t, pos_weight=w).item() for w in (1.0, None))
    assert one == pytest.approx(none, rel=1e-13)


def test_a_class_that_neither_model_allows_adds_nothing():
    z = np.array([[0.0, 1.0, -np.inf], [0.5, -1.0, 2.0]])
    teacher = np.array([[0.25, 0.75, 0.0], [0.1, 0.2, 0.7]])
    loss, gradient = loss_and_gradient(lambda z: tinylm.cross_entropy(z, teacher, reduction="sum"), z)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    assert loss == pytest.approx(-(0.25 * log_p[0, 0] + 0.75 * log_p[0, 1] + teacher[1] @ log_p[1]))
    np.testing.assert_allclose(gradient, np.exp(log_p) - teacher, rtol=1e-12, atol=1e-16)
    assert tinylm.cross_entropy(z, np.full((2, 3), 1 / 3)).item() == math.inf  # the teacher allows it


def test_the_gradient_reaches_the_teacher_and_both_keep_float32():
    z, q = (Tensor(RNG.random((2, 3)).astype(np.float32), requires_grad=True) for _ in range(2))
    loss = tinylm.cross_entropy(z, tinylm.softmax(q))
    loss.backward()
    assert loss.dtype == z.grad.dtype == q.grad.dtype == np.float32
    assert np.abs(q.grad).max() > 0


@pytest.mark.parametrize("order", [1, 2])
def test_large_logits(order):
    z, teacher = Z * 300, RNG.dirichlet(np.ones(3), 4)
    for args, settings in [((z, teacher), {}), ((z, IDS), {"weight": W})]:
        report = compare_op("cross_entropy", Sample("large", args, settings), order=order)
        assert report.ok, report


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mean_over_nothing_is_nan_and_has_no_gradient():
    for ids, w in [(np.full(4, -100), W), (np.array([0, 0, 0, 0]), np.array([0.0, 1.0, 1.0]))]:
        for loss in (tinylm.cross_entropy, tinylm.nll_loss):
            value, gradient = loss_and_gradient(lambda z, loss=loss, ids=ids, w=w: loss(z, ids, weight=w), Z)
            assert math.isnan(value)
            np.testing.assert_array_equal(gradient, 0)


def test_refused():
    learnt = Tensor(W, requires_grad=True)
    for loss in (tinylm.cross_entropy, tinylm.nll_loss):
        with pytest.raises(AutogradError, match=r"^weight requires a gradient \(shape \(3,\)\).*: give weight.detach\(\)$"):
            loss(Z, IDS, weight=learnt)
        assert loss(Z, IDS, weight=learnt.detach()).item() == loss(Z, IDS, weight=W).item()
        with pytest.raises(ShapeError, match=r"^weight has shape \(2,\), expected \(3,\): one number per class$"):
            loss(Z, IDS, weight=W[:2])
    with pytest.raises(ShapeError, match=r"targets have shape \(4, 2\), expected \(4, 3\) for probabilities, \(4,\) for ids"):
        tinylm.cross_entropy(Z, np.ones((4, 2)))
    with pytest.raises(ConfigError, match=r"^ignore_index is 1: with probabilities as targets no row is ignored$"):
        tinylm.cross_entropy(Z, np.ones((4, 3)), ignore_index=1)
    for shape in ((2,), (1, 4, 3)):
        with pytest.raises(ShapeError, match=r"pos_weight has shape .*, which does not broadcast to the logits' \(4, 3\)"):
            tinylm.binary_cross_entropy_with_logits(Z, Z * 0, pos_weight=np.ones(shape))
    with pytest.raises(AutogradError, match=r"^pos_weight requires a gradient"):
        tinylm.binary_cross_entropy_with_logits(Z, Z * 0, pos_weight=learnt)


def test_weights_on_another_device(emulated_cuda):
    z, ids = (Tensor(a).to("cuda") for a in (Z, IDS))
    with pytest.raises(DeviceError, match=r"^weight is on cpu, the scores are on cuda:0$"):
        tinylm.cross_entropy(z, ids, weight=Tensor(W))
    with pytest.raises(DeviceError, match=r"^weight is on cuda:0, the scores are on cpu$"):
        tinylm.nll_loss(Z, IDS, weight=Tensor(W).to("cuda"))
    found = tinylm.cross_entropy(z, ids, weight=Tensor(W).to("cuda"))
    assert found.item() == pytest.approx(tinylm.cross_entropy(Z, IDS, weight=W).item())
