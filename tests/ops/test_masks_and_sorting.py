"""Masks, sorting, cumulative sums and lookups: NumPy's values, ties, NaN, and what is refused."""

import operator
import re

import numpy as np
import pytest
import torch

import tinylm
from tinylm import Tensor
from tinylm.errors import AutogradError, ConfigError, RangeError, ShapeError

A, B = np.array([[True, False], [True, True]]), np.array([True, False])
X = np.random.default_rng(0).standard_normal((2, 3))


@pytest.mark.parametrize("name", ["and_", "or_"])
def test_masks_combine_in_either_order(name):
    apply = getattr(operator, name)
    for a, b in [(Tensor(A), Tensor(B)), (Tensor(A), B), (A, Tensor(B)), (Tensor(A), True), (False, Tensor(B)), (Tensor(np.arange(5)), 6)]:
        found = apply(a, b).numpy()
        expected = np.asarray(apply(*(x.numpy() if isinstance(x, Tensor) else x for x in (a, b))))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal((~Tensor(A)).numpy(), ~A)
    np.testing.assert_array_equal((~(Tensor(X) > 0)).numpy(), X <= 0)


def test_a_mask_chosen_by_hand():
    x = Tensor(X, requires_grad=True)
    keep = (x > -0.5) & (x < 0.5) | (x == x.max())
    tinylm.where(keep, x, 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad, ((X > -0.5) & (X < 0.5)) | (X.max() == X))
    mask = Tensor(A)
    with_and = mask
    with_and &= B
    np.testing.assert_array_equal(with_and.numpy(), A & B)
    np.testing.assert_array_equal(mask.numpy(), A)  # a new tensor


@pytest.mark.parametrize("values", [np.array([[0.0, np.nan], [0.0, 0.0]]), np.array([[1, 2], [0, 1]]), A, np.zeros((2, 0))])
def test_any_and_all_are_numpys(values):
    for axis in (None, 0, -1, (0, 1)):
        for keepdims in (False, True):
            for name in ("any", "all"):
                found = getattr(Tensor(values), name)(axis, keepdims=keepdims).numpy()
                np.testing.assert_array_equal(found, getattr(values, name)(axis=axis, keepdims=keepdims))


def test_the_first_of_equal_elements_comes_first_and_nan_is_largest():
    x = np.array([2.0, 1.0, 2.0, np.nan, 1.0, 2.0])
    values, indices = tinylm.topk(x, 4)
    np.testing.assert_array_equal(indices.numpy(), [3, 0, 2, 5])
    np.testing.assert_array_equal(values.numpy(), x[[3, 0, 2, 5]])
    np.testing.assert_array_equal(tinylm.argsort(x).numpy(), [1, 4, 0, 2, 5, 3])
    np.testing.assert_array_equal(tinylm.sort(x).numpy(), np.sort(x))
    assert (tinylm.argmax(x[:3]).item(), tinylm.argmin(x[1:3]).item(), tinylm.argmin(x[[0, 2]]).item()) == (0, 0, 0)
    np.testing.assert_array_equal(tinylm.topk(np.array([3, 250, 0], np.uint8), 2)[0].numpy(), [250, 3])
    np.testing.assert_array_equal(tinylm.topk(np.array([False, True]), 1)[1].numpy(), [1])


def test_in_a_tie_each_place_gets_its_own_gradient():
    dy = np.array([1.0, 10.0, 100.0, 1000.0])
    x = Tensor(np.array([2.0, 1.0, 2.0, 1.0]), requires_grad=True)
    tinylm.sort(x).backward(dy)
    np.testing.assert_array_equal(x.grad, [100.0, 1.0, 1000.0, 10.0])
    theirs = torch.tensor(x.numpy(), requires_grad=True)
    torch.sort(theirs, stable=True)[0].backward(torch.tensor(dy))
    np.testing.assert_array_equal(x.grad, theirs.grad.numpy())
    x.grad = None
    tinylm.topk(x, 1)[0].backward(np.ones(1))
    np.testing.assert_array_equal(x.grad, [1.0, 0.0, 0.0, 0.0])


def test_cumulative_sums():
    np.testing.assert_array_equal(tinylm.cumsum(X).numpy(), np.cumsum(X))
    np.testing.assert_array_equal(tinylm.cumsum(np.array(3.0)).numpy(), [3.0])
    assert tinylm.cumsum(np.array([True, True])).numpy().tolist() == [1, 2]
    for shape, axis in [((0,), 0), ((0,), None), ((2, 0), 0), ((0, 2), 0)]:
        x = Tensor(np.ones(shape), requires_grad=True)
        tinylm.cumsum(x, axis).sum().backward()
        assert x.grad.shape == shape


