"""What gradcheck says of a function, word for word: right and wrong gradients, and all that cannot be compared."""

import itertools
import re

import numpy as np
import pytest

import tinylm
from tinylm.verify import gradcheck

X = [1.0, 2.0, -3.0]
KINK = "the point looks non-differentiable there"
SMALL = "too small beside the largest to be told from zero, their signs unchecked"


def squares(*factors):
    """x² with a gradient that is wrong by these factors."""
    made = tinylm.op(lambda x, /: (x * x, lambda dy: (dy * 2 * x * np.array(factors),)))
    made.__name__ = made.op.name = "squares"
    return made


def bumpy(*factors):
    return lambda x: tinylm.relu(x) + squares(*factors)(x)


def steep(slope):
    """A line whose gradient is wrong in the third element."""
    return tinylm.op(lambda x, /: (x * slope, lambda dy: (dy * slope * np.array([1, 1, 1.5]),)))


def noisy():
    times = itertools.count(1)
    return tinylm.op(lambda x, /: (x * (1 + 0.25 * (next(times) % 2)), lambda dy: (dy * 1.0,)))


@tinylm.op
def cubes(x, /):
    """x³, whose vjp computes in float32 in part."""
    return x * x * x, lambda dy: (dy * 3 * (x * x).astype(np.float32),)


def loss(x):
    return tinylm.cross_entropy(x, np.array([1]))


