"""recompute: the same gradients for less memory."""

import tracemalloc

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.random_keys import default_generator
from tinylm.errors import AutogradError
from tinylm.verify import gradcheck


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def block(model, x):
    return model(x) + x


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 4)).to(dtype="float64")


def gradients(model, x, c, through):
    """Returns (value, dx, the parameters' gradients) of block applied three times."""
    tinylm.manual_seed(3)
    model.zero_grad()
    x = Tensor(x, requires_grad=True)
    y = x
    for _ in range(3):
        y = through(lambda t: block(model, t), y)
    y.backward(c)
    return y.data, x.grad, *(p.grad for p in model.parameters())


def test_same_gradients_dropout_masks_included(model, rng):
    x, c = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    plain = gradients(model, x, c, lambda fn, t: fn(t))
    state = default_generator.state
    recomputed = gradients(model, x, c, tinylm.recompute)
    for a, b in zip(recomputed, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    assert default_generator.state == state  # running again drew no new masks


def test_captured_parameters_and_captured_results_get_their_gradients(rng):
    a, b, c = (rng.standard_normal(3) for _ in range(3))
    x, w = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    middle = tinylm.exp(w)  # a result, captured and not passed
    y = tinylm.recompute(lambda t: t * middle * w, x)
    (y * middle).backward(c)  # x w e^2w
    np.testing.assert_allclose(x.grad, c * b * np.exp(2 * b))
    np.testing.assert_allclose(w.grad, c * a * np.exp(2 * b) * (1 + 2 * b))


def test_grad_through_a_recomputed_function_touches_no_grad(rng):
    a, b, c = (rng.standard_normal(3) for _ in range(3))
    x, w = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    middle = w * w
    y = tinylm.recompute(lambda t: t * middle, x)
    dx, dw, dmiddle, dy = tinylm.grad(y, [x, w, middle, y], c)
    np.testing.assert_allclose(dx.data, c * b * b)
    np.testing.assert_allclose(dw.data, 2 * c * a * b)
    np.testing.assert_allclose(dmiddle.data, c * a)
    np.testing.assert_allclose(dy.data, c)
    assert x.grad is None
    assert w.grad is None


def test_grad_of_the_recomputed_functions_own_input_when_it_is_a_result(rng):
    x = Tensor(rng.standard_normal(3), requires_grad=True)
    h = x * 2
    y = tinylm.recompute(lambda t: t * t, h)
    np.testing.assert_allclose(tinylm.grad(y, h, np.ones(3)).data, 2 * h.data)


@pytest.mark.parametrize("order", [1, 2])
def test_against_finite_differences(model, rng, order):
    def fn(x, *_):
        return tinylm.recompute(lambda t: block(model, t), x) * 2

    assert gradcheck(fn, rng.standard_normal((3, 4)), *model.parameters(), order=order).ok


def test_nested(rng):
    x, w = (Tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))
    c = rng.standard_normal(3)

    def inner(t):
        return tinylm.exp(t * w)

    def outer(t):
        return tinylm.recompute(inner, tinylm.recompute(inner, t)) * t

    expected = tinylm.grad(inner(inner(x)) * x, [x, w], c)
    for a, b in zip(tinylm.grad(tinylm.recompute(outer, x), [x, w], c), expected, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-14)


def test_several_inputs_and_outputs_some_unused(rng):
    arrays = [rng.standard_normal(3) for _ in range(2)]

    def fn(a, b):
        product, total, _ = tinylm.recompute(lambda p, q: (p * q, p + q, p - q), a, b)
        return product * total

    assert gradcheck(fn, *arrays).ok


def test_integers_and_settings_pass_through(rng):
    ids = np.array([0, 2])
    assert gradcheck(lambda table: tinylm.recompute(lambda i, t: tinylm.embedding(i, t), ids, table), rng.standard_normal((3, 2))).ok


def test_retain_graph(rng):
    x = Tensor(rng.standard_normal(3), requires_grad=True)
    y = tinylm.recompute(lambda t: t * t, x)
    y.backward(np.ones(3), retain_graph=True)
    y.backward(np.ones(3))
    np.testing.assert_allclose(x.grad, 4 * x.data)
    with pytest.raises(AutogradError, match=r"backward through recompute .*test_recompute.py:\d+\) a second time"):
        y.backward(np.ones(3))


def test_an_input_changed_in_between_is_an_error(rng):
    x = Tensor(rng.standard_normal(3), requires_grad=True)
    y = tinylm.recompute(lambda t: t * t, x)
    with tinylm.no_grad():
        x[0] = 0.0
    with pytest.raises(AutogradError, match="changed in place"):
        y.backward(np.ones(3))


def test_under_no_grad_it_only_calls(rng):
    x = Tensor(rng.standard_normal(3), requires_grad=True)
    with tinylm.no_grad():
        assert not tinylm.recompute(lambda t: t * t, x).requires_grad


def test_it_saves_memory(rng):
    """Ten layers keep ten activations and more without recompute, and few with it."""
    layers = [nn.Linear(32, 32) for _ in range(10)]
    x = Tensor(rng.standard_normal((512, 32)).astype(np.float32))
    activation = 512 * 32 * 4

    def held(through):
        tracemalloc.start()
        try:
            y = x
            for layer in layers:
                y = through(lambda t, layer=layer: tinylm.gelu(layer(t)) * 2, y)
            return tracemalloc.get_traced_memory()[0] / activation
        finally:
            tracemalloc.stop()

    plain, recomputed = held(lambda fn, t: fn(t)), held(tinylm.recompute)
    assert plain > 25
    assert recomputed < 11
