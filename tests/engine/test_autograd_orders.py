"""Derivatives of derivatives through create_graph."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_derivatives_to_the_fourth_order(rng):
    x = leaf(rng, 3)
    y, expected = tinylm.exp(x * 2), np.exp(2 * x.data)
    for order in range(1, 5):
        y = tinylm.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.data, 2**order * expected, rtol=1e-12)


def test_third_order_of_a_product(rng):
    x, y = leaf(rng, 2), leaf(rng, 2)
    f = (x * x * y * y).sum()
    fx = tinylm.grad(f, x, create_graph=True)
    fxy = tinylm.grad(fx.sum(), y, create_graph=True)
    fxyy, fxyx = tinylm.grad(fxy.sum(), [y, x])
    np.testing.assert_allclose(fxyy.data, 4 * x.data)
    np.testing.assert_allclose(fxyx.data, 4 * y.data)


def test_a_gradient_penalty_reaches_the_weights(rng):
    """d/dw of |df/dx|², by backward through a gradient, equals finite differences."""
    w, x = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))

    def penalty(w):
        at = Tensor(x, requires_grad=True)
        g = tinylm.grad(tinylm.gelu(tinylm.linear(at, w)).sum(), at, create_graph=True)
        return (g * g).sum()

    weight = Tensor(w.copy(), requires_grad=True)
    penalty(weight).backward()
    for i in ((0, 0), (2, 3)):
        step = np.zeros_like(w)
        step[i] = 1e-5
        difference = (penalty(Tensor(w + step)).item() - penalty(Tensor(w - step)).item()) / 2e-5
        assert weight.grad[i] == pytest.approx(difference, rel=1e-6)


def test_hessian_vector_product_of_a_model(rng):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).to(dtype="float64")
    x, targets = Tensor(rng.standard_normal((5, 3))), np.array([0, 1, 1, 0, 1])
    parameters = list(model.parameters())
    v = [rng.standard_normal(p.shape) for p in parameters]

    def gradients(create_graph=False):
        return tinylm.grad(tinylm.cross_entropy(model(x), targets), parameters, create_graph=create_graph)

    dot = sum((g * u).sum() for g, u in zip(gradients(create_graph=True), v, strict=True))
    product = [np.zeros(p.shape) if h is None else h.data for p, h in zip(parameters, tinylm.grad(dot, parameters), strict=True)]

    def shifted(sign):
        for p, u in zip(parameters, v, strict=True):
            p.data += sign * 1e-6 * u
        found = [g.data for g in gradients()]
        for p, u in zip(parameters, v, strict=True):
            p.data -= sign * 1e-6 * u
        return found

    for h, up, down in zip(product, shifted(1), shifted(-1), strict=True):
        np.testing.assert_allclose(h, (up - down) / 2e-6, rtol=1e-5, atol=1e-8)


def test_without_create_graph_results_have_no_graph(rng):
    x = leaf(rng, 3)
    assert not tinylm.grad(x * x, x, np.ones(3)).requires_grad
    assert tinylm.grad(x * x, x, np.ones(3), create_graph=True).requires_grad
