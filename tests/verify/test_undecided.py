"""What could not be compared is neither right nor wrong; what is small is checked on its own, or named."""

import json

import numpy as np
import pytest
from scaled_functions import spoiled

import tinylm
from tinylm import Tensor
from tinylm.verify import gradcheck
from tinylm.verify.check_pages import page


@tinylm.op
def relu_of_slope_seven(x, /):
    return np.maximum(x, 0), lambda dy: (dy * np.where(x == 0, 7.0, x > 0),)


@pytest.mark.parametrize("mode", ["full", "directions"])
def test_an_argument_at_its_kink_is_undecided(mode):
    report = gradcheck(relu_of_slope_seven, np.zeros(3), mode=mode)
    assert report.verdict == "undecided"
    assert not report.ok
    assert [row.name for row in report.undecided] == ["x"]
    assert "UNDECIDED" in str(report)
    assert "only 0 of 3 elements could be compared: the point looks non-differentiable there" in str(report)


def test_half_is_enough_and_fewer_are_not():
    assert gradcheck(tinylm.relu, np.array([0.0, 0.0, 1.0, -1.0])).ok
    assert gradcheck(tinylm.relu, np.array([0.0, 0.0, 0.0, 1.0, -1.0])).verdict == "undecided"


def test_each_argument_counts_for_itself():
    report = gradcheck(lambda a, b: tinylm.relu(a).sum() * b, np.zeros(2), np.ones(5))
    assert [row.name for row in report.undecided] == ["a"]
    assert not report.ok


def test_it_is_written_everywhere():
    report = gradcheck(tinylm.relu, np.zeros(2))
    record = json.loads(report.to_json())
    assert record["verdict"] == "undecided"
    assert record["ok"] is False
    assert [row["verdict"] for row in record["rows"]] == ["undecided"]
    text = page("Gradients", [("relu", [report])])
    assert '<span class="undecided">UNDECIDED</span>' in text
    assert "1 checks, 0 failed, 1 undecided." in text


@tinylm.op
def sum_of_squares(x, /):
    """With a wrong sign in the first element."""

    def vjp(dy):
        g = dy * 2 * x
        g[0] = -g[0]
        return (g,)

    return (x * x).sum(), vjp


@pytest.mark.parametrize("others", [3, 400])
def test_a_wrong_sign_beside_large_elements(others):
    rest = np.random.default_rng(0).uniform(1, 2, others)
    for small in (1.0, 1e-3, 1e-6):
        assert gradcheck(sum_of_squares, np.r_[small, rest]).verdict == "wrong"
    report = gradcheck(sum_of_squares, np.r_[1e-12, rest])  # its square is below the rounding of the sum
    assert f"1 of {others + 1} elements too small beside the largest to be told from zero, their signs unchecked: [0]" in str(report)


def test_an_argument_with_small_gradients_is_checked_on_its_own():
    wrong = spoiled("sign", 1)
    x = np.array([0.5, 1.5, -2.0])
    report = gradcheck(lambda a, b: (a * a).sum() + 1e-7 * (wrong(b) ** 2).sum(), x, x)
    assert [row.name for row in report.failures] == ["b"]


@pytest.mark.parametrize("large", [1e8, 1e14])
def test_outputs_that_move_little_are_checked_on_their_own(large):
    wrong = spoiled("sign", 1)
    for x in (np.linspace(1, 2, 4), np.linspace(1, 2, 300)):
        assert gradcheck(lambda x: tinylm.concatenate([x * large, wrong(x) + large]), x).verdict == "wrong"


# ---------------------------------------------------------------- what a vjp must not do


@tinylm.op
def squares_in_place(x, /):
    def vjp(dy):
        dy *= 2 * x
        return (dy,)

    return x * x, vjp


