"""Which directions a comparison takes, its floors and sizes: for linear functions, and random numbers that are all 1."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.verify.columns import Comparison
from tinylm.verify.jacobians import STEP, Problem
from tinylm.verify.verdicts import OK, UNDECIDED, WRONG

TINY = float(np.finfo(np.float64).smallest_subnormal)
EPSILON = float(np.finfo(np.float64).eps)


class Ones:
    """A generator of random numbers whose normal numbers are 1, and uniform ones the largest."""

    def standard_normal(self, shape):
        return np.ones(shape)

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)


def comparison(fn, *arrays, mode="directions", tolerance=1e-6, **how):
    xs = [Tensor(np.array(x, float), requires_grad=True) for x in arrays]
    return Comparison(Problem(lambda: fn(*xs), [(f"x{k}", x) for k, x in enumerate(xs)], **how), tolerance, mode, Ones())


def groups(found, k=0):
    """The elements that move together, each group with the number of its directions."""
    members = [tuple(m.tolist()) for m in found.blocks[k].members]
    return {m: members.count(m) for m in members}


def weighted(*weights):
    return lambda x: (x * np.array(weights)).sum()


@pytest.mark.parametrize(
    ("tolerance", "weights", "expected"),
    [
        (1e-6, [1.0, -0.9e-3, 1.1e-4], {(0, 1, 2): 8}),
        (1e-6, [1.0, 0.9e-4, 1.1e-4], {(0, 2): 8, (1,): 3}),
        (1e-6, [0.9e-4, 1.0, 1.1e-8, 0.9e-8], {(1,): 8, (0, 2): 3, (3,): 3}),
        (1e-6, [1.0, 1e-37, 1e-41, 0.0], {(0,): 8, (1, 2): 3, (3,): 3}),  # zeros on their own
        (1e-4, [1.0, 1 / 480, 1 / 520, 0.5], {(0, 1, 3): 8, (2,): 3}),  # as many digits as the tolerance needs
        (1e-2, [1.0, 1 / 95, 1 / 105, 0.5], {(0, 1, 3): 8, (2,): 3}),  # but always two
        (1e-6, [0.0, 0.0], {(0, 1): 8}),
    ],
)
def test_elements_move_together_if_their_gradients_are_of_one_size(tolerance, weights, expected):
    assert groups(comparison(weighted(*weights), np.ones(len(weights)), tolerance=tolerance)) == expected


def test_a_gradient_counts_under_any_cotangent():
    found = comparison(lambda x: x * np.array([1.0, 1e-6, 1.0]), np.ones(3))
    assert groups(found) == {(0, 2): 8, (1,): 3}


def test_a_gradient_counts_per_step_of_its_element():
    assert groups(comparison(weighted(1.0, 1e9, 1.0), [1.0, 1e-9, 1.0])) == {(1,): 8, (0, 2): 3}  # a step is 1/100 of the others'
    assert groups(comparison(weighted(1.0, 1.0, 1.0, 1e-9), [1.0, 1.0, 1.0, 1e9])) == {(0, 1, 2, 3): 8}


def test_a_direction_moves_each_element_by_its_own_size():
    """But by no less than a hundredth of the usual one."""
    found = comparison(lambda x: x.sum(), [1.0, -2.0, 1e-5, 2.0, 2.0])
    for direction in found.blocks[0].directions:
        np.testing.assert_array_equal(direction, [1, 2, 0.02, 2, 2])
    np.testing.assert_array_equal(found.blocks[0].units, 1)
    np.testing.assert_array_equal(found.blocks[0].starts, STEP)


def test_elements_that_are_left_out_stand_still():
    found = comparison(lambda x, y: x.sum() + y.sum(), np.ones(4), np.ones(2))
    found.leave_out(0, [1, 3])
    assert groups(found) == {(0, 2): 8}
    assert groups(found, 1) == {(0, 1): 8}
    np.testing.assert_array_equal(found.blocks[0].directions, [[1, 0, 1, 0]] * 8)
    np.testing.assert_allclose(found.blocks[0].taped, 2)


def test_in_full_each_element_moves_alone_by_a_part_of_itself():
    """The first step is larger where the element is less than a tenth of the usual one."""
    found = comparison(lambda x: x * 3, [[2.0, -4.0], [2.0, 0.02]], mode="full")
    block = found.blocks[0]
    np.testing.assert_array_equal([d.ravel() for d in block.directions], np.diag([2, 4, 2, 0.02]))
    assert [m.tolist() for m in block.members] == [[0], [1], [2], [3]]
    np.testing.assert_array_equal(block.units, [2, 4, 2, 0.02])
    np.testing.assert_allclose(block.starts / STEP, [1, 1, 1, 10])
    np.testing.assert_array_equal(block.taped, np.diag([6, 12, 6, 0.06]))
    np.testing.assert_allclose(block.measured, np.diag([6, 12, 6, 0.06]), atol=1e-9)
    assert block.agrees.all()
    assert not block.doubt.any()
    assert not block.kinked.any()
    assert not block.torn.any()


def test_up_to_300_inputs_and_outputs_every_element_is_compared():
    fits, larger = (comparison(lambda x: x.sum(), np.ones(n), mode=None) for n in (299, 300))
    assert (fits.full, larger.full) == (True, False)
    assert not comparison(lambda x: x.sum(), np.ones(2), mode="directions").full
    assert comparison(lambda x: x.sum(), np.ones(300), mode="full").full


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1.0, 1.1e-4, 0.9e-4], {0: [0, 1], 1: [2]}),
        ([0.9e-4, 1.0, 0.0], {0: [1], 1: [0], 2: [2]}),
    ],
)
def test_a_cotangent_sums_outputs_that_move_alike(factors, expected):
    found = comparison(lambda x: x * np.array(factors) + 1, np.ones(3))
    assert found.groups.tolist() == [i for i in expected for _ in range(8 if i == 0 else 3)]
    for c, group in zip(found.cotangents, found.groups, strict=True):
        assert c.tolist() == [float(i in expected[group]) for i in range(3)]


def test_outputs_that_are_not_finite_are_in_no_cotangent():
    for mode, expected in (("full", [[1, 0, 0], [0, 0, 1]]), ("directions", [[1, 0, 1]] * 8)):
        found = comparison(lambda x: tinylm.log(x), [1.0, -1.0, 2.0], mode=mode)
        np.testing.assert_array_equal(found.cotangents, expected)
        assert found.finite.tolist() == [True, False, True]
    assert found.outputs.tolist() == [0, 2]


def test_a_gradient_that_underflows_is_not_zero():
    """It is the smallest number, with its sign where that is known."""
    full = comparison(lambda x: x * np.array([1e-200, -1e-200, 0.0]), np.full(3, 1e-200), mode="full").blocks[0]
    np.testing.assert_array_equal(full.taped, np.diag([TINY, -TINY, 0.0]))
    sums = comparison(weighted(1e-200, -1e-200), np.full(2, 1e-200)).blocks[0]
    np.testing.assert_array_equal(sums.taped, np.full((8, 8), TINY))
    assert not comparison(weighted(0.0, 0.0), np.full(2, 1e-200)).blocks[0].taped.any()


def test_the_size_that_the_tolerance_is_a_part_of():
    """In full, each number itself; of random sums, which may cancel, at least the root of their mean square, over √2."""
    b = np.array([[3.0, 0.0, -1.0], [-4.0, 0.0, 1.0]])
    full = comparison(lambda x: x * 2, [1.0, 2.0], mode="full")
    np.testing.assert_array_equal(full.sizes(b), np.abs(b))
    sums = comparison(lambda x: x * np.array([1.0, 1e-6]), [1.0, 2.0])
    assert sums.groups.tolist() == [0] * 8 + [1] * 3
    b = np.concatenate([np.full((4, 2), [3e200, 0.0]), np.zeros((4, 2)), [[1.0, 2.0], [-1.0, 0.0], [1.0, -2.0]]])
    root = np.sqrt([[4.5e0, 0.0]]) * 1e200
    expected = [*[[3e200, 0.0]] * 4, *[root[0]] * 4, [1.0, 2.0], [1.0, np.sqrt(8 / 3)], [1.0, 2.0]]
    np.testing.assert_allclose(sums.sizes(b) * np.sqrt(2), expected, atol=1e-290)


def two(a, b):
    return tinylm.concatenate([(a * np.array([3.0, -2.0])).sum(keepdims=True) + b * 1e-3, a[:1] * 1e-7 + b * 7.0])


def test_the_floor_is_a_part_of_the_largest_gradient_of_the_same_output():
    """Per unit of the argument, or of all arguments together in steps of their usual sizes."""
    found = comparison(two, [1.0, 5.0], [400.0], mode="full")
    a, b = found.floors()
    np.testing.assert_allclose(a, 1e-12 * np.array([[3], [7 * 400 / 3]]) * [[1, 5]], rtol=1e-6)
    np.testing.assert_allclose(b, 1e-12 * np.array([[3 * 3 / 400], [7]]) * 400, rtol=1e-6)
    assert found.top() == pytest.approx(2800, rel=1e-6)


def test_the_floor_in_float32_is_a_part_of_the_norm_of_the_argument():
    """And of a thousandth of that of all."""
    found = comparison(lambda a, b: a.sum() * 3.0 + (b * 4.0).sum() * 1e-5, [1.0, 1.0], [2.0], mode="full", tolerance=1e-5, dtype="float32")
    a, b = found.floors()
    np.testing.assert_allclose(a, np.full((1, 2), 1e-5 * 3 * np.sqrt(2)), rtol=1e-6)
    np.testing.assert_allclose(b, [[1e-5 * 1e-3 * 3 * np.sqrt(2) * 2]], rtol=1e-6)


def test_the_largest_values_and_what_rounding_takes_of_them():
    found = comparison(lambda x: x * 0.5 + 40, [1.0, -3.0], mode="full")
    np.testing.assert_array_equal(found.largest, [40.5, 40.5])
    np.testing.assert_array_equal(found.hidden, [8 * EPSILON * 40.5] * 2)
    small = comparison(lambda x: x * 0.5, [0.25, -0.125], mode="directions")
    np.testing.assert_allclose(small.largest, [0.5 * np.sqrt(2)] * 8)
    np.testing.assert_allclose(small.hidden, [8 * EPSILON * np.sqrt(2)] * 8)
    infinite = comparison(lambda x: tinylm.exp(x), [2.0, 800.0], mode="full")
    assert infinite.largest.tolist() == [800]


def test_rows_change_from_the_centre_and_have_the_size_of_the_larger_value():
    full = comparison(lambda x: tinylm.log(x), [1.0, -1.0, 2.0], mode="full")
    values = full.centre + np.array([0.5, 1.0, -3.0])
    change, size = full.rows(values)
    np.testing.assert_allclose(change, [0.5, -3])
    np.testing.assert_allclose(size, [0.5, 3 - np.log(2)])
    sums = comparison(lambda x: x * 1e200, [3.0, -4.0])
    change, size = sums.rows(np.array([2e200, -5e200]))
    np.testing.assert_allclose(change, [-2e200] * 8)
    np.testing.assert_allclose(size, [np.sqrt(9 + 25) * 1e200] * 8)
    assert comparison(lambda x: x * 0, [1.0], mode="full").rows(np.zeros(1))[1] == np.finfo(float).tiny


# ---------------------------------------------------------------- what is measured again


def spoiled(factor):
    """x² with a gradient that is wrong by a factor."""
    return tinylm.op(lambda x, /: (x * x, lambda dy: (dy * 2 * x * factor,)))


@pytest.mark.parametrize("mode", ["full", "directions"])
def test_what_the_first_step_does_not_decide_is_measured_again(mode):
    waves = tinylm.op(lambda x, /: (np.sin(x * 1e4) * 1e-4, lambda dy: (dy * np.cos(x * 1e4),)))
    found = comparison(lambda x: waves(x), [1.0, 1.3], mode=mode)
    assert not found.blocks[0].agrees.any() or mode == "full"
    found.refine(0)
    assert (found.verdicts()[0] == OK).all()
    wrong = comparison(spoiled(1.01), [1.0, 1.3], mode="full")
    wrong.refine(0)
    np.testing.assert_array_equal(wrong.verdicts()[0], [[WRONG, OK], [OK, WRONG]])


def test_how_exactly_the_tape_agrees_with_the_worst_column():
    found = comparison(spoiled(np.array([1 + 3e-7, 1.0])), [1.0, 2.0], mode="full")
    agreement, doubt = found.agreement(0)
    assert agreement == pytest.approx(3e-7, rel=1e-3)
    assert 0 < doubt < 1e-10


def test_a_kink_is_undecided_even_where_the_difference_agrees():
    found = comparison(lambda x: tinylm.abs(x), [0.0, 1.0], mode="full")
    assert (found.verdicts()[0] == OK).all()
    found.look_at_kinks(0, [0])
    np.testing.assert_array_equal(found.verdicts()[0], [[UNDECIDED, OK], [OK, OK]])
    assert found.blocks[0].agrees.all()
    smooth = comparison(lambda x: x * x, [0.5, 1.0], mode="full")
    smooth.look_at_kinks(0, [0, 1])
    assert (smooth.verdicts()[0] == OK).all()
