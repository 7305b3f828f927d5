"""@op: how a body becomes a function of tensors, for tinylm's ops and for a user's own."""

import inspect
import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine.arrays import array_module, sum_to
from tinylm.engine.grad import grad
from tinylm.engine.op import op, registry
from tinylm.errors import DeviceError, ShapeError
from tinylm.verify import gradcheck


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@tinylm.op
def scaled_difference(a, b, /, scale=2.0, *, shift=0.0):
    """scale (a - b) + shift."""

    def vjp(dy):
        return sum_to(dy * scale, a.shape), sum_to(dy * -scale, b.shape)

    return (a - b) * scale + shift, vjp


# ---------------------------------------------------------------- a user's function


def test_settings_by_position_and_by_name(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal(3)
    for args, settings, expected in [
        ((a, b), {}, (a - b) * 2),
        ((a, b, 5.0), {}, (a - b) * 5),
        ((a, b), {"scale": 5.0, "shift": 1.0}, (a - b) * 5 + 1),
        ((a, b, 5.0), {"shift": 1.0}, (a - b) * 5 + 1),
    ]:
        np.testing.assert_allclose(scaled_difference(*args, **settings).data, expected)
        for order in (1, 2):
            assert gradcheck(scaled_difference, *args, order=order, **settings).ok


def test_it_keeps_its_name_docstring_and_signature():
    assert scaled_difference.__name__ == "scaled_difference"
    assert scaled_difference.__doc__ == "scale (a - b) + shift."
    assert list(inspect.signature(scaled_difference).parameters) == ["a", "b", "scale", "shift"]
    assert scaled_difference.op.name == "scaled_difference"
    assert "scaled_difference" not in registry


def test_without_a_slash_all_positional_parameters_are_arrays(rng):
    @tinylm.op
    def product(a, b, *, factor=1.0):
        return a * b * factor, lambda dy: (dy * b * factor, dy * a * factor)

    a, b = (Tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))
    for y in (product(a, b, factor=3.0), product(a, b=b, factor=3.0), product(b=b, a=a, factor=3.0)):
        da, db = grad(y, [a, b], np.ones(3))
        np.testing.assert_allclose(da.data, 3 * b.data)
        np.testing.assert_allclose(db.data, 3 * a.data)


def test_optional_arrays_may_be_none_or_left_out(rng):
    @tinylm.op
    def affine(x, bias=None, /):
        y = x * 2 if bias is None else x * 2 + bias
        return y, lambda dy: (dy * 2, None if bias is None else dy)

    x, bias = rng.standard_normal(3), rng.standard_normal(3)
    np.testing.assert_allclose(affine(x).data, 2 * x)
    for args in [(x,), (x, None), (x, bias)]:
        assert gradcheck(affine, *args).ok


def test_a_sequence_of_arrays(rng):
    @tinylm.op(sequence=True)
    def weighted_total(arrays, /, *, weight=1.0):
        return sum(a * weight for a in arrays), lambda dy: [dy * weight for _ in arrays]

    arrays = [rng.standard_normal(3) for _ in range(3)]
    for order in (1, 2):
        assert gradcheck(weighted_total, arrays, weight=2.0, order=order).ok
    x = Tensor(arrays[0], requires_grad=True)
    weighted_total((x, arrays[1], x)).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, 2)


def test_several_outputs_and_outputs_without_a_gradient(rng):
    @tinylm.op
    def sorted_with_order(x, /):
        order = np.argsort(x)

        def vjp(dy, _):
            dx = np.empty_like(dy)
            dx[order] = dy
            return (dx,)

        return (x[order], order), vjp

    x = Tensor(rng.standard_normal(5), requires_grad=True)
    values, order = sorted_with_order(x)
    assert values.requires_grad
    assert not order.requires_grad
    values.backward(np.arange(5.0))
    np.testing.assert_array_equal(x.grad[order.data], np.arange(5))


def test_an_op_without_a_derivative_records_nothing(rng):
    @tinylm.op
    def rounded(x, /):
        return np.round(x), None

    assert not rounded(Tensor(rng.standard_normal(3), requires_grad=True)).requires_grad


def test_a_random_op_gets_a_key_and_replays_it(rng):
    keys = []

    @tinylm.op(random=True)
    def noisy(x, /, *, key=None):
        keys.append(key)
        return x * (key[1] + 1.0), lambda dy: (dy * (key[1] + 1.0),)

    x = Tensor(rng.standard_normal(3), requires_grad=True)
    noisy(x)
    y = noisy(x)
    noisy(x, key=(9, 9))
    assert keys == [(0, 0), (0, 1), (9, 9)]
    tinylm.grad(y, x, np.ones(3), create_graph=True)  # runs the body again
    assert keys[-1] == (0, 1)