CASES = {
    "right": (lambda x: x * x, X, {}, "(full, order 1): ok, largest relative error small, tolerance 1e-06"),
    "second order": (lambda x: x * x * x, X, {"order": 2}, "(full, order 2): ok, largest relative error small, tolerance 1e-05"),
    "directions": (lambda x: x * x, X, {"mode": "directions"}, "(directions, order 1): ok, largest relative error small, tolerance 1e-06"),
    "one element": (
        squares(1, 1, 1.5),
        X,
        {},
        "(full, order 1): FAILED, largest relative error 4.01e-01, tolerance 1e-06\n"  # 3 / √(4 + 16 + 36)
        "  x (argument 0): relative error 4.01e-01; worst at [2], output element 2: -9 by the tape, -6 by differences; "
        "observed: 1 of 3 elements wrong: [2]; 1 entry has another value, of the right sign, 1.5 times as large",
    ),
    "one small element, its own error": (
        squares(1, 1, 1.01),
        [1e4, 2e4, 1e-3],
        {},
        "(full, order 1): FAILED, largest relative error 1.00e-02, tolerance 1e-06\n"
        "  x (argument 0): relative error 1.00e-02; worst at [2], output element 2: 0.00202 by the tape, 0.002 by differences",
    ),
    "two axes": (
        lambda x: squares([1, 1], [-1, 1])(x).sum(0) * 1.0,
        [[1.0, 2.0], [3.0, 4.0]],
        {},
        "(full, order 1): FAILED, largest relative error 1.10e+00, tolerance 1e-06\n"  # 12 / √(4 + 16 + 36 + 64)
        "  x (argument 0): relative error 1.10e+00; worst at [1, 0], output element 0: -6 by the tape, 6 by differences; "
        "likely cause: the op squares is wrong by itself: x (argument 0)",
    ),
    "all by a factor": (
        squares(2, 2, 2),
        X,
        {},
        "(full, order 1): FAILED, largest relative error 1.00e+00, tolerance 1e-06\n"
        "  x (argument 0): relative error 1.00e+00; worst at [2], output element 2: -12 by the tape, -6 by differences; "
        "likely cause: a factor of 2",
    ),
    "a NaN": (
        squares(1, np.nan, 1),
        X,
        {},
        "(full, order 1): FAILED, largest relative error nan, tolerance 1e-06\n"
        "  x (argument 0): relative error nan; worst at [1], output element 0: nan by the tape, 0 by differences; "
        "likely cause: the gradient is not finite where the function is smooth",
    ),
    "one of large elements": (
        steep(1e200),
        [1.0, 1.0, 1.0],
        {},
        "(full, order 1): FAILED, largest relative error 2.89e-01, tolerance 1e-06\n"  # 0.5 / √3
        "  x (argument 0): relative error 2.89e-01; worst at [2], output element 2: 1.5e+200 by the tape, 1e+200 by differences; "
        "observed: 1 of 3 elements wrong: [2]; 1 entry has another value, of the right sign, 1.5 times as large",
    ),
    "one of small elements": (
        steep(1e-200),
        [1.0, 1.0, 1.0],
        {},
        "(full, order 1): FAILED, largest relative error 2.89e-01, tolerance 1e-06\n"
        "  x (argument 0): relative error 2.89e-01; worst at [2], output element 2: 1.5e-200 by the tape, 1e-200 by differences; "
        "observed: 1 of 3 elements wrong: [2]; 1 entry has another value, of the right sign, 1.5 times as large",
    ),
    "an infinite one": (
        squares(np.inf),
        [2.0],
        {},
        "(full, order 1): FAILED, largest relative error nan, tolerance 1e-06\n"
        "  x (argument 0): relative error nan; worst at [0], output element 0: inf by the tape, 4 by differences; "
        "likely cause: the gradient is not finite where the function is smooth",
    ),
    "a kink": (
        tinylm.relu,
        [0.0, 2.0, -3.0],
        {},
        f"(full, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 1 of 3 elements left out, since {KINK}: [0]",
    ),
    "more than four kinks": (
        tinylm.relu,
        [0.0] * 5 + [1.0] * 6,
        {},
        "(full, order 1): ok, largest relative error small, tolerance 1e-06\n"
        f"  x: 5 of 11 elements left out, since {KINK}: [0], [1], [2], [3], ...",
    ),
    "four kinks": (
        tinylm.relu,
        [0.0] * 4 + [1.0] * 4,
        {},
        "(full, order 1): ok, largest relative error small, tolerance 1e-06\n"
        f"  x: 4 of 8 elements left out, since {KINK}: [0], [1], [2], [3]",
    ),
    "more kinks than not": (
        tinylm.relu,
        [0.0, 0.0, 1.0],
        {},
        "(full, order 1): UNDECIDED, largest relative error small, tolerance 1e-06\n"
        f"  x (argument 0): undecided; only 1 of 3 elements could be compared: {KINK}\n"
        f"  x: 2 of 3 elements left out, since {KINK}: [0], [1]",
    ),
    "more kinks than not, along directions": (
        tinylm.relu,
        [0.0, 0.0, 1.0],
        {"mode": "directions"},
        "(directions, order 1): UNDECIDED, largest relative error small, tolerance 1e-06\n"
        f"  x (argument 0): undecided; only 1 of 3 elements could be compared: {KINK}\n"
        f"  x: 2 of 3 elements left out, since {KINK}: [0], [1]",
    ),
    "a kink that differences miss": (tinylm.abs, [0.0, 2.0], {}, "(full, order 1): ok, largest relative error small, tolerance 1e-06"),
    "a kink that a thorough check finds": (
        tinylm.abs,
        [0.0, 2.0, -3.0],
        {"thorough": True},
        f"(full, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 1 of 3 elements left out, since {KINK}: [0]",
    ),
    "a kink that a thorough check finds along directions": (
        tinylm.abs,
        [0.0, 2.0, -3.0],
        {"thorough": True, "mode": "directions"},
        f"(directions, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 1 of 3 elements left out, since {KINK}: [0]",
    ),
    "a mistake beside kinks": (
        bumpy(1, 1, 1.5, 1),
        [0.0, 2.0, -3.0, 0.0],
        {},
        "(full, order 1): FAILED, largest relative error 3.84e-01, tolerance 1e-06\n"  # 3 / √(25 + 36)
        "  x (argument 0): relative error 3.84e-01; worst at [2], output element 2: -9 by the tape, -6 by differences; "
        "likely cause: the op squares is wrong by itself: x (argument 0)\n"
        f"  x: 2 of 4 elements left out, since {KINK}: [0], [3]",
    ),
    "a small mistake beside kinks": (
        bumpy(1, 1, 1.001, 1),
        [0.0, 2.0, -3.0, 0.0],
        {},
        "(full, order 1): FAILED, largest relative error 7.68e-04, tolerance 1e-06\n"  # 0.006 / √(25 + 36)
        "  x (argument 0): relative error 7.68e-04; worst at [2], output element 2: -6.006 by the tape, -6 by differences; "
        "likely cause: the op squares is wrong by itself: x (argument 0)\n"
        f"  x: 2 of 4 elements left out, since {KINK}: [0], [3]",
    ),
    "underflow": (
        lambda x: x * x,
        [1e-160, -3e-160],
        {},
        "(full, order 1): UNDECIDED, largest relative error nan, tolerance 1e-06\n"
        "  x (argument 0): undecided; only 0 of 2 elements could be compared: the function's changes there underflow, to less than 2e-308\n"
        "  x: 2 of 2 elements left out, since the function's changes there underflow, to less than 2e-308: [0], [1]",
    ),
    "rounding": (
        loss,
        [[1.0, 58.0, -1.0]],
        {},
        "(full, order 1): UNDECIDED, largest relative error 0.00e+00, tolerance 1e-06\n"
        "  x (argument 0): undecided; only 1 of 3 elements could be compared: "
        "rounding of the function's own values hides the derivative there\n"
        "  x: 2 of 3 elements left out, since rounding of the function's own values hides the derivative there: [0, 0], [0, 2]",
    ),
    "beside larger ones": (
        lambda x: (x * x).sum(),
        [1e-9, 1.0, 1e-8, 3.0],
        {},
        f"(full, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 2 of 4 elements {SMALL}: [0], [2]",
    ),
    "beside larger ones of one output": (
        lambda x: tinylm.concatenate([(x * x).sum(keepdims=True), x[1:] * 1.0]),
        [1e-9, 1.0, 1e-8, 3.0],
        {},
        f"(full, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 1 of 4 elements {SMALL}: [0]",
    ),
    "beside larger ones, along directions": (
        lambda x: (x * x).sum(),
        [1e-9, 1.0, 1e-8, 3.0],
        {"mode": "directions"},
        f"(directions, order 1): ok, largest relative error small, tolerance 1e-06\n  x: 2 of 4 elements {SMALL}: [0], [2]",
    ),
    "not finite": (
        tinylm.log,
        [1.0, -1.0, -2.0, 3.0],
        {},
        "(full, order 1): ok, largest relative error small, tolerance 1e-06\n  2 of 4 output elements are not finite, and left out",
    ),
    "most are not finite": (
        tinylm.log,
        [1.0, -1.0, -2.0],
        {},
        "(full, order 1): UNDECIDED, largest relative error nan, tolerance 1e-06\n"
        "  x (argument 0): undecided; only 0 of 3 elements could be compared: the function's values are not finite\n"
        "  2 of 3 output elements are not finite, and left out",
    ),
    "float32 in the vjp": (
        cubes,
        [0.7, -1.3, 2.1],
        {},
        "(full, order 1): FAILED, largest relative error 3.44e-08, tolerance 1e-06\n"
        "  x (argument 0): relative error 3.44e-08; agrees to 3e-08 only, where differences are exact to 4e-14; "
        "likely cause: a part of the vjp of cubes computes in float32",
    ),
    "off by less than the tolerance": (
        squares(1 + 2e-7, 1 + 2e-7, 1 + 2e-7),
        X,
        {},
        "(full, order 1): ok, largest relative error 2.00e-07, tolerance 1e-06",
    ),
    "all in float32": (
        cubes,
        [0.7, -1.3, 2.1],
        {"taped_in": "float32"},
        "(full, order 1): ok, largest relative error 8.19e-08, tolerance 1e-05",
    ),
    "wrong in float32": (
        squares(1, 1, 1.5),
        [1.0, 2.0, -3e-4],
        {"taped_in": "float32"},
        "(full, order 1): FAILED, largest relative error 6.71e-05, tolerance 1e-05\n"
        "  x (argument 0): relative error 6.71e-05; worst at [2], output element 2: "
        "-0.0009000000427 by the tape, -0.0006000000285 by differences; "
        "observed: 1 of 3 elements wrong: [2]; 1 entry has another value, of the right sign, 1.5 times as large",
    ),
    "other values each time": (
        noisy(),
        [1.0, 2.0],
        {},
        "(full, order 1): FAILED, largest relative error 2.50e-01, tolerance 1e-06\n"
        "  x (argument 0): relative error 1.56e-01; worst at [0], output element 0: 1 by the tape, 1.25 by differences; "
        "likely cause: not repeatable, see below\n"
        "  values of two runs: relative error 2.50e-01; not deterministic",
    ),
    "nothing": (lambda x: x * x, [], {}, "(full, order 1): ok, largest relative error 0.00e+00, tolerance 1e-06"),
    "constant": (lambda x: x * 0, X, {}, "(full, order 1): ok, largest relative error 0.00e+00, tolerance 1e-06"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_text_of_a_report(case):
    fn, x, how, expected = CASES[case]
    text = str(gradcheck(fn, np.array(x), **how)).partition(" ")[2]  # without the function's name
    text = re.sub(r"largest relative error \d\.\d\de-1\d", "largest relative error small", text)  # of differences
    text = re.sub(r" \([^()]*\.py:\d+\)", "", text)
    text = re.sub(r"(is wrong by itself: x \(argument 0\)).*", r"\1", text)
    assert text == expected
