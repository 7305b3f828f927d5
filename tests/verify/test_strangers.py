"""Wrong gradients that were made up without knowing the checker's causes: which are caught, and what is said of each."""

import re

import more_strangers
import numpy as np
import pytest
import strangers

import tinylm
from tinylm.verify import gradcheck

# of each argument that is wrong: the beginning of its cause, or of what is observed
NAMED = {
    "softmax_diagonal": "only the diagonal of the Jacobian",
    "softmax_no_sum": "detached term: the sum at strangers.py is held constant",
    "log_softmax": "a term without the incoming gradient",
    "layer_norm_mean_constant": "detached term: the mean at strangers.py is held constant",
    "unit_vectors": "detached term: the sqrt at strangers.py is held constant",
    "rms_norm_eps": "right with `1e-05` instead of `0.001`, which the forward pass has",
    "leaky_relu": "wrong only where x is negative, where it is zero",
    "elu": "wrong only where x is negative, where 1 times the incoming gradient is missing",
    "embedding": "overwritten: only the last of the 2 outputs that the element at [0, 0] goes into",
    "pick": "overwritten: only the last of the 2 outputs that the element at [0, 0] goes into",
    "dropout_other_mask": "another mask in the backward pass than in the forward pass",
    "dropout_scale": "a factor of 0.8",
    "convolution": "wrong only at the first element of axis 0 of x",
    "cumulative_sum": "forwards again",
    "differences": "wrong only at the last element of axis 1 of x, where it is zero",
    "matrix_product": "transposed",
    "linear": "a factor of 1/5, 5 being the number of rows of output 0",
    "sinc": "wrong only where |x| ≤ 0.02, right from 0.3 on: another branch, such as a series near 0",
    "swish_stale": "stale",
    "tanh": "right with `np.tanh(x)` instead of `x`",
    "gelu": "observed: 23 of 24 elements wrong",
    "x_exp_x": "detached term: the exp at strangers.py is held constant",
    "quotient": "a factor of -1: the sign is wrong",
    "absolute": "wrong only where x is negative, where the sign is wrong",
    "cross_entropy": "a factor of 6, the number of rows of logits",
    "permuted": "transposed",
    "causal_attention": ["right with `p` instead of `w`"] * 3,
    "gated_cell": ["swapped arguments: this is the gradient of f", "swapped arguments: this is the gradient of i"],
    "average_pool": "overwritten: only the last of the 2 outputs",
    "cube": "each element has an extra factor, x",
    "row_maxima": "misplaced: the gradient through 3 outputs",
    "softplus": "forgotten derivative: the gradient passes the exp at more_strangers.py unchanged",
    "swish_gated": "detached term: the divide at more_strangers.py is held constant",
    "batch_norm": "right with `len(x)` instead of `len(x) - 1`",
    "huber": "wrong only where x ≤ -1.01, right from -0.905 on, where the sign is wrong",
    "entropy": "detached term: the log at more_strangers.py is held constant",
    "cosine_similarity": "detached term: the multiply at more_strangers.py is held constant",
    "bilinear": "transposed",
    "rotary": "forwards again",
    "taken": "overwritten: only the last",
    "masked_mean": "a factor of 0.714286",
    "cumulative_product": "each element has an extra factor, x",
    "gru_update": "forgotten derivative: the gradient passes the tanh at more_strangers.py unchanged",
    "valid_convolution": "right with `np.convolve(np.pad(dy, 2), taps, 'valid')`",
    "pooled": "wrong only in what comes from the last element of axis 1 of output 0, where it has a factor of 0.666667",
    "upsampled": "overwritten: only the first",
    "ridge": "right with `0.6` instead of `0.3`",
    "attention_weights": "a factor of 2.44949",
    "sorted_rows": "forwards again",
    "max_pooled": "misplaced: the gradient through 3 outputs",
    "attention_dropout": ["observed: all 12 elements wrong"] * 2,
    "clipped_logit": "missing mask: not zero at 2 elements where the right gradient is",
    "hypotenuse": "swapped arguments: this is the gradient of a",
    "square_root": "each element has an extra factor, 1 / the output",
    "weighted_loss": "wrong term: what flows back through the log at more_strangers.py has a factor of 0.333333",
    "scaled_by_largest": "stale",
}
ALL = {**strangers.FIRST, **more_strangers.SECOND}


