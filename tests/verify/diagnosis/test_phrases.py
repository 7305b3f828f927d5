"""What is said of each kind of wrong gradient, word for word."""

import re

import numpy as np
import pytest
from broken_gradients import BROKEN

import tinylm
from tinylm.errors import GradientShapeError
from tinylm.verify import gradcheck
from tinylm.verify.diagnosis.causes import shape_cause

PHRASES = {
    "bias_not_summed": "missing un-broadcast: the argument was broadcast from (4,) to (5, 4), and its gradient is not summed back (sum_to)",
    "bias_of_the_first_row": "missing un-broadcast: only index 0 of axis 0 of output 0 arrives, and not the sum over its 5",
    "bias_averaged": "a factor of 1/5, 5 being the number of rows of output 0: missing un-broadcast: a mean where a sum belongs",
    "operand_not_transposed": "transposed operand: right if b were transposed",
    "incoming_gradient_transposed": "transposed operand: right if the incoming gradient of output 0 were transposed",
    "result_transposed": "transposed: the gradient has its axes in the order [1, 0]",
    "mean_without_its_division": "a factor of 12, the size of x: a division by it is missing",
    "square_without_its_two": "a factor of 0.5",
    "difference_without_its_minus": "a factor of -1: the sign is wrong",
    "relu_without_its_mask": "missing mask: not zero at 2 elements where the right gradient is, such as [2]",
    "causal_sum_without_its_mask": (
        "missing mask: not zero at 12 elements where the right gradient is, such as [0, 0, 1], and a factor of 3 elsewhere"
    ),
    "leaky_relu_as_relu": "a mask too many: zero at 2 elements where the right gradient is not, such as [2]",
    "softmax_without_its_sum": "detached term: the sum at broken_gradients.py is held constant",
    "layer_norm_without_its_mean": "detached term: the mean at broken_gradients.py is held constant",
    "centred_without_its_mean": "detached term: the mean at broken_gradients.py is held constant",
    "cut_off": "detached, or multiplied by 0: the gradient is 0 everywhere",
    "product_swapped": "swapped arguments: this is the gradient of b",
    "second_output_forgotten": "detached term: the gradient of output 1 is not used",
    "flip_not_undone": "reversed: the gradient runs backwards along axis 0",
    "column_summed_too_far": "reduced: each element has the sum of the right gradients along axis 0",
}


@pytest.mark.parametrize("mode", ["full", "directions"])
@pytest.mark.parametrize("name", BROKEN)
def test_the_phrase_of_a_broken_gradient(name, mode):
    op, args, _ = BROKEN[name]
    cause = gradcheck(op, *args, mode=mode).failures[0].cause
    assert re.sub(r"at \S*/(\w+\.py):\d+", r"at \1", cause) == PHRASES[name]


def normal(*shape):
    return np.random.default_rng(3).standard_normal(shape)


def cause(vjp, *args, value=lambda x: x * x):
    """Returns the cause of the last failure; vjp(dy, *args): the wrong gradients of value(*args)."""
    if len(args) == 1:
        made = tinylm.op(lambda a, /: (value(a), lambda *dy: (vjp(*dy, a),)))
    else:
        made = tinylm.op(lambda a, b, /: (value(a, b), lambda *dy: vjp(*dy, a, b)))
    report = gradcheck(made, *args)
    return report.failures[-1].cause