def test_a_causal_mask_and_what_it_covers():
    scores = np.array([[1.0, np.nan], [2.0, 3.0]])
    np.testing.assert_array_equal(tinylm.tril(scores).numpy(), [[1, 0], [2, 3]])
    np.testing.assert_array_equal(tinylm.tril(np.ones((3, 3), bool)).numpy(), np.tri(3, dtype=bool))
    np.testing.assert_array_equal(tinylm.triu(np.ones((2, 3)), 1).numpy(), [[0, 1, 1], [0, 0, 1]])


def test_log_probabilities_of_chosen_tokens():
    """gather takes the first rows where the indices have fewer; take_along_axis repeats one row."""
    logits, ids = np.arange(12.0).reshape(3, 4), np.array([[1], [0]])
    np.testing.assert_array_equal(tinylm.gather(logits, ids, -1).numpy(), [[1.0], [4.0]])
    np.testing.assert_array_equal(tinylm.gather(logits, ids[:1], -1).numpy(), [[1.0]])
    np.testing.assert_array_equal(tinylm.take_along_axis(logits, ids[:1], -1).numpy(), [[1.0], [5.0], [9.0]])
    np.testing.assert_array_equal(tinylm.take(logits, np.array([-1, 0]), 1).numpy(), logits[:, [-1, 0]])
    np.testing.assert_array_equal(Tensor(logits).take(np.array([5])).numpy(), [5.0])


REFUSED = [
    (lambda: Tensor(X) & Tensor(X), ShapeError, "a & b: expected booleans or integers, got float64: compare first, as in (x > 0)"),
    (lambda: Tensor(A) | 1.5, ShapeError, "a | b: expected booleans or integers, got a float"),
    (lambda: ~Tensor(X), ShapeError, "~x: expected booleans or integers, got float64"),
    (lambda: tinylm.tril(np.ones(3)), ShapeError, "tril: x has shape (3,), expected (..., rows, columns)"),
    (lambda: tinylm.triu(X, 1.5), ConfigError, "triu: k is 1.5: expected an integer"),
    (lambda: tinylm.topk(X, 4), ConfigError, "topk: k is 4: expected 0 to 3, for x of shape (2, 3) along axis 1"),
    (lambda: tinylm.topk(X, -1), ConfigError, "topk: k is -1: expected 0 to 3"),
    (lambda: tinylm.topk(X, 1.0), ConfigError, "topk: k is 1.0: expected an integer"),
    (lambda: tinylm.one_hot(np.array([0, 3]), 3), RangeError, "one_hot: id 3 is out of range: expected 0 to 2"),
    (lambda: tinylm.one_hot(X, 3), ShapeError, "one_hot: id must be an array of integers, got float64"),
    (lambda: tinylm.one_hot(np.array([0]), 0), ConfigError, "one_hot: num_classes is 0: expected at least 1"),
    (lambda: tinylm.gather(X, np.array([0]), 0), ShapeError, "gather: indices have shape (1,), x (2, 3): expected as many axes"),
    (lambda: tinylm.gather(X, np.zeros((3, 1), int), 1), ShapeError, "none longer but axis 1"),
    (lambda: tinylm.gather(X, np.array([[-1]]), 1), RangeError, "gather: index -1 is out of range: expected 0 to 2"),
    (lambda: tinylm.gather(X, np.array([[0.0]]), 1), ShapeError, "gather: index must be an array of integers, got float64"),
    (lambda: tinylm.sort(X, 2), IndexError, "axis 2 is out of bounds"),
    (lambda: tinylm.argsort(np.array(1.0)), IndexError, "axis -1 is out of bounds for array of dimension 0"),
    (lambda: tinylm.cumsum(X, -3), IndexError, "axis -3 is out of bounds"),
    (lambda: tinylm.take(X, np.array([6])), IndexError, "index 6 is out of bounds"),
    (lambda: tinylm.take(X, np.array([True, False]), 0), ShapeError, "take: indices must be integers, got bool; for a mask: x[mask]"),
    (lambda: tinylm.take(X, 1.0, 0), ShapeError, "take: indices must be integers, got float"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_a_mask_cannot_change_a_leaf_in_place():
    x = Tensor(X, requires_grad=True)
    with pytest.raises(AutogradError, match="&="):
        x &= Tensor(A)
