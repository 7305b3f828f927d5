"""What an op refuses, and the one-line message that says why."""

import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError, TinylmError

X = np.ones((2, 3))
T = Tensor(X)


def attention_of(*shapes):
    return tinylm.scaled_dot_product_attention(*map(np.ones, shapes))


def heads_of(x, *rows, **settings):
    return tinylm.rotary_heads(x.astype("float32"), *(np.ones((n, 3), "float32") for n in rows), frequencies=[1.0, 0.5], **settings)


CASES = [
    (lambda: tinylm.embedding(np.array([0, 5]), X), RangeError, "embedding: token id 5 is out of range: expected 0 to 1"),
    (lambda: tinylm.embedding(np.array([-1]), X), RangeError, "token id -1 is out of range"),
    (lambda: tinylm.embedding(np.array([0.0]), X), ShapeError, "must be an array of integers, got float64"),
    (lambda: tinylm.embedding(1, T), ShapeError, "must be an array of integers, got int"),
    (lambda: tinylm.cross_entropy(T, np.array([0, 3])), RangeError, "target 3 is out of range: expected 0 to 2"),
    (lambda: tinylm.cross_entropy(T, np.array([0, -1])), RangeError, "target -1 is out of range"),
    (lambda: tinylm.cross_entropy(T, np.array([0, 1, 2])), ShapeError, "targets have shape (3,), expected (2,)"),
    (lambda: tinylm.cross_entropy(T, np.array([0.0, 1.0])), ShapeError, "target must be an array of integers, got float64"),
    (lambda: tinylm.nll_loss(T, np.array([0, 3])), RangeError, "target 3 is out of range"),
    (lambda: tinylm.cross_entropy(T, np.array([0, 1]), reduction="max"), ConfigError, "reduction 'max': expected 'mean', 'sum' or 'none'"),
    (lambda: tinylm.binary_cross_entropy_with_logits(T, np.ones(3)), ShapeError, "targets have shape (3,), expected (2, 3)"),
    (lambda: tinylm.linear(T, np.ones((4, 2))), ShapeError, "x has shape (2, 3), its last axis should be 2"),
    (lambda: tinylm.linear(T, X, activation="softplus"), ConfigError, "activation 'softplus'"),
    (lambda: tinylm.scaled_dot_product_attention(T, np.ones((2, 4)), T), ShapeError, "q (2, 3), k (2, 4), v (2, 3)"),
    (lambda: tinylm.scaled_dot_product_attention(T, T, np.ones((3, 3))), ShapeError, "v (3, 3)"),
    (lambda: attention_of((4, 2, 3), (3, 2, 3), (3, 2, 3)), ShapeError, "3 heads of k and 3 of v cannot be shared by 4 heads of q"),
    (lambda: attention_of((4, 2, 3), (2, 2, 3), (4, 2, 3)), ShapeError, "2 heads of k and 4 of v cannot be shared by 4 heads of q"),
    (lambda: tinylm.rotary(T, [1.0]), ShapeError, "rotary: x has shape (2, 3), expected (..., T, 2) for 1 frequencies"),
    (lambda: tinylm.rotary(np.ones(2), [1.0]), ShapeError, "rotary: x has shape (2,)"),
    (lambda: tinylm.rotary(np.ones((2, 2)), [1.0], -1), ShapeError, "the first position is -1: expected at least 0"),
    (lambda: tinylm.rotary(np.ones((2, 2)), [1.0], pairing="thirds"), ConfigError, "pairing 'thirds': expected 'half' or 'interleaved'"),
    (lambda: tinylm.swiglu(T, np.ones(3)), ShapeError, "swiglu: a has shape (2, 3), b (3,): expected the same"),
    (lambda: tinylm.swiglu_linear(T, np.ones((4, 3)), np.ones((5, 3))), ShapeError, "swiglu: a has shape (2, 4), b (2, 5)"),
    (
        lambda: tinylm.swiglu_linear(T, np.ones((4, 3)), np.ones((4, 2))),
        ShapeError,
        "linear: x has shape (2, 3), its last axis should be 2",
    ),
    (lambda: heads_of(X, 4, 4, 4), ShapeError, "split_heads: x has shape (2, 4): expected 3 axes"),
    (lambda: heads_of(X[None], 4, 6, 4), ShapeError, "rotary_heads: k_weight has shape (6, 3): expected whole heads of 4 rows each"),
    (lambda: heads_of(X[None], 4, 4, 4, start=-1), ShapeError, "the first position is -1: expected at least 0"),
    (lambda: heads_of(X[None], 4, 4, 4, pairing="thirds"), ConfigError, "pairing 'thirds': expected 'half' or 'interleaved'"),
    (lambda: tinylm.take_along_axis(T, np.array([0]), 0), ShapeError, "indices have 1 axes, x has 2"),
    (lambda: tinylm.gelu(T, "quick"), ValueError, "approximate is 'quick'"),
    (lambda: tinylm.pad(T, ((1, 1),)), ValueError, "1 pairs of widths for an array of shape (2, 3)"),
    (lambda: tinylm.exp(Tensor(["a"])), ShapeError, "a tensor holds numbers"),
    (lambda: tinylm.exp(np.array([1j])), ShapeError, "dtype complex128"),
]


@pytest.mark.parametrize(("call", "kind", "message"), CASES, ids=[message for *_, message in CASES])
def test_refused(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        call()
    assert isinstance(caught.value, TinylmError)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_broadcast_are_numpys_error():
    with pytest.raises(ValueError, match="broadcast"):
        T + np.ones(4)


@pytest.mark.parametrize(
    ("q", "k", "v"), [((1, 4), (1, 4), (1, 2)), ((1, 4), (1, 1), (1, 2)), ((2, 4), (3, 2), (3, 2)), ((1, 0), (1, 2), (1, 2))]
)
def test_attention_over_leading_axes_that_do_not_fit(q, k, v):
    with pytest.raises(ShapeError, match="attention: the leading axes of q"):
        tinylm.scaled_dot_product_attention(*(Tensor(np.ones((*lead, 3, 8), np.float32)) for lead in (q, k, v)))


def test_parts_that_do_not_divide_an_axis():
    with pytest.raises(ShapeError, match=re.escape("split: axis 0 of x (5, 2) has length 5, which 2 equal parts do not divide")):
        tinylm.split(np.ones((5, 2)), 2)
    assert [part.shape for part in tinylm.split(np.ones((6, 2)), 3, -2)] == [(2, 2)] * 3