@pytest.mark.parametrize(
    ("shape", "factor", "expected"),
    [
        ((2, 3), 6, "6, the size of output 0: a division by it is missing"),
        ((2, 3), -6, "-6, the size of output 0: a division by it is missing"),
        ((2, 3), 6 * (1 + 9e-5), "6.00054, the size of output 0: a division by it is missing"),
        ((2, 3), 6 * (1 + 2e-4), "6.0012"),
        ((2, 3), 2, "2, the number of rows of output 0: a division by it is missing, or a 2 of the formula is too many"),
        ((2, 3), 0.5, "1/2, 2 being the number of rows of output 0: it divides once too often, or a 2 of the formula is missing"),
        ((2, 3), 3**0.5, "1.73205, which is √3, 3 being the length of axis 1 of output 0"),
        ((3, 9), 3, "3, which may come from the number of rows of output 0, or from √9, 9 being the length of axis 1 of output 0"),
        ((3, 9), 1 / 3, "1/3, which may come from the number of rows of output 0, or from √9, 9 being the length of axis 1 of output 0"),
        ((2, 7), 6 / 7, "0.857143, which is 6/7, 7 being the length of axis 1 of output 0"),
        ((3, 5), 0.8, "0.8"),
        ((4, 9), 2 / 3 * 2**0.5, "0.942809"),
        ((2, 3), 3, "3, the length of axis 1 of output 0: a division by it is missing"),
        ((4, 2, 3), 8, "8, the number of rows of output 0: a division by it is missing"),
        ((4, 2, 3), 4, "4, the length of axis 0 of output 0: a division by it is missing"),
        ((2, 3), 1 / 3, "1/3, 3 being the length of axis 1 of output 0: it divides once too often"),
        ((2, 3), -1 / 6, "1/6, 6 being the size of output 0: it divides once too often"),
        ((2, 1), 0.7, "0.7"),
        ((3, 1), -1, "-1: the sign is wrong"),
        ((3, 1), 2.5, "2.5"),
    ],
)
def test_a_factor_and_the_length_that_it_may_be(shape, factor, expected):
    assert cause(lambda dy, x: dy * 2 * x * factor, normal(*shape)) == f"a factor of {expected}"


def test_a_length_of_an_argument_alone():
    total = {"value": lambda x: (x * x).sum()}
    assert cause(lambda dy, x: dy * 2 * x * 5, normal(5, 7), **total) == (
        "a factor of 5, the number of rows of a: a division by it is missing"
    )
    assert cause(lambda dy, x: dy * 2 * x / 7, normal(5, 7), **total) == (
        "a factor of 1/7, 7 being the length of axis 1 of a: it divides once too often"
    )


def test_a_mean_where_a_sum_over_the_first_output_belongs():
    both = {"value": lambda a, b: (a * b, a.sum())}
    assert cause(lambda dy, dz, a, b: (dy * b + dz, (dy * a).mean(0)), normal(5, 4), normal(4), **both) == (
        "a factor of 1/5, 5 being the number of rows of output 0: missing un-broadcast: a mean where a sum belongs"
    )


def test_slices_of_an_output_that_arrive():
    rows = {"value": lambda x: np.stack([x * x, 3 * x, x], axis=-1)}
    x = normal(4)

    def vjp(kept):
        return lambda dy, x: dy[:, 0] * 2 * x * kept[0] + 3 * dy[:, 1] * kept[1] + dy[:, 2] * kept[2]

    named = "{} of axis 1 of output 0 arrives, and not the sum over its 3"
    assert cause(vjp([0, 0, 1]), x, **rows) == named.format("only index 2")
    assert cause(vjp([1, 1, 0]), x, **rows) == named.format("all but index 2")
    assert cause(vjp([0, 1, 1]), x, **rows) == named.format("all but index 0")
    assert cause(vjp([0, 1, 0]), x, **rows) == ""
    several = {"value": lambda x: (x * x, np.stack([x, 2 * x]))}
    assert cause(lambda da, db, x: da * 2 * x + db[0], x, **several) == (
        "missing un-broadcast: only index 0 of axis 0 of output 1 arrives, and not the sum over its 2"
    )


@pytest.mark.parametrize(
    ("shape", "change", "expected"),
    [
        ((2, 2, 2), lambda g: g.transpose(0, 2, 1), "transposed: the gradient has its axes in the order [0, 2, 1]"),
        ((2, 2, 2), lambda g: g.transpose(2, 0, 1), "transposed: the gradient has its axes in the order [2, 0, 1]"),
        ((2, 2, 2, 2), lambda g: g.transpose(3, 2, 1, 0), "transposed: the gradient has its axes in the order [3, 2, 1, 0]"),
        ((2, 3), lambda g: g.T.reshape(2, 3), "transposed: the gradient has its axes in the order [1, 0]"),
        ((2, 3), lambda g: g[:, ::-1], "reversed: the gradient runs backwards along axis 1"),
        ((3, 2), lambda g: g[::-1], "reversed: the gradient runs backwards along axis 0"),
        ((3, 4), lambda g: g.mean(1, keepdims=True) + 0 * g, "reduced: each element has the mean of the right gradients along axis 1"),
        ((3, 4), lambda g: g.sum(0) + 0 * g, "reduced: each element has the sum of the right gradients along axis 0"),
        (
            (3, 4),
            lambda g: g - g.mean(0),
            "detached term: off by one amount along axis 0, as when the sum or mean over it is held constant",
        ),
        ((3, 4), lambda g: g * (np.arange(4) > 0), "a mask too many: zero at 3 elements where the right gradient is not, such as [0, 0]"),
        (
            (3, 4),
            lambda g: 2.5 * g * (np.arange(4) < 3),
            "a mask too many: zero at 3 elements where the right gradient is not, such as [0, 3], and a factor of 2.5 elsewhere",
        ),
        ((3, 4), lambda g: g * np.array([1, 1.5, 1, 1]), ""),
    ],
)
def test_a_gradient_that_is_changed_as_a_whole(shape, change, expected):
    assert cause(lambda dy, x: change(dy * 2 * x), normal(*shape)) == expected


