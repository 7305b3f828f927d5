"""Repeating, rolling, flattening and squeezing: NumPy's values, and what is refused."""

import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import ConfigError, ShapeError

X = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("repeat", (2,)),
        ("repeat", (3, -2)),
        ("repeat", ([0, 2, 1], 1)),
        ("repeat", (np.array([1, 2]), 0)),
        ("tile", (2,)),
        ("tile", ((2, 1, 3),)),
        ("tile", ((2, 1, 1, 2),)),
        ("tile", ((),)),
        ("roll", (3,)),
        ("roll", (-5, 1)),
        ("roll", ((1, 2), (0, 2))),
        ("roll", (1, (1, 1))),
        ("flip", ()),
        ("flip", ((0, -1),)),
        ("squeeze", ()),
        ("tril", (1,)),
    ],
)
def test_values_are_numpys(name, args):
    np.testing.assert_array_equal(getattr(tinylm, name)(X, *args).numpy(), getattr(np, name)(X, *args))
    whole = X.astype(np.int64)
    assert getattr(tinylm, name)(whole, *args).dtype == np.int64


def test_lengths_that_are_kept():
    x = Tensor(np.ones((2, 1, 3)), requires_grad=True)
    y = tinylm.broadcast_to(x, (5, -1, 4, -1))
    assert y.shape == (5, 2, 4, 3)
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(x.grad, 20)
    assert x.broadcast_to([-1, 2, -1]).shape == (2, 2, 3)
    assert Tensor(1.5).broadcast_to(3).shape == (3,)


def test_squeezed_axes():
    x = Tensor(np.ones((1, 3, 1, 1)))
    assert x.squeeze().shape == (3,)
    assert x.squeeze((0, -1)).shape == (3, 1)
    assert x.squeeze([0, 2]).shape == (3, 1)
    assert x.squeeze(()).shape == (1, 3, 1, 1)
    assert x.squeeze(-2).shape == (1, 3, 1)
    assert Tensor(1.5).squeeze(0).shape == ()


def test_flattened_axes():
    logits = Tensor(np.ones((2, 3, 4)))
    assert logits.flatten(0, 1).shape == (6, 4)
    assert logits.flatten(-2).shape == (2, 12)
    assert logits.flatten(1, 1).shape == (2, 3, 4)
    assert logits.flatten().shape == (24,)
    assert Tensor(np.ones((2, 0, 3))).flatten().shape == (0,)


def test_a_repeated_leaf_gets_the_sum():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    tinylm.repeat(x, [3, 0]).backward(np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(x.grad, [111, 0])
    x.grad = None
    tinylm.tile(x, 2).backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_array_equal(x.grad, [101, 1010])
    x.grad = None
    tinylm.roll(x, 1).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad, [10, 1])


REFUSED = [
    (lambda: tinylm.squeeze(X, 1), ShapeError, "squeeze: axis 1 of the shape (2, 3, 4) has the length 3: expected 1"),
    (lambda: tinylm.squeeze(X[:1], (0, -1)), ShapeError, "squeeze: axis 2 of the shape (1, 3, 4) has the length 4: expected 1"),
    (lambda: tinylm.squeeze(X[:1], (0, 0)), ValueError, "repeated axis"),
    (lambda: tinylm.squeeze(X, 3), IndexError, "axis 3 is out of bounds"),
    (
        lambda: tinylm.broadcast_to(X, (-1, 2, 3, 4)),
        ShapeError,
        "broadcast_to: (-1, 2, 3, 4) has a -1 before the axes of x, whose shape is",
    ),
    (lambda: tinylm.broadcast_to(X, (-1, 5, -1)), ValueError, "broadcast"),
    (lambda: tinylm.flatten(X, 2, 0), ShapeError, "flatten: end_axis 0 comes before start_axis 2 in the shape (2, 3, 4)"),
    (lambda: tinylm.flatten(X, 3), IndexError, "axis 3 is out of bounds"),
    (lambda: tinylm.repeat(X, -1), ConfigError, "repeat: repeats is -1: expected at least 0"),
    (lambda: tinylm.repeat(X, 1.5), ConfigError, "repeat: repeats is 1.5: expected an integer"),
    (lambda: tinylm.repeat(X, [1, 2], 1), ShapeError, "repeat: 2 numbers of repetitions for 3 elements of axis 1"),
    (lambda: tinylm.tile(X, (1, -2)), ConfigError, "tile: reps is -2: expected at least 0"),
    (lambda: tinylm.tile(X, 2.0), ConfigError, "tile: reps is 2.0: expected an integer"),
    (lambda: tinylm.roll(X, 0.5, 1), ConfigError, "roll: shift is 0.5: expected an integer"),
    (lambda: tinylm.roll(X, (1, 2), 1), ShapeError, "roll: 2 shifts for 1 axes"),
    (lambda: tinylm.roll(X, 1, 3), IndexError, "axis 3 is out of bounds"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()
