"""Recipes by name: settings found by experiment, which `train.py --preset NAME` trains with.

What was tried stands in presets.md beside this file.
"""

import dataclasses

from tinylm.checks import check_choice
from tinylm.train.tasks.language_model_config import TrainConfig, default_config

_RECIPE = dataclasses.replace(
    default_config("gru"), n_embd=64, n_hidden=384, block_size=50, batch_size=32, lr=3e-3, min_lr=0.0, warmup=100, dropout=0.35,
    weight_decay=0.15, eval_every=500, save_every=500, precision="bfloat16", steps=6500, schedule_steps=6800, dropout_ramp=6800,
)  # fmt: skip

PRESETS = {"best-10min": dataclasses.replace(_RECIPE, members=2), "best-20min": dataclasses.replace(_RECIPE, members=4)}
"""For the shipped Tiny Shakespeare on two cores."""


def preset(name: str) -> TrainConfig:
    """Returns the settings of a preset. Raises ConfigError for an unknown name."""
    check_choice("preset", name, PRESETS)
    return PRESETS[name]
