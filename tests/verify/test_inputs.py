"""What a check makes of its arguments: copies with the strides of the originals, tensors by name, and memory of their own."""

import contextlib
import inspect

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.errors import ConfigError
from tinylm.verify import check_module, compare, compare_gradients, compare_op, drift, gradcheck
from tinylm.verify.arguments import as_tensors, floating_arguments, mapped, members, named_arguments, on_device, prepared
from tinylm.verify.inputs import copied, own_memory, variables_of
from tinylm.verify.module_checks import model_gradients
from tinylm.verify.op_checks import check_op, checked, differentiable, flat_arguments, op_names
from tinylm.verify.samples import Sample, samples_of

GRADCHECK = {"mode": None, "order": 1, "tolerance": None, "seed": 0, "thorough": False, "taped_in": "float64"}
DEFAULTS = [
    (gradcheck, GRADCHECK),
    (check_module, GRADCHECK),
    (model_gradients, {"dtype": "float64", "seed": 0}),
    (compare, {"dtype": "float64", "tolerance": None, "seed": 0}),
    (compare_op, {"order": 1, "device": "cpu", "dtype": "float64", "seed": 0}),
    (drift, {"dtype": "float32", "seed": 0}),
    (compare_gradients, {"tolerance": None, "tied": ()}),
    (check_op, {"order": 1, "device": "cpu", "limit": None, "implementation": "auto", "seed": 0, "thorough": False}),
    (checked, {"seed": 0, "thorough": False}),
    (samples_of, {"seed": 0}),
]


