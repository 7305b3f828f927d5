"""One element's verdict, from the tape's value, the measured one and its uncertainty."""

import numpy as np
import pytest

from tinylm.verify.verdicts import OK, TOO_SMALL, UNDECIDED, WRONG, judged, resolution


@pytest.mark.parametrize(
    ("a", "b", "doubt", "expected"),
    [
        (0.0, 0.0, 0.1, OK),  # both are zero, however exactly
        (0.0, 0.0, np.inf, UNDECIDED),
        (1.0, 0.0, 1.0, UNDECIDED),
        (1.0, 0.0, 0.01, WRONG),
        (1.0, 1.0, 1e-5, OK),
        (1.0, 1.0, 1e-3, UNDECIDED),
        (np.nan, 1.0, 1e-5, WRONG),
    ],
)
def test_verdicts(a, b, doubt, expected):
    a, b, doubt = (np.array([[x]]) for x in (a, b, doubt))
    assert judged(a, b, doubt, np.full((1, 1), 1e-12), np.abs(b), 1.0, 1e-6).item() == expected


def verdict(a, b, doubt, *, floor=1e-12, size=None, top=1.0, tolerance=1e-6, single=False):
    a, b, doubt, floor = (np.array([[x]]) for x in (a, b, doubt, floor))
    return judged(a, b, doubt, floor, np.abs(b) if size is None else np.array([[size]]), top, tolerance, single).item()


@pytest.mark.parametrize(("tolerance", "expected"), [(1e-6, 1e-4), (1e-5, 1e-4), (1e-4, 1e-3), (0.5, 5)])
def test_an_element_is_measured_to_a_ten_thousandth_or_ten_tolerances(tolerance, expected):
    assert resolution(tolerance) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("off", "how", "expected"),
    [
        (1.9e-6, {"doubt": 1e-6}, OK),  # the tolerance, and what the measurement is uncertain by
        (2.1e-6, {"doubt": 1e-6}, UNDECIDED),
        (10.9e-6, {"doubt": 1e-6}, UNDECIDED),  # ten times of it
        (11.1e-6, {"doubt": 1e-6}, WRONG),
        (1.9e-6, {"size": 2.0}, OK),
        (2.1e-6, {"size": 2.0}, WRONG),
        (0, {"doubt": 0.9e-4}, OK),  # measured well enough
        (0, {"doubt": 1e-4}, OK),
        (0, {"doubt": 1.1e-4}, UNDECIDED),
        (0.9e-4, {"floor": 1e-3}, OK),  # the floor, which is at most a ten thousandth
        (1.1e-4, {"floor": 1e-3}, UNDECIDED),
        (1.1e-3, {"floor": 1e-3}, WRONG),
        (0.9e-3, {"floor": 1e-3, "single": True}, OK),  # in float32, whatever is below the floor
        (1.1e-3, {"floor": 1e-3, "single": True}, WRONG),
        (0, {"floor": 1e-3, "single": True, "doubt": 0.9e-3}, OK),
        (0, {"floor": 1e-3, "single": True, "doubt": 1.1e-3}, UNDECIDED),
        (0, {"floor": 1e-5, "single": True, "doubt": 0.9e-4}, OK),
        (0.5, {"tolerance": 0.5, "floor": 0.0}, OK),  # at most the tolerance
        (3.0, {"tolerance": 0.5, "floor": 0.0, "doubt": 0.25}, UNDECIDED),  # not more than it and ten times the doubt
        (-0.5, {"top": 2.0**48, "doubt": 1e-4}, WRONG),  # small beside 2⁴⁸, but measured well
        (-0.5, {"top": 2.0**48, "doubt": 1.1e-4}, TOO_SMALL),
    ],
)
def test_how_far_from_1_an_element_may_be(off, how, expected):
    assert verdict(1.0 + off, 1.0, how.pop("doubt", 0.0), **how) == expected


@pytest.mark.parametrize(
    ("a", "b", "how", "expected"),
    [
        (0.9e-12, 0.0, {}, TOO_SMALL),  # both are at most the floor
        (-1e-12, 0.0, {}, TOO_SMALL),
        (1.1e-12, 0.0, {}, WRONG),
        (0.0, 3.9e-12, {"doubt": 1e-12}, TOO_SMALL),  # or the measured one may be, within three times its doubt
        (0.0, -4.1e-12, {"doubt": 1e-12}, UNDECIDED),
        (0.0, 4.0, {"doubt": 1.0, "floor": 1.0, "tolerance": 0.0}, TOO_SMALL),
        (0.0, 1e-12, {"doubt": 0.9e-7}, TOO_SMALL),  # as long as that is no more than 10⁵ floors
        (0.0, 1e-12, {"doubt": 1.1e-7}, UNDECIDED),
        (0.0, 1e-6, {"doubt": 1.0, "floor": 1e-5}, TOO_SMALL),
        (1.1e-12, 0.0, {"top": 1e3}, TOO_SMALL),  # below 16 ε of the largest of all, if zero or not measured well
        (3.6e-12, 0.0, {"top": 1e3}, WRONG),
        (3e-12, 2e-12, {"top": 1e3, "doubt": 1e-15}, TOO_SMALL),
        (3e-12, 2e-12, {"top": 1e3}, UNDECIDED),
        (4e-12, 2e-12, {"top": 1e3, "doubt": 1e-15}, WRONG),
        (np.nan, 1.0, {"doubt": np.inf}, UNDECIDED),
        (np.inf, 1.0, {}, WRONG),
    ],
)
def test_what_is_small_beside_the_largest(a, b, how, expected):
    assert verdict(a, b, how.pop("doubt", 0.0), **how) == expected
