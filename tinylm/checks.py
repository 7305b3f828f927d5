"""Checks of settings: numbers, sizes, flags and choices. A message names the setting, its value and what was expected.

A number may be Python's, NumPy's or an array without axes; text, booleans and None are none. The functions return
Python's own numbers, since NumPy's would promote float32 arrays.
"""

import math
import operator
from collections.abc import Collection
from numbers import Real
from typing import Any

from tinylm.errors import ConfigError


def shown(value: Any) -> str:
    """Returns the value as a message shows it, on one line of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no integer of thousands of digits
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_number(value: Any) -> float:
    """Returns the float of a number; NaN, which no range contains, for anything else."""
    if isinstance(value, bool) or not (isinstance(value, Real) or _scalar_kind(value) in ("i", "u", "f")):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _scalar_kind(value: Any) -> str:
    """Returns the kind of dtype of an array without axes or a NumPy scalar; "" for anything else, tensors included."""
    has_no_axes = getattr(value, "shape", None) == () and not hasattr(value, "requires_grad")
    return str(getattr(getattr(value, "dtype", None), "kind", "")) if has_no_axes else ""


def check_at_least(least: float, name: str, value: Any, *, finite: bool = True) -> float:
    """Returns the number. Raises ConfigError if it is below `least`, or infinite where it must be finite."""
    number = as_number(value)
    if not number >= least or (finite and number == math.inf):
        what = f"at least {least:g}{' and finite' if number == math.inf else ''}"
        if math.isnan(number):
            what = f"a {'finite ' if finite else ''}number of {what}"
        raise ConfigError(f"{name} is {shown(value)}: expected {what}")
    return number


def check_positive(**values: Any) -> None:
    """Raises ConfigError naming the first value that is not a number above 0."""
    for name, value in values.items():
        if not as_number(value) > 0:
            raise ConfigError(f"{name} is {shown(value)}: expected more than 0")


def check_finite(name: str, value: Any) -> float:
    """Returns the number. Raises ConfigError if it is not finite."""
    number = as_number(value)
    if not math.isfinite(number):
        raise ConfigError(f"{name} is {shown(value)}: expected a finite number")
    return number


def check_below_one(name: str, value: Any) -> float:
    """Returns the number. Raises ConfigError if it is not at least 0 and below 1."""
    number = as_number(value)
    if not 0 <= number < 1:
        raise ConfigError(f"{name} is {shown(value)}: expected 0 up to, not including, 1")
    return number


def check_fraction(name: str, value: Any) -> float:
    """Returns the number. Raises ConfigError if it is outside 0 to 1."""
    number = as_number(value)
    if not 0 <= number <= 1:
        raise ConfigError(f"{name} {shown(value)} is out of range: expected 0 to 1")
    return number


def check_probability(dropout: Any) -> float:
    """Returns the probability of dropping an element. Raises ConfigError if it is outside 0 to 1."""
    return check_fraction("dropout probability", dropout)


def check_integer(name: str, value: Any, least: int | None = None) -> int:
    """Returns the integer. Raises ConfigError if it is a float, a boolean or no number, or below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ConfigError(f"{name} is {shown(value)}: expected an integer")
    if least is not None and number < least:
        raise ConfigError(f"{name} is {shown(value)}: expected at least {least}")
    return number


def check_sizes(**sizes: Any) -> None:
    """Raises ConfigError naming the first size that is not an integer of at least 1."""
    for name, value in sizes.items():
        check_integer(name, value, 1)


def check_flag(name: str, value: Any) -> bool:
    """Returns the boolean, which 0 and 1 also stand for. Raises ConfigError for anything else."""
    if not isinstance(value, bool) and as_number(value) not in (0, 1) and _scalar_kind(value) != "b":
        raise ConfigError(f"{name} is {shown(value)}: expected True or False")
    return bool(value)


def nearest(name: Any, choices: Collection[str]) -> str:
    """Returns "; did you mean 'x'?" for the choice that is spelt most like the name; "" if none is."""
    from difflib import get_close_matches  # slow to import, and needed only for a message

    similar = get_close_matches(name, list(choices), n=1) if isinstance(name, str) else []
    return f"; did you mean {similar[0]!r}?" if similar else ""


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises ConfigError naming all choices, and the one that was probably meant, for a value that is not among them."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} {shown(value)}: expected one of {', '.join(choices)}{nearest(value, choices)}")
