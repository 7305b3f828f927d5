"""Jacobians and Hessian-vector products: known answers, PyTorch's, and differences of gradients."""

import numpy as np
import pytest
import torch

import tinylm
from tinylm import Tensor, nn
from tinylm.errors import AutogradError, ShapeError

RNG = np.random.default_rng(0)
A, X, V = RNG.standard_normal((3, 4)), RNG.standard_normal(4), RNG.standard_normal(4)


def test_the_jacobian_of_a_product_is_the_matrix():
    np.testing.assert_array_equal(tinylm.jacobian(lambda x: Tensor(A) @ x, X).numpy(), A)
    found = tinylm.jacobian(lambda x: x * x, X.reshape(2, 2))
    assert found.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(found.numpy().reshape(4, 4), np.diag(2 * X), rtol=1e-15)
    assert tinylm.jacobian(lambda x: x.sum(), X).shape == (4,)
    assert tinylm.jacobian(lambda x: x[:0], X).shape == (0, 4)


def test_the_second_derivatives_of_a_quadratic_form():
    """f = xᵀ B x: the Hessian is B + Bᵀ."""
    b = RNG.standard_normal((4, 4))

    def f(x):
        return (x @ Tensor(b) @ x).sum()

    np.testing.assert_allclose(tinylm.hvp(f, X, V).numpy(), (b + b.T) @ V, rtol=1e-12)
    hessian = tinylm.jacobian(lambda x: tinylm.grad(f(x), x, create_graph=True), X)
    np.testing.assert_allclose(hessian.numpy(), b + b.T, rtol=1e-12)


def network(library, x, w, u):
    return (library.softmax(library.tanh(x @ w) @ u, -1) ** 2).sum()


def test_several_arguments_are_pytorchs():
    arrays, vs = ([rng.standard_normal(shape) for shape in ((2, 3), (3, 4), (4, 2))] for rng in (RNG, np.random.default_rng(1)))
    theirs = [torch.tensor(a) for a in arrays]
    _, expected = torch.autograd.functional.hvp(lambda *t: network(torch, *t), tuple(theirs), tuple(map(torch.tensor, vs)))
    for a, b in zip(tinylm.hvp(lambda *t: network(tinylm, *t), arrays, vs), expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-13)
    jacobians = torch.autograd.functional.jacobian(lambda x, w: torch.tanh(x @ w), tuple(theirs[:2]))
    for a, b in zip(tinylm.jacobian(lambda x, w: tinylm.tanh(x @ w), arrays[:2]), jacobians, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-13)


def test_a_models_parameters_are_passed_as_they_are():
    """The curvature of a loss along a direction, compared with a difference of gradients."""
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).to(dtype="float64")
    parameters, x, targets = list(model.parameters()), RNG.standard_normal((5, 3)), np.array([0, 1, 1, 0, 1])
    vs = [RNG.standard_normal(p.shape) for p in parameters]

    def loss(*_):
        return tinylm.cross_entropy(model(Tensor(x)), targets)

    found = tinylm.hvp(loss, parameters, vs)
    gradients, h = [], 1e-5
    for sign in (1, -2):
        with tinylm.no_grad():
            for p, v in zip(parameters, vs, strict=True):
                p[...] = p + sign * h * Tensor(v)
        gradients.append(tinylm.grad(loss(), parameters))
    for a, up, down in zip(found, *gradients, strict=True):
        np.testing.assert_allclose(a.numpy(), (up.numpy() - down.numpy()) / (2 * h), rtol=1e-6, atol=1e-8)
    assert all(p.grad is None for p in parameters)


def test_what_does_not_depend_on_x_gives_zeros():
    for f in (lambda x: Tensor(2.0), lambda x: x.sum() * 0 + 1, lambda x: (x * V).sum()):
        np.testing.assert_array_equal(tinylm.hvp(f, X, V).numpy(), np.zeros(4))
    np.testing.assert_array_equal(tinylm.jacobian(lambda x: Tensor(np.ones(2)), X).numpy(), np.zeros((2, 4)))
    used, unused = tinylm.jacobian(lambda x, y: x.sum(), [X, V])
    np.testing.assert_array_equal(used.numpy(), np.ones(4))
    np.testing.assert_array_equal(unused.numpy(), np.zeros(4))


def test_under_no_grad_and_in_float32():
    x = Tensor(X.astype(np.float32))
    with tinylm.no_grad():
        found = tinylm.hvp(lambda x: (x**3).sum(), x, V.astype(np.float32))
        assert not (tinylm.jacobian(lambda x: x * 2, x) * 1).requires_grad
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.numpy(), 6 * X * V, rtol=1e-5)
    assert not x.requires_grad


def test_refused():
    with pytest.raises(ShapeError, match=r"^hvp: v has the shape \(3,\), expected x's \(4,\)$"):
        tinylm.hvp(lambda x: x.sum(), X, V[:3])
    with pytest.raises(ShapeError, match=r"^hvp: v has the shape \(4,\), expected x's \(4,\), \(3, 4\)$"):
        tinylm.hvp(lambda x, a: x.sum(), [X, A], [V])
    with pytest.raises(ShapeError, match=r"^hvp: f\(x\) has the shape \(4,\), expected one element$"):
        tinylm.hvp(lambda x: x * x, X, V)
    with pytest.raises(ShapeError, match="only floating tensors can require gradients, not int64"):
        tinylm.jacobian(lambda x: x * 2, np.arange(3))
    with pytest.raises(AutogradError, match="NumPy would lose the gradient"):
        tinylm.jacobian(lambda x: np.sin(np.asarray(x)), X)


def test_they_nest() -> None:
    """An inner result that is not recorded would be a constant for the outer one, and its derivative 0 without a word."""
    x, v = np.array([0.5, -1.5, 2.0]), np.array([1.0, 2.0, -1.0])

    def f(t: Tensor) -> Tensor:
        return (t**3).sum() * t[0]

    hessian = 6 * np.diag(x) * x[0]
    hessian[0] += 3 * x**2
    hessian[:, 0] += 3 * x**2
    np.testing.assert_allclose(tinylm.jacobian(lambda t: tinylm.jacobian(f, t), x).numpy(), hessian, rtol=1e-12)
    third = tinylm.jacobian(lambda t: tinylm.jacobian(lambda u: tinylm.jacobian(f, u), t), x).numpy()
    np.testing.assert_allclose(tinylm.jacobian(lambda t: tinylm.hvp(f, t, v), x).numpy(), third @ v, rtol=1e-12)
    np.testing.assert_allclose(third[1, 1], [6 * x[1], 6 * x[0], 0.0], rtol=1e-12)
    np.testing.assert_allclose(tinylm.hvp(lambda t: (tinylm.jacobian(lambda u: u * u, t) ** 2).sum(), x, v).numpy(), 8 * v, rtol=1e-12)
    assert tinylm.jacobian(lambda t: tinylm.jacobian(lambda u: u[:0], t), x).shape == (0, 3, 3)
    assert not tinylm.jacobian(f, x).requires_grad
