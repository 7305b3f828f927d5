"""Where a function that stands still at small steps may move in stairs: the steps that are looked at, and what counts as a stair."""

import numpy as np
import pytest

from tinylm.verify.ladders import EPSILON, may_move_in_stairs

LARGEST = 3.0  # intermediate value


def of_all(functions):
    return lambda s: np.array([float(f(s)) for f in functions])


def test_stairs_are_looked_for_at_steps_of_all_sizes():
    seen = []

    def still(s):
        seen.append(s)
        return np.zeros(1)

    assert not may_move_in_stairs(still, lambda y: (y, y), np.ones(1))
    assert seen == [sign * 4.0**n for n in (-8, -6, -4, -2, 0, 2, 4, 7, 10, 14, 19) for sign in (1, -1)]


@pytest.mark.parametrize(("height", "seen"), [(0.9, True), (1.1, False)])
def test_a_stair_is_as_low_as_rounding_makes_it(height, seen):
    """At most 10⁶ ε times the largest intermediate value at the step where it is seen; what moves by more is no stair."""
    heights = height * 1e6 * EPSILON * LARGEST * np.ones(2)
    assert may_move_in_stairs(lambda s: np.round(s * 3) * heights / 3, lambda y: (y, y), np.full(2, LARGEST)) is seen
    ends = []
    may_move_in_stairs(lambda s: ends.append(s) or s * np.ones(2), lambda y: (y, y), np.full(2, LARGEST))
    assert max(ends) == 4.0**-8, "no further steps once all outputs move"


def stairs_or_none(functions):
    """What may_move_in_stairs says, by its rules, of several outputs."""
    for h in (4.0**n for n in (-8, -6, -4, -2, 0, 2, 4, 7, 10, 14, 19)):
        moving = [f for f in functions if f(h) and f(-h)]
        low = [f for f in moving if max(abs(f(h)), abs(f(-h))) < 1e6 * EPSILON * LARGEST]
        if low:
            return any(f(h * (1 + 2.0**-20)) == f(h) and f(-h * (1 + 2.0**-20)) == f(-h) for f in low)
        if len(moving) == len(functions):
            return False
    return False


def test_whether_outputs_may_move_in_stairs_follows_its_rules():
    rng, answers = np.random.default_rng(0), []
    kinds = [
        lambda w, a: lambda s: np.round(s / w) * a,
        lambda w, a: lambda s: np.floor(s / w) * a if s > 0 else 0.0,
        lambda w, a: lambda s: np.round(s / w) * a if s > 0 else s * a if s < -w else 0.0,
        lambda w, a: lambda s: s * a if abs(s) > w else 0.0,
        lambda w, a: lambda s: a * np.sign(s) if abs(s) > w else 0.0,
        lambda w, a: lambda s: s,
        lambda w, a: lambda s: 0.0,
        lambda w, a: lambda s: a * np.round(s / w * 2.0**19) if abs(s) > w else 0.0,
    ]
    for _ in range(400):
        drawn = [kinds[rng.integers(len(kinds))](4.0 ** rng.uniform(-9, 20), 10 ** rng.uniform(-17, -8)) for _ in range(rng.integers(1, 4))]
        drawn = [f if rng.random() < 0.5 else (lambda s, f=f: f(-s)) for f in drawn]
        found = may_move_in_stairs(of_all(drawn), lambda y: (y, np.abs(y)), np.full(len(drawn), LARGEST))
        assert found is stairs_or_none(drawn)
        answers.append(found)
    assert 100 < sum(answers) < 300
