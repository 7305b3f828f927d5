"""The tape: which gradients backward and grad set, and what they leave unchanged."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine.autograd import nodes, walk
from tinylm.errors import AutogradError, ShapeError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


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
    """A diamond, and a tensor used in two places."""
    x, c = leaf(rng, 3), rng.standard_normal(3)
    a = x * 2
    (a * x + a + x).backward(c)  # 2x² + 3x
    np.testing.assert_allclose(x.grad, c * (4 * x.data + 3))


def test_tied_weights(rng):
    """An embedding that is also the output layer gets the sum of both gradients in one array."""
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


# ---------------------------------------------------------------- the graph and the walk


def test_the_nodes_of_a_graph_are_the_oldest_first(rng):
    x = leaf(rng, 3)
    a = x * 2
    tinylm.exp(a)  # not part of it
    c = tinylm.split(a + a, 3)[1]
    y = c + a[:1]
    assert [node.op.name for node in nodes(y)] == ["multiply", "add", "split", "getitem", "add"]
    assert nodes(y)[-1] is y.node
    assert nodes(c)[-1] is c.node
    assert nodes(x) == []
    a.backward(np.ones(3))
    assert nodes(y)[0] is a.node, "a freed node is known, but not what led to it"


def test_a_walk_shows_its_nodes_to_an_observer_only(rng):
    x = leaf(rng, 3)
    y = (x * x).sum()
    arrived = []

    def leaf_of(tensor, g):
        arrived.append((tensor, g.tolist()))

    assert list(walk(y, np.ones(()), leaf_of, retain_graph=True)) == []
    assert [tensor for tensor, _ in arrived] == [x, x]
    unseen = [g for _, g in arrived]
    arrived.clear()
    visits = walk(y, np.ones(()), leaf_of, retain_graph=True, observed=True)
    node, incoming, targets, grads = next(visits)
    assert (node.op.name, incoming, targets[0].node.op.name, grads[0].tolist()) == ("sum", [1.0], "multiply", [1.0, 1.0, 1.0])
    assert not arrived, "the walk waits for its observer"
    node, incoming, targets, grads = next(visits)
    assert (node.op.name, targets) == ("multiply", [x, x])
    assert [g.tolist() for g in grads] == unseen
    assert list(visits) == []
    assert [g for _, g in arrived] == unseen