@pytest.mark.parametrize(("function", "expected"), DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_the_defaults_of_every_check(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


# ---------------------------------------------------------------- memory

X = np.arange(24.0).reshape(4, 6)
FIELD = np.zeros(4, [("a", "f4"), ("b", "f8")])["b"]


def windows(x, shape, *steps):
    return np.lib.stride_tricks.as_strided(x, shape, [8 * step for step in steps])


@pytest.mark.parametrize(
    ("x", "steps"),
    [
        (X, (6, 1)),
        (X.T, (1, 6)),
        (X[:, ::2], (6, 2)),
        (X[::2, ::-3], (12, -3)),
        (X[::-1, 1:], (-6, 1)),
        (X[1:2, ::2], (6, 2)),  # an axis of length 1 does not count
        (np.zeros(64 * 65)[::65], (65,)),  # 4096 numbers for 64
        (np.zeros(65 * 65)[::65], (1,)),  # more than 64 for each
        (np.broadcast_to(np.array([1.0, 2.0]), (3, 2)), (2, 1)),  # elements that share memory
        (windows(np.arange(7.0), (2, 3), 2, 1), (3, 1)),
        (windows(np.arange(7.0), (2, 3), 3, 1), (3, 1)),
        (windows(np.arange(9.0), (2, 3), 4, 1), (4, 1)),
        (windows(np.arange(9.0), (3, 2), 1, 3), (1, 3)),
        (windows(np.arange(9.0), (3, 2), 1, 2), (2, 1)),
        (FIELD, (1,)),  # 12 bytes apart
        (np.lib.stride_tricks.as_strided(np.zeros(4), (3,), (4,)), (1,)),  # half an element apart
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copy_has_the_strides_of_the_original(x, steps, dtype):
    copy = copied(x, np.dtype(dtype))
    np.testing.assert_array_equal(copy, x)
    assert copy.dtype == dtype
    found = [s for s, n in zip(copy.strides, x.shape, strict=True) if n > 1]
    assert found == [s * copy.itemsize for s, n in zip(steps, x.shape, strict=True) if n > 1]
    assert copy.flags.writeable
    assert not np.may_share_memory(copy, x)
    before = copy.copy()
    copy[(0,) * copy.ndim] += 1
    assert np.count_nonzero(copy != before) == 1, "each element moves alone"


def test_arguments_become_tensors_by_name():
    t, kept = Tensor(np.ones(2)), np.array([1, 2])
    args, variables = variables_of([X, [X, t], (X, kept), t, None, 2.5, np.float64(2.0), kept, []])
    assert [name for name, _ in variables] == ["argument 0", "argument 1[0]", "argument 1[1]", "argument 3"]
    assert args[0] is variables[0][1]
    assert args[1] == [variables[1][1], t]
    assert args[2] == (X, kept)  # not all are floating
    assert args[3] is variables[3][1] is not t  # it has a gradient of its own
    assert args[4:] == [None, 2.5, 2.0, kept, []]
    with pytest.raises(ConfigError, match=r"gradcheck: argument 1 is a tensor of dtype float32: expected float64"):
        variables_of([X, Tensor(np.ones(2, np.float32))])


def test_within_a_check_tensors_share_no_memory_and_can_be_written():
    memory, frozen = np.arange(6.0), np.arange(3.0)
    frozen.flags.writeable = False
    ts = [Tensor(x) for x in (memory[:3], memory[2:], np.ones(2), frozen, np.broadcast_to(1.0, 3))]
    before = [t.data for t in ts]
    with contextlib.suppress(ZeroDivisionError), own_memory([(str(i), t) for i, t in enumerate(ts)]):
        assert [t.data is x for t, x in zip(ts, before, strict=True)] == [True, False, True, False, False]
        assert not np.may_share_memory(ts[0].data, ts[1].data)
        assert all(t.data.flags.writeable for t in ts)
        raise ZeroDivisionError
    assert all(t.data is x for t, x in zip(ts, before, strict=True))


# ---------------------------------------------------------------- nested arguments


def test_nested_arguments():
    nested = {"a": (1, [2, None]), "b": ()}
    assert list(members(nested)) == [1, 2]
    assert list(members(None)) == []
    doubled = mapped([X, (X, 3), "x"], lambda a: a * 2)
    assert (type(doubled[1]), doubled[1][1], doubled[2]) == (tuple, 3, "x")
    np.testing.assert_array_equal(doubled[0], 2 * X)
    single, ids = on_device([X, np.array([1, 2])], "cpu", "float32")
    assert (single.dtype, ids.dtype) == (np.float32, np.int64)
    assert on_device(X, "cpu").dtype == np.float64
    tensor, ids = as_tensors((X, np.array([1, 2])), "cpu", "float32")
    assert (tensor.requires_grad, tensor.dtype, type(ids)) == (True, np.float32, np.ndarray)


def test_an_argument_that_is_given_twice_is_converted_once():
    named = named_arguments([X, X, None], lambda x: None if x is None else x * 1)
    assert list(named) == ["0", "1", "2"]
    assert named["0"] is named["1"]
    assert list(named_arguments({"q": X}, lambda x: x)) == ["q"]


def test_a_model_and_its_batch_are_prepared():
    model = nn.Linear(6, 2)
    ours, arguments = prepared(model, {"x": (X, X), "ids": np.array([1])}, "float64")
    assert (ours.weight.dtype, model.weight.dtype) == (np.float64, np.float32)
    assert isinstance(arguments["ids"], Tensor)
    assert not arguments["ids"].requires_grad
    assert [name for name, _ in floating_arguments(arguments, model)] == ["argument x[0]", "argument x[1]"]
    _, arguments = prepared(model, [X, 3, "text"])
    assert [(name, t.dtype) for name, t in floating_arguments(arguments, model)] == [("x (argument 0)", np.float64)]
    assert list(floating_arguments({"a": Tensor(X)}, nn.Linear(6, 2))) == [], "it must require a gradient"


# ---------------------------------------------------------------- ops by name


def test_the_names_of_ops():
    assert op_names() == sorted(op_names())
    assert op_names("exp") == ["exp"]
    with pytest.raises(ConfigError, match="unknown op 'sine': expected one of abs, "):
        op_names("sine")
    assert flat_arguments([1, [2, 3], (4,)]) == [1, 2, 3, (4,)]


def test_an_op_is_differentiable_if_it_has_a_vjp_for_a_floating_argument():
    assert differentiable("exp", Sample("", (X,), {}))
    assert not differentiable("argmax", Sample("", (X,), {}))
    assert not differentiable("add", Sample("", (np.array([1]), 2), {}))
    assert differentiable("linear", Sample("", (X, X), {}))
    assert differentiable("concatenate", Sample("", ([X, X],), {"axis": 1}))


def test_reports_of_an_op_have_its_samples_names():
    reports = check_op("exp", limit=1)
    assert [r.title for r in reports] == [f"exp (full, order 1, {samples_of('exp')[0].note})"]
    assert len(check_op("exp")) == len(samples_of("exp"))
    assert check_op("exp", order=2, limit=1)[0].title.startswith("exp (full, order 2, ")


@pytest.mark.parametrize("error", [ValueError, TypeError, IndexError, AttributeError, ZeroDivisionError])
def test_an_error_of_an_op_is_a_failure_with_its_place(error):
    @tinylm.op
    def broken(x, /):
        raise error("no")

    report = checked(broken, Sample("some", (X,), {}), 1, "cpu", "auto")
    (row,) = report.rows
    assert report.title == "broken (order 1, some)"
    assert (row.name, row.error, row.cause) == (error.__name__, np.inf, "forward or vjp raises")
    assert row.detail.startswith("no (")
    assert "test_inputs.py:" in row.detail


def test_second_order_is_not_checked_where_a_body_needs_numpy_itself():
    @tinylm.op
    def bound(x, /):
        return np.exp(x), lambda dy: (dy * np.exp(np.asarray(x)),)

    first, second = (checked(bound, Sample("some", (X / 24,), {}), order, "cpu", "auto") for order in (1, 2))
    assert first.ok
    assert second.ok
    assert second.title == "bound (order 2, some)"
    assert second.rows == ()
    assert second.remarks == ("second order not checked: an op's body computes with NumPy itself, and not with array_module(x)",)


def test_a_kernel_is_checked_where_one_runs():
    @tinylm.op
    def double(x, /):
        return x * 2, lambda dy: (dy * 2,)

    sample = Sample("some", (X,), {})
    assert checked(double, sample, 1, "cpu", "kernel") is None
    tinylm.kernel(double, device="cpu")(lambda x, /: (x * 2, lambda dy: (dy * 3,)))
    wrong = checked(double, sample, 1, "cpu", "kernel")
    assert wrong is None or not wrong.ok  # None if TINYLM_KERNELS switches it off
    assert checked(double, sample, 1, "cpu", "reference").ok
