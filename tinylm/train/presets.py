"""Recipes by name: settings found by experiment, which `train.py --preset NAME` trains with.

What was tried stands in presets.md beside this file.
"""

import dataclasses

from tinylm.errors import ConfigError
from tinylm.train.config import TrainConfig, default_config

_GRU = dataclasses.replace(
    default_config("gru"), n_embd=64, block_size=50, batch_size=32, lr=3e-3, min_lr=0.0, warmup=100,
    eval_every=500, save_every=500,
)  # fmt: skip


def _of(n_hidden: int, dropout: float, weight_decay: float, steps: int) -> TrainConfig:
    """The recipe for a width; dropout rises over the whole training."""
    return dataclasses.replace(
        _GRU, n_hidden=n_hidden, dropout=dropout, dropout_ramp=steps, weight_decay=weight_decay, steps=steps, schedule_steps=steps
    )


PRESETS = {"best-10min": _of(384, 0.33, 0.15, 6600), "best-20min": _of(448, 0.4, 0.15, 9700)}
"""For the shipped Tiny Shakespeare on two cores."""


def preset(name: str) -> TrainConfig:
    """The settings of a preset. Errors: ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
