"""The same model in other widths, with the learning rate that suits each, and its number of parameters."""

import dataclasses
from collections.abc import Callable

from tinylm.models import LanguageModel, sizes
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, build_model

LR_BY_WIDTH = 1.0  # Yang et al. 2022, arXiv:2203.03466, table 3: Adam on hidden matrices, lr ∝ 1 / fan_in


def widened(config: TrainConfig, factor: float) -> TrainConfig:
    """Returns the same model about `factor` times as wide, in whole widths of a head, with its learning rates:
    lr and min_lr ∝ width^-LR_BY_WIDTH, to three digits."""
    unit = _unit(config)
    width = max(unit, unit * round(config.n_embd * factor / unit))
    if width == config.n_embd:
        return config
    slower = (config.n_embd / width) ** LR_BY_WIDTH
    lr, min_lr = (float(f"{rate * slower:.3g}") for rate in (config.lr, config.min_lr))
    return dataclasses.replace(config, n_embd=width, n_hidden=max(1, round(config.n_hidden * width / config.n_embd)), lr=lr, min_lr=min_lr)


def _unit(config: TrainConfig) -> int:
    """Returns the number that widths are multiples of: an even width for each head."""
    return 1 if config.model in RECURRENT else 2 * config.n_head


def parameter_count(config: TrainConfig, vocab_size: int) -> Callable[[TrainConfig], int]:
    """Returns a function that gives the number of parameters of this model in any widths, without building it."""

    def build(width: int, hidden: int) -> LanguageModel:
        return build_model(dataclasses.replace(config, n_embd=width, n_hidden=hidden), vocab_size)

    count = sizes.parameter_count(build, _unit(config))
    return lambda found: count(found.n_embd, found.n_hidden)


def config_of_size(config: TrainConfig, vocab_size: int, parameters: float) -> tuple[TrainConfig, int]:
    """Returns (the config with the width at which its model has about this many parameters, their number)."""
    count = parameter_count(config, vocab_size)
    low, high = 0.01, 100.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if count(widened(config, middle)) > parameters else (middle, high)
    both = [(found, count(found)) for found in (widened(config, low), widened(config, high))]
    return min(both, key=lambda size: abs(size[1] - parameters))
