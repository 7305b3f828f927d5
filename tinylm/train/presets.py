"""Recipes by name: settings found by experiment, which `train.py --preset NAME` trains with.

What was tried stands in presets.md beside this file.
"""

import dataclasses

from tinylm.errors import ConfigError
from tinylm.train.config import TrainConfig, default_config

PRESETS: dict[str, TrainConfig] = {
    "best-10min": dataclasses.replace(
        default_config("gru"), n_embd=64, n_hidden=384, block_size=50, batch_size=64, dropout=0.2, weight_decay=0.1, lr=4e-3, min_lr=0.0,
        steps=3200, schedule_steps=3200, warmup=50, eval_every=400, save_every=400,
    ),
}  # fmt: skip
"""For the shipped Tiny Shakespeare on two cores."""


def preset(name: str) -> TrainConfig:
    """The settings of a preset. Errors: ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
