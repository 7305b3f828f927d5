"""The tape: what backward and grad fill, free, refuse and name."""

import gc
import inspect
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.autograd import backward
from tinylm.errors import AutogradError, ShapeError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def line():
    """'file:line' of the line that calls this."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# ---------------------------------------------------------------- backward


def test_gradients_accumulate(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    (x * 2).backward(c)
    (x * 5).backward(c)
    np.testing.assert_allclose(x.grad, 7 * c)


def test_accumulating_leaves_arrays_of_the_user_alone(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    (x * 1).backward(c)
    first = x.grad
    kept = first.copy()
    mine = np.ones(3)
    x.grad = mine  # the user's own array must not be added into
    (x * 1).backward(c)
    np.testing.assert_array_equal(mine, 1)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(x.grad, 1 + c)


def test_a_leaf_used_many_times_gets_the_sum(rng):
    """A diamond, and a tensor tied into two places."""
    x, c = leaf(rng, 3), rng.standard_normal(3)
    a = x * 2
    (a * x + a + x).backward(c)  # 2x² + 3x
    np.testing.assert_allclose(x.grad, c * (4 * x.data + 3))


def test_tied_weights(rng):
    """An embedding that is also the output layer gets both gradients in one array."""
    weight, x = leaf(rng, 5, 3), np.array([0, 3, 3])
    c = rng.standard_normal((3, 5))
    tinylm.linear(tinylm.embedding(x, weight), weight).backward(c)
    untied = Tensor(weight.data, requires_grad=True), Tensor(weight.data, requires_grad=True)
    tinylm.linear(tinylm.embedding(x, untied[0]), untied[1]).backward(c)
    np.testing.assert_allclose(weight.grad, untied[0].grad + untied[1].grad)


def test_only_leaves_that_require_it_get_a_gradient(rng):
    x, constant, unused = leaf(rng, 3), Tensor(rng.standard_normal(3)), leaf(rng, 3)
    middle = x * constant
    middle.sum().backward()
    np.testing.assert_allclose(x.grad, constant.data)
    assert constant.grad is None
    assert middle.grad is None
    assert unused.grad is None


def test_grad_keeps_dtype_and_is_an_array(rng):
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    (x * Tensor(np.ones(3))).backward(np.ones(3))  # the product is float64
    assert isinstance(x.grad, np.ndarray)
    assert x.grad.dtype == np.float32


def test_backward_on_a_leaf(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    x.backward(c)
    x.backward(c)
    np.testing.assert_allclose(x.grad, 2 * c)


def test_the_cotangent_may_be_a_tensor_and_is_not_written_to(rng):
    x, c = leaf(rng, 3), Tensor(rng.standard_normal(3))
    kept = c.data.copy()
    (x + x).backward(c)
    (x + x).backward(c)
    np.testing.assert_array_equal(c.data, kept)
    np.testing.assert_allclose(x.grad, 4 * kept)


def test_gradients_do_not_alias_what_a_vjp_returned(rng):
    """A vjp may return one array twice, its own cotangent, or a read-only broadcast."""
    shared = np.ones(3)

    @tinylm.op
    def twice(a, b, /):
        return a + b, lambda dy: (shared, shared)

    @tinylm.op
    def total(a, /):
        return np.sum(a), lambda dy: (np.broadcast_to(dy, a.shape),)

    a, b = leaf(rng, 3), leaf(rng, 3)
    for _ in range(2):
        twice(a, b).backward(np.ones(3))
        (total(a) + total(a * 2)).backward()
    np.testing.assert_array_equal(shared, 1)
    assert not np.shares_memory(a.grad, b.grad)
    assert a.grad.flags.writeable
    np.testing.assert_array_equal(a.grad, 2 * (1 + 1 + 2))
    np.testing.assert_array_equal(b.grad, 2)


def test_sums_inside_the_walk_do_not_write_into_a_shared_array(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    a, b = x * 1, x * 1
    left, right = a + b, a - b  # add returns its own cotangent to both
    (left + right + left).backward(c)  # 3a + b
    np.testing.assert_allclose(x.grad, 4 * c)
    np.testing.assert_allclose(tinylm.grad((a2 := x * 1) + a2 + a2, x, c).data, 3 * c)


def test_mixed_integers_and_floats(rng):
    x, n, flags = leaf(rng, 3), Tensor(np.array([1, 2, 3])), np.array([True, False, True])
    y = x * n + flags * x - 2 * x / n
    y.backward(np.ones(3))
    np.testing.assert_allclose(x.grad, n.data + flags - 2 / n.data)
    assert n.grad is None
    assert not (n * 2 + 1).requires_grad
    assert not (x > 0).requires_grad
    with pytest.raises(ShapeError, match="only floating tensors can require gradients, not int64"):
        Tensor(np.arange(3), requires_grad=True)


# ---------------------------------------------------------------- several outputs


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_split_with_some_outputs_unused(rng, used):
    x = leaf(rng, 6)
    parts = tinylm.split(x, 3)
    expected = np.zeros(6)
    total = Tensor(np.zeros(2))
    for i in used:
        total = total + parts[i] * (i + 1)
        expected[2 * i : 2 * i + 2] = i + 1
    total.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, expected)


@pytest.mark.parametrize("used", ["y", "weights", "both"])
def test_attention_weights_carry_gradients(rng, used):
    arrays = [rng.standard_normal((3, 2)) for _ in range(3)]
    c, d = rng.standard_normal((3, 2)), rng.standard_normal((3, 3))

    def loss(*qkv):
        y, weights = tinylm.scaled_dot_product_attention(*qkv, return_weights=True)
        return {"y": (y * c).sum(), "weights": (weights * d).sum(), "both": (y * c).sum() + (weights * d).sum()}[used]

    assert tinylm.verify.gradcheck(loss, *arrays).ok


def test_walking_two_outputs_one_after_the_other(rng):
    x = leaf(rng, 4)
    a, b = tinylm.split(x, 2)
    a.backward(np.ones(2), retain_graph=True)
    b.backward(np.full(2, 3.0))
    np.testing.assert_array_equal(x.grad, [1, 1, 3, 3])


# ---------------------------------------------------------------- grad


def test_grad_touches_no_grad(rng):
    x, y = leaf(rng, 3), leaf(rng, 3)
    c = rng.standard_normal(3)
    dx = tinylm.grad(x * x * y, x, c)
    assert isinstance(dx, Tensor)
    assert not dx.requires_grad
    np.testing.assert_allclose(dx.data, 2 * x.data * y.data * c)
    assert x.grad is None
    assert y.grad is None


def test_grad_of_intermediate_and_unrelated_tensors(rng):
    x, unrelated = leaf(rng, 3), leaf(rng, 3)
    a = tinylm.exp(x)
    y = a * a
    c = rng.standard_normal(3)
    dy, da, dx, nothing = tinylm.grad(y, [y, a, x, unrelated], c)
    np.testing.assert_allclose(dy.data, c)
    np.testing.assert_allclose(da.data, 2 * a.data * c)
    np.testing.assert_allclose(dx.data, 2 * a.data**2 * c)
    assert nothing is None


def test_grad_of_one_of_several_outputs(rng):
    x = leaf(rng, 4)
    a, b = tinylm.split(x, 2)
    da, db, dx = tinylm.grad(a * b, [a, b, x], np.ones(2))
    np.testing.assert_allclose(da.data, b.data)
    np.testing.assert_allclose(db.data, a.data)
    np.testing.assert_allclose(dx.data, np.concatenate([b.data, a.data]))


def test_grad_does_not_walk_where_it_need_not(rng):
    walked = []

    @tinylm.op
    def noted(x, /):
        return x * 1.0, lambda dy: (walked.append(1), dy)[1:]

    x, other = leaf(rng, 3), leaf(rng, 3)
    a = noted(x) * 2
    tinylm.grad(a * noted(other), a, np.ones(3))
    assert not walked
    tinylm.grad(noted(x) * noted(other), other, np.ones(3))
    assert len(walked) == 1


def test_grad_wants_tensors_that_require_a_gradient(rng):
    x = leaf(rng, 3)
    with pytest.raises(AutogradError, match=r"argument 1 of shape \(2,\) does not require a gradient"):
        tinylm.grad(x.sum(), [x, Tensor(np.ones(2))])


# ---------------------------------------------------------------- higher order


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
    """backward through a gradient: d/dw of |df/dx|², as differences give it."""
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


# ---------------------------------------------------------------- freed and retained graphs


def test_a_second_backward_names_the_op_and_its_line(rng):
    x = leaf(rng, 3)
    y, where = tinylm.exp(x), line()
    y.backward(np.ones(3))
    with pytest.raises(AutogradError) as caught:
        y.backward(np.ones(3))
    assert f"backward through exp ({where}) a second time: its graph was freed; pass retain_graph=True" in str(caught.value)
    with pytest.raises(AutogradError, match="its graph was freed"):
        tinylm.grad(y, x, np.ones(3))


def test_a_shared_part_freed_by_another_walk(rng):
    x = leaf(rng, 3)
    shared, where = x * 2, line()
    (shared * 3).backward(np.ones(3))
    with pytest.raises(AutogradError) as caught:
        (shared * 4).backward(np.ones(3))
    assert f"multiply ({where})" in str(caught.value)


def test_retain_graph(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    y = tinylm.exp(x)
    for times in (1, 2, 3):
        y.backward(c, retain_graph=True)
        np.testing.assert_allclose(x.grad, times * c * y.data)
    for _ in range(2):
        tinylm.grad(y, x, c, retain_graph=True)
    tinylm.grad(y, x, c, create_graph=True)  # keeps it too
    tinylm.grad(y, x, c)
    with pytest.raises(AutogradError, match="its graph was freed"):
        tinylm.grad(y, x, c)


# ---------------------------------------------------------------- cotangents


def test_a_non_scalar_needs_a_cotangent(rng):
    x = leaf(rng, 2, 3)
    with pytest.raises(AutogradError, match=r"a tensor of shape \(2, 3\) needs a cotangent"):
        (x * 1).backward()
    with pytest.raises(AutogradError, match="needs a cotangent"):
        tinylm.grad(x * 1, x)
    (x[:1, :1] * 1).backward()  # one element will do
    assert x.grad.sum() == 1


def test_a_cotangent_of_another_shape(rng):
    with pytest.raises(ShapeError, match=r"the cotangent has shape \(3,\), the tensor \(2, 3\)"):
        (leaf(rng, 2, 3) * 1).backward(np.ones(3))


def test_backward_without_anything_that_requires_it():
    with pytest.raises(AutogradError, match="does not depend on anything that requires a gradient"):
        (Tensor(np.ones(3)) * 2).sum().backward()


# ---------------------------------------------------------------- values changed in place

WRITES = {
    "setitem": lambda t: t.__setitem__(0, 5.0),
    "a view": lambda t: t[1:].__setitem__(0, 5.0),
    "a view of a view": lambda t: t.reshape(3, 1).T.__setitem__((0, 0), 5.0),
    "detached": lambda t: t.detach().__setitem__(0, 5.0),
    "bump_version": lambda t: t.bump_version(),
}


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("what", ["input", "output"])
def test_a_value_written_after_it_was_used(rng, how, what):
    x = leaf(rng, 3)
    y, where = tinylm.exp(x), line()
    with tinylm.no_grad():
        WRITES[how](x if what == "input" else y)
    with pytest.raises(AutogradError) as caught:
        y.backward(np.ones(3))
    assert str(caught.value) == f"backward through exp ({where}): an input or output was changed in place after it was recorded"


def test_writes_before_the_op_are_fine(rng):
    x = leaf(rng, 3)
    with tinylm.no_grad():
        x[0] = 2.0
        x[1:] = Tensor(np.ones(2))
    (x * x).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [4, 2, 2])


def test_a_write_to_the_owner_is_seen_through_its_view(rng):
    x = leaf(rng, 4)
    y = tinylm.exp(x[1:3])
    with tinylm.no_grad():
        x[0] = 1.0
    with pytest.raises(AutogradError, match="changed in place"):
        y.backward(np.ones(2))


def test_an_optimiser_step_between_forward_and_backward_is_seen(rng):
    layer = nn.Linear(3, 2)
    y = layer(Tensor(np.ones((1, 3), np.float32)))
    layer.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(AutogradError, match=r"backward through linear .*changed in place"):
        y.backward(np.ones((1, 2)))


def test_writes_that_would_lose_a_gradient_are_refused(rng):
    x, buffer = leaf(rng, 3), Tensor(np.zeros(3))
    with pytest.raises(AutogradError, match=r"in-place write to a leaf that requires a gradient \(shape \(3,\)\)"):
        x[0] = 1.0
    with pytest.raises(AutogradError, match="in-place write to a result of the graph"):
        (x * 2)[0] = 1.0
    with pytest.raises(AutogradError, match="in-place write of a value that requires a gradient"):
        buffer[0] = x[0]
    buffer[0] = x[0].detach()
    assert buffer.data[0] == x.data[0]


# ---------------------------------------------------------------- no_grad


def test_no_grad_as_context_and_decorator(rng):
    x = leaf(rng, 3)

    @tinylm.no_grad()
    def double(t):
        return t * 2

    with tinylm.no_grad():
        assert not (x * 2).requires_grad
    for _ in range(2):
        assert not double(x).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception(rng):
    x = leaf(rng, 3)
    with pytest.raises(KeyError), tinylm.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_grad_works_inside_no_grad_on_a_graph_made_before(rng):
    x = leaf(rng, 3)
    y = x * x
    with tinylm.no_grad():
        np.testing.assert_allclose(tinylm.grad(y, x, np.ones(3)).data, 2 * x.data)


# ---------------------------------------------------------------- size


def test_a_chain_of_100_000_ops():
    """Forward, backward and release, without recursion and without the cycle collector."""
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
    assert after - before < gradients + step_size / 4  # and let go
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
            lambda: tinylm.checkpoint(lambda t: t * t, x).sum(),
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
    """A consumer is always walked before the node whose value it used, in whatever order they were made."""
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
