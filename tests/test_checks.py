"""Checks of settings: which values are numbers, integers, flags and choices, and what the messages say."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tinylm import checks
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError

NUMBERS = [0.5, 1, Fraction(1, 2), np.float32(0.5), np.float64(0.5), np.float16(0.5), np.int64(1), np.array(0.5), np.array(1)]
NO_NUMBERS = ["0.5", b"1", True, np.bool_(True), None, [0.5], (0.5,), np.array([0.5]), np.array(True), 1j, np.complex64(1), Tensor(0.5)]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_become_pythons_own(value: Any) -> None:
    for found in (
        checks.as_number(value),
        checks.check_at_least(0, "x", value),
        checks.check_finite("x", value),
        checks.check_fraction("x", value),
    ):
        assert type(found) is float
        assert found == float(value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, np.float32("nan")], ids=repr)
def test_what_is_no_number_is_in_no_range(value: Any) -> None:
    assert math.isnan(checks.as_number(value))
    for check in (
        lambda: checks.check_at_least(-math.inf, "x", value),
        lambda: checks.check_finite("x", value),
        lambda: checks.check_positive(x=value),
        lambda: checks.check_below_one("x", value),
        lambda: checks.check_fraction("x", value),
        lambda: checks.check_integer("x", value),
    ):
        with pytest.raises(ConfigError, match=r"^x ") as caught:
            check()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("check", "fits", "fails"),
    [
        (lambda x: checks.check_at_least(0, "x", x), [0, 1e300], [-1e-9, math.inf, 10**400]),
        (lambda x: checks.check_at_least(0, "x", x, finite=False), [0, math.inf, 10**400], [-1, -math.inf]),
        (lambda x: checks.check_positive(x=x), [1e-300, math.inf], [0, -1]),
        (lambda x: checks.check_below_one("x", x), [0, 0.999], [1, -0.1]),
        (lambda x: checks.check_fraction("x", x), [0, 1], [1.001, -0.001, math.inf]),
        (lambda x: checks.check_integer("x", x, 1), [1, np.int32(5), np.array(3)], [0, -1, 1.0, np.float32(2), math.inf]),
        (lambda x: checks.check_sizes(x=x), [1], [0, 2.0]),
        (lambda x: checks.check_flag("x", x), [True, False, 0, 1, np.bool_(True), np.array(False)], [2, "no", None, math.nan, [True]]),
    ],
)
def test_ranges(check: Any, fits: list[Any], fails: list[Any]) -> None:
    for value in fits:
        check(value)
    for value in fails:
        with pytest.raises(ConfigError):
            check(value)


def test_messages() -> None:
    assert checks.shown("a\nb" * 100) == "'a\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nba\\nb..."
    assert checks.shown(10**5000) == "an integer of 16610 bits"
    assert "\n" not in checks.shown(np.ones((3, 3)))
    with pytest.raises(ConfigError, match=r"^x is inf: expected at least 0 and finite$"):
        checks.check_at_least(0, "x", math.inf)
    for value in (math.nan, "1", None):
        with pytest.raises(ConfigError, match=rf"^x is {value!r}: expected a finite number of at least 0$"):
            checks.check_at_least(0, "x", value)
        with pytest.raises(ConfigError, match=rf"^x is {value!r}: expected a number of at least 0$"):
            checks.check_at_least(0, "x", value, finite=False)
    with pytest.raises(ConfigError, match=r"^model 'gtp': expected one of gpt, llama; did you mean 'gpt'\?$"):
        checks.check_choice("model", "gtp", ["gpt", "llama"])
    with pytest.raises(ConfigError, match=r"^model 'xyz': expected one of gpt, llama$"):
        checks.check_choice("model", "xyz", ["gpt", "llama"])
    with pytest.raises(ConfigError, match=r"^model 3: expected one of gpt$"):
        checks.check_choice("model", 3, ["gpt"])
