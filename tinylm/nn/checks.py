"""Checks of the settings that layers and models are made from, and of the numbers that they hold."""

from collections.abc import Iterable

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError


def check_sizes(**sizes: int) -> None:
    """Raises ConfigError naming the first size below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}: expected at least 1")


def check_positive(**values: float) -> None:
    """Raises ConfigError naming the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name} is {value}: expected more than 0")


def check_probability(dropout: float) -> None:
    """Raises ConfigError for a dropout probability outside 0 to 1."""
    if not 0 <= dropout <= 1:
        raise ConfigError(f"dropout probability {dropout} is out of range: expected 0 to 1")


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """Returns which of these tensors is the first to hold a NaN or an infinity, with what and where; None if all are finite."""
    for name, tensor in named:
        x = tensor.data
        xp = array_module(x)
        if x.dtype.kind == "f" and not (finite := xp.isfinite(x)).all():
            at = np.unravel_index(int((~finite).argmax()), x.shape)
            what = "a NaN" if xp.isnan(x[at]) else "an infinity"
            return f"{name!r:.100} holds {what} at {[int(i) for i in at]}"
    return None