@pytest.mark.parametrize("name", ALL)
def test_a_stranger_s_mistake_is_caught_and_named(name):
    """The whole beginning counts: no cause is named for the mistake of another."""
    report = gradcheck(ALL[name].op, *ALL[name].args)
    expected = NAMED[name] if isinstance(NAMED[name], list) else [NAMED[name]]
    found = [re.sub(r"at \S*/(\w+\.py):\d+", r"at \1", row.explanation.removeprefix("likely cause: ")) for row in report.failures]
    assert len(found) == len(expected), report
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning), text


def made(value, vjp):
    """An op of one argument from two lambdas, whose source no repair can read."""
    return tinylm.op(lambda x, /: (value(x), lambda dy: (vjp(dy, x),)))


def cause(value, vjp, x):
    return gradcheck(made(value, vjp), np.array(x)).failures[0].explanation.removeprefix("likely cause: ")


X = np.random.default_rng(2).standard_normal(9)


@pytest.mark.parametrize(
    ("value", "vjp", "expected"),
    [
        (lambda x: x * x, lambda dy, x: 2 * x, "the incoming gradient is not used"),
        (lambda x: x * x, lambda dy, x: 2 * x * dy + 1, "a term without the incoming gradient"),
        (lambda x: x * x, lambda dy, x: 2 * x * dy * abs(dy), "not linear in the incoming gradient"),
        (lambda x: x * (X > 0), lambda dy, x: dy * (X <= 0), "the opposite mask"),
        (np.exp, lambda dy, x: dy * np.exp(x) * np.where(x > 0, 1, 2), "wrong only where x is negative, where it has a factor of 2"),
        (np.exp, lambda dy, x: dy * np.exp(x) * np.where(np.abs(x) > 1, 0, 1), "wrong only where |x| ≥ 1.14"),
        (np.exp, lambda dy, x: dy * np.exp(x) / x, "each element has an extra factor, 1 / x"),
        (np.sin, lambda dy, x: dy * 3 * np.sin(x), "observed: all 9 elements wrong"),
        (np.cumsum, lambda dy, x: np.cumsum(dy), "forwards again"),
        (np.cumsum, lambda dy, x: dy, "only the diagonal of the Jacobian"),
        (lambda x: np.pad(x, 1)[:-2] + x, lambda dy, x: np.append(dy[1:], 2.0 * dy[-1]) + dy, "wrong only at the last element"),
        (lambda x: x + np.roll(x, 1), lambda dy, x: dy + np.roll(dy, -2), "misplaced: the gradient through 9 outputs"),
    ],
)
def test_a_cause_that_needs_no_source(value, vjp, expected):
    assert cause(value, vjp, X).startswith(expected), cause(value, vjp, X)


def test_what_a_place_does_not_tell_apart_is_not_named():
    """Two of four elements are wrong, by chance the negative ones; one of three, by chance the last."""
    assert cause(np.exp, lambda dy, x: dy * np.exp(x) * [2, 1, 2, 1], [-1.0, 1.0, -2.0, 0.5]).startswith("observed")
    assert cause(lambda x: np.cumsum(x), lambda dy, x: np.cumsum(dy[::-1])[::-1] * [1, 1, 3], [1.0, 2.0, 3.0]).startswith("observed")


def test_a_function_without_memory_is_right_everywhere():
    for value, vjp in ((np.exp, lambda dy, x: dy * np.exp(x)), (np.abs, lambda dy, x: dy * np.sign(x))):
        assert gradcheck(made(value, vjp), X).ok
    zero = np.zeros(3)
    assert gradcheck(made(np.exp, lambda dy, x: dy * np.exp(x)), zero).ok


@tinylm.op
def scaled(x, /, *, eps=1e-6):
    """x / √(x² + eps), whose vjp has another eps."""
    r = 1 / np.sqrt(x * x + eps)

    def vjp(dy):
        return (dy * 1e-2 / (x * x + 1e-2) ** 1.5,)

    return x * r, vjp


def test_what_no_single_edit_repairs_is_left_alone():
    """Two numbers are wrong: the edit of one does not make the gradient right, so none is proposed."""
    assert gradcheck(scaled, X).failures[0].cause == ""
