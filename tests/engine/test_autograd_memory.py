"""Long chains, what is freed and when, and the order of the backward pass."""

import gc
import inspect
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.autograd import backward


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_a_chain_of_100_000_ops():
    """Forward, backward and release work without recursion and without the cycle collector."""
    x = Tensor(np.zeros(1), requires_grad=True)
    gc.disable()
    try:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack()) + 40)
        try:
            y = x
            for _ in range(100_000):
                y = y + 1
            y.backward()
            assert x.grad[0] == 1
            y = x
            for _ in range(100_000):
                y = y + 1
            last = weakref.ref(y.node.parents[0])
            del y  # never walked
            assert last() is None
        finally:
            sys.setrecursionlimit(limit)
    finally:
        gc.enable()


def test_memory_after_backward_is_parameters_and_gradients():
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)), nn.LayerNorm(64))
    x = Tensor(np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32))
    step_size = 256 * 64 * 4  # bytes of one activation

    def step():
        loss = (tinylm.gelu(model(x)) ** 2).mean()
        loss.backward()

    step()
    model.zero_grad()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        after, peak = tracemalloc.get_traced_memory()
        for _ in range(3):
            step()
        later = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    gradients = 4 * model.num_parameters()
    assert peak - before > 8 * step_size  # the activations were held
    assert after - before < gradients + step_size / 4  # and freed
    assert later - after < step_size / 4


def test_no_reference_cycles(rng):
    x = leaf(rng, 3)
    gc.collect()
    gc.disable()
    try:
        for fn in (
            lambda: tinylm.softmax(tinylm.layer_norm(x) * 2).sum(),
            lambda: tinylm.split(x, 3)[1].sum(),
            lambda: tinylm.grad((x * x).sum(), x, create_graph=True).sum(),
            lambda: tinylm.recompute(lambda t: t * t, x).sum(),
        ):
            loss = fn()
            node = weakref.ref(loss)
            loss.backward()
            del loss
            assert node() is None
            loss = fn()  # and one that is never walked
            node = weakref.ref(loss)
            del loss
            assert node() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_walk_frees_each_activation_once_it_is_consumed(rng):
    """At each step of a long chain, only a few of the chain's tensors are still alive."""
    alive, seen = weakref.WeakSet(), []

    class Kept:
        """Stands for an array that a vjp needs."""

    @tinylm.op
    def step(x, /):
        kept = Kept()
        alive.add(kept)

        def vjp(dy):
            seen.append(len(alive))
            return (dy, kept)[:1]

        return x * 1.0, vjp

    y = leaf(rng, 4)
    for _ in range(10):
        y = step(y)
    y.backward(np.ones(4))
    assert seen == list(range(10, 0, -1))


def test_order_of_the_walk_is_youngest_first(rng):
    """A consumer is always visited before the node whose value it used, whatever their order of creation."""
    order = []

    def marked(name):
        @tinylm.op
        def mark(x, /):
            return x * 1.0, lambda dy: (order.append(name), dy)[1:]

        return mark

    x = leaf(rng, 2)
    a = marked("a")(x)
    b = marked("b")(a)
    c = marked("c")(a)
    (c + b).backward(np.ones(2))
    assert order == ["c", "b", "a"]


def test_backward_is_also_a_function(rng):
    x = leaf(rng, 2)
    backward(x * 3, np.ones(2))
    np.testing.assert_array_equal(x.grad, 3)