def test_a_cotangent_that_is_changed_in_place():
    x = np.array([0.7, -1.3])
    for function in (squares_in_place, lambda x: tinylm.exp(squares_in_place(x))):
        report = gradcheck(function, x)
        assert [row.name for row in report.failures] == ["incoming gradient of squares_in_place"]
        assert "its vjp changes it in place" in str(report)


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, dy: (2 * x * dy).astype(np.float32),
        lambda x, dy: (2 * x * dy).astype(np.float32).astype(np.float64),
        lambda x, dy: 2 * x.astype(np.float32) * dy,
    ],
)
def test_single_precision_inside_a_check_in_double(vjp):
    @tinylm.op
    def squares(x, /):
        return x * x, lambda dy: (vjp(x, dy),)

    report = gradcheck(squares, np.array([0.7, -1.3, 2.1]))
    assert report.verdict == "wrong"
    assert "float32" in str(report)


# ---------------------------------------------------------------- memory


@tinylm.op
def wrong_if_strided(x, /):
    factor = 2 if x.flags.c_contiguous else 3
    return x * x, lambda dy: (factor * x * dy,)


@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x.T, lambda x: x[::-1], lambda x: x[1:, 1:], lambda x: x[::2, ::-3]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_function_gets_the_strides_that_it_was_given(view, dtype):
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(dtype)
    assert gradcheck(wrong_if_strided, np.ascontiguousarray(view(x))).ok
    assert gradcheck(wrong_if_strided, view(x)).verdict == "wrong"
    assert gradcheck(tinylm.exp, view(x)).ok


@tinylm.op
def swapped(a, b, /):
    """a² b, with half of a's gradient in b's."""
    return a * a * b, lambda dy: (dy * a * b, 2 * dy * a * a)


def test_an_array_that_is_passed_twice_is_two_arguments():
    x = np.array([0.7, -1.3, 2.1])
    t = Tensor(x.copy())
    for pair in ((x, x), (t, t), (Tensor(x), Tensor(x)), (Tensor(x), x)):
        assert [row.name for row in gradcheck(swapped, *pair).failures] == ["a", "b"]
        assert gradcheck(lambda a, b: a * a * b, *pair).ok
    np.testing.assert_array_equal(x, [0.7, -1.3, 2.1])


def test_tensors_that_share_a_part_of_their_memory():
    memory = np.array([0.7, -1.3, 2.1, 0.4])
    a, b = Tensor(memory[:3]), Tensor(memory[1:])
    assert gradcheck(tinylm.multiply, a, b).ok
    assert a.data.base is memory, "its own array is back"


@pytest.mark.parametrize("order", [1, 2])
def test_elements_that_share_memory_move_alone(order):
    arrays = [np.broadcast_to([1.0, 2.0], (3, 2)), np.lib.stride_tricks.as_strided(np.arange(1.0, 7), (3, 3), (8, 8))]
    for x in arrays:
        for given in (x, Tensor(x)):
            report = gradcheck(tinylm.exp, given, order=order)
            assert report.ok, report


@pytest.mark.parametrize("mode", ["full", "directions"])
@pytest.mark.parametrize(
    ("fn", "size"),
    [(lambda x: x * x, 1e-160), (lambda x: x * x, 1e-162), (lambda x: x * x, 1e-170), (lambda x: x * x, 1e-300), (lambda x: x**3, 1e-110)],
)
def test_changes_that_underflow(fn, size, mode):
    report = gradcheck(fn, np.array([1.3, -0.7]) * size, mode=mode)
    assert [row.decided for row in report.rows] == ["undecided"]
    assert "underflow" in report.rows[0].detail
    assert any("underflow" in remark for remark in report.remarks)


@pytest.mark.parametrize("mode", ["full", "directions"])
def test_small_changes_that_do_not_underflow_are_compared(mode):
    x = np.array([1.3, -0.7]) * 1e-150
    assert gradcheck(lambda x: x * x, x, mode=mode).ok
    half = tinylm.op(lambda x, /: (x * x, lambda dy: (dy * x,)))
    assert [row.decided for row in gradcheck(half, x, mode=mode).rows] == ["wrong"]


def test_the_sum_of_many_products_that_underflow():
    x = np.random.default_rng(0).standard_normal(3000) * 1e-161
    assert [row.decided for row in gradcheck(lambda x: x * x, x).rows] == ["undecided"]