def test_a_composed_twin_serves_derivatives_of_derivatives(rng):
    @tinylm.op(composed=lambda x: tinylm.exp(x) * x)
    def fused(x, /):
        y = np.exp(x)
        np.multiply(y, x, out=y)  # cannot run on tensors
        return y, lambda dy: (dy * (np.exp(x) * (1 + x)),)

    for order in (1, 2):
        assert gradcheck(fused, rng.standard_normal(4), order=order).ok


def test_the_body_sees_arrays_and_tensors_only_when_it_is_run_again(rng):
    seen = []

    @tinylm.op
    def watched(x, /):
        seen.append(type(x))
        return x * 1.0, lambda dy: (dy * 1.0,)

    x = Tensor(rng.standard_normal(2), requires_grad=True)
    y = watched(x)
    tinylm.grad(y, x, np.ones(2), create_graph=True)
    assert seen == [np.ndarray, Tensor]


def test_scalars_and_lists_are_arguments_too():
    np.testing.assert_array_equal(tinylm.add([1, 2], 3).data, [4, 5])
    assert tinylm.add(1, 2).item() == 3
    np.testing.assert_array_equal(tinylm.concatenate([[1.0], Tensor([2.0]), np.array([3.0])]).data, [1, 2, 3])


# ---------------------------------------------------------------- mistakes


def where_of(call):
    code = inspect.unwrap(call).__code__
    return f"{code.co_filename}:{code.co_firstlineno + 1}"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda dy: (dy, dy), "returned 2 gradients for 1 arguments"),
        (lambda dy: (), "returned 0 gradients for 1 arguments"),
        (lambda dy: dy, "returned ndarray, not a tuple of gradients, for 1 arguments"),
        (lambda dy: (dy[:1],), "returned a gradient of shape (1,) for an argument of shape (3,)"),
        (lambda dy: (dy.sum(),), "returned a gradient of shape () for an argument of shape (3,)"),
        (lambda dy: (2.0,), "returned a gradient of shape float for an argument of shape (3,)"),
    ],
)
def test_a_vjp_that_breaks_its_contract(result, message):
    @tinylm.op
    def mistaken(x, /):
        return x * 1.0, result

    def apply(x):
        return mistaken(x)

    y = apply(Tensor(np.ones(3), requires_grad=True))
    with pytest.raises(ShapeError, match=re.escape(f"the vjp of mistaken ({where_of(apply)}) {message}")):
        y.backward(np.ones(3))


@pytest.mark.parametrize(
    ("body", "sequence", "message"),
    [
        (lambda *, scale: None, False, "has no array parameters"),
        (lambda a, b: None, True, "must have one array parameter"),
    ],
)
def test_a_body_of_the_wrong_form(body, sequence, message):
    with pytest.raises(TypeError, match=message):
        tinylm.op(body, sequence=sequence)


def test_missing_and_surplus_arguments_are_pythons_errors():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        tinylm.add(Tensor(1.0))
    with pytest.raises(TypeError, match="unexpected keyword argument 'axes'"):
        tinylm.sum(Tensor(1.0), axes=0)


def test_tensors_on_different_devices_are_refused():
    class Foreign:
        """What an array on a GPU looks like to the dispatcher."""

        dtype, shape, ndim, size = np.dtype(np.float32), (2,), 1, 2
        device = type("Device", (), {"id": 1})

    Foreign.__module__ = "cupy"
    far = Tensor(np.ones(2))
    far.data = Foreign()
    with pytest.raises(DeviceError, match=r"^add: the arguments are on different devices, cpu and cuda:1$"):
        far + Tensor(np.ones(2))


# ---------------------------------------------------------------- where an op was called


def test_nodes_name_the_users_line_for_functions_operators_and_methods():
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    start = inspect.currentframe().f_lineno
    made = [
        tinylm.exp(x),
        x + 1,
        2 - x,
        x.sum(),
        x[0],
        x.reshape(4),
        x.T,
        x.to(dtype="float32"),
        tinylm.linear(
            x,
            x,
        ),
    ]
    for i, y in enumerate(made):
        file, _, number = y.node.where().rpartition(":")
        assert file == __file__
        assert int(number) == start + 2 + i, y.node
    assert re.fullmatch(r"<exp at .*test_op.py:\d+>", repr(made[0].node))


def test_array_module_is_tinylm_for_tensors():
    assert array_module(np.ones(1), Tensor(1.0), None, 2) is tinylm.ops
    assert array_module(np.ones(1), None, 2).__dict__["_module"] is np


def test_what_an_op_returns_of_its_own_argument_has_the_same_version() -> None:
    """A write into one of them is noticed by whoever kept the other for the backward pass."""

    @op
    def same(x, /):
        return x, lambda dy: (dy,)

    x = Tensor(np.arange(3.0))
    y = same(x)
    assert y.data is x.data
    assert y.version_cell is x.version_cell