def test_what_belongs_to_another_argument():
    a, b = normal(3, 3), normal(3, 3) + 1
    product = {"value": lambda a, b: a @ b}
    assert cause(lambda dy, a, b: (dy @ b.T, a @ dy), a, b, **product) == "transposed operand: right if a were transposed"
    assert cause(lambda dy, a, b: (dy @ b.T, a.T @ dy.T), a, b, **product) == (
        "transposed operand: right if the incoming gradient of output 0 were transposed"
    )
    sums = {"value": lambda a, b: a * a + b * b * b}
    assert cause(lambda dy, a, b: (dy * 2 * a, dy * 2 * a), a, b, **sums) == "swapped arguments: this is the gradient of a"


@pytest.mark.parametrize(
    ("got", "expected", "phrase"),
    [
        ("list", (2,), "a list instead of an array"),
        ((3, 2), (2, 3), "transposed: the gradient has the axes of its argument in reverse order"),
        (
            (2, 3),
            (3,),
            "missing un-broadcast: the argument was broadcast from (3,) to (2, 3), and its gradient is not summed back (sum_to)",
        ),
        ((3,), (2, 3), "a gradient of another shape"),
        ((4,), (3,), "a gradient of another shape"),
    ],
)
def test_a_gradient_without_the_shape_of_its_argument(got, expected, phrase):
    assert shape_cause(GradientShapeError("wrong", 0, got, expected)) == phrase


def test_a_factor_of_pooling_is_not_laid_to_the_number_of_rows():
    """A window of 2, in an argument of two rows: the number may come from either."""
    pooled = cause(lambda dy, x: np.repeat(dy, 2, axis=-1), normal(2, 10), value=lambda x: (x[:, ::2] + x[:, 1::2]) / 2)
    assert (
        pooled
        == "a factor of 2, which may come from the number of rows of output 0, or from the 2 elements of the argument for one of output 0"
    )


def test_an_edit_that_writes_into_the_cotangent_is_no_repair():
    """Of the gradient of decay, `dy[t] = g` would be right only since the next line reads dy again."""

    @tinylm.op
    def leaky(x, decay, /):
        h, state = np.zeros_like(x), np.zeros_like(x[0])
        for t in range(len(x)):
            state = decay * state + x[t]
            h[t] = state

        def vjp(dy):
            dx, ddecay, carry = np.zeros_like(x), np.zeros_like(decay), np.zeros_like(x[0])
            for t in reversed(range(len(x))):
                g = dy[t] + carry
                dx[t] = g
                if t > 0:
                    ddecay += g * h[t - 1]
                carry = decay * dy[t]
            return dx, ddecay

        return h, vjp

    for failure in gradcheck(leaky, normal(6, 3), normal(3)).failures:
        assert "of `dx`" not in failure.cause


def test_a_factor_of_upsampling_is_not_laid_to_a_length():
    """Three times as long in both axes: 9 elements of the output for one, and the 9 rows of it."""
    up = cause(
        lambda dy, x: dy.reshape(3, 3, 5, 3).mean(axis=(1, 3)), normal(3, 5), value=lambda x: np.repeat(np.repeat(x, 3, axis=0), 3, axis=1)
    )
    assert up.startswith("a factor of 1/9, which may come from")
    assert up.endswith("or from the 9 elements of output 0 for one of the argument")


def test_no_cause_is_named_where_most_elements_are_left_out():
    """A kink at three of five: what is left says nothing of the whole."""

    @tinylm.op
    def clipped(x, /):
        return np.maximum(x, 0) * x.mean(), lambda dy: (dy * (x > 0) * x.mean() * 2,)

    (failure,) = gradcheck(clipped, np.array([0.0, 0.0, 0.0, 1.0, 1.2])).failures
    assert failure.cause == ""
