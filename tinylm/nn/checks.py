"""Checks of the settings that layers and models are made from."""

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
