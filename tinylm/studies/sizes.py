"""The same model in other widths, and its number of parameters."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, build_model


def widened(config: TrainConfig, factor: float) -> TrainConfig:
    """Returns the same model about `factor` times as wide, in whole widths of a head."""
    unit = _unit(config)
    width = max(unit, unit * round(config.n_embd * factor / unit))
    return dataclasses.replace(config, n_embd=width, n_hidden=max(1, round(config.n_hidden * width / config.n_embd)))


def _unit(config: TrainConfig) -> int:
    """Returns the number that widths are multiples of: an even width for each head."""
    return 1 if config.model in RECURRENT else 2 * config.n_head


def parameter_count(config: TrainConfig, vocab_size: int) -> Callable[[TrainConfig], int]:
    """A function that gives the number of parameters of this model in any widths, without building it.

    The number is a polynomial of the second degree in n_embd and n_hidden, whose six coefficients are solved from six
    small models.
    """
    unit = _unit(config)
    small = [(unit * i, j) for i, j in itertools.product((1, 2, 3), repeat=2) if i + j <= 4]
    counts = [build_model(dataclasses.replace(config, n_embd=c, n_hidden=h), vocab_size).num_parameters() for c, h in small]
    terms = [_monomials(c / unit, h) for c, h in small]
    coefficients = np.linalg.solve(terms, counts)
    return lambda found: round(float(_monomials(found.n_embd / unit, found.n_hidden) @ coefficients))


def _monomials(c: float, h: float) -> np.ndarray:
    return np.array([1, c, h, c * c, c * h, h * h], np.float64)


def config_of_size(config: TrainConfig, vocab_size: int, parameters: float) -> tuple[TrainConfig, int]:
    """Returns (the config with the width at which its model has about this many parameters, their number)."""
    count = parameter_count(config, vocab_size)
    low, high = 0.01, 100.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if count(widened(config, middle)) > parameters else (middle, high)
    sizes = [(found, count(found)) for found in (widened(config, low), widened(config, high))]
    return min(sizes, key=lambda size: abs(size[1] - parameters))
