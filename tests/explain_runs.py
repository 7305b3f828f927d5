"""Small trained models for scripts/explain.py."""

import dataclasses
from pathlib import Path

from script_helpers import ends_well, script_here

from tinylm.train import Counting, Run, default_config

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
SENTENCE = "the lazy dog"
PNG = b"\x89PNG\r\n\x1a\n"


def language_models(parent: Path) -> dict[str, Path]:
    """Trains a small GPT, LSTM and n-gram model for a moment; returns their run folders."""
    settings = {
        "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 16, "block_size": 24, "batch_size": 4, "order": 3,
        "steps": 10, "schedule_steps": 10, "warmup": 2, "lr": 1e-2,
    }  # fmt: skip
    for model in ("gpt", "lstm", "ngram"):
        config = dataclasses.replace(default_config(model), **settings)  # type: ignore[arg-type]
        (Counting if model == "ngram" else Run)(config, parent / model, TEXT).train()
    return {path.name: path for path in parent.iterdir()}


def rows(*arguments: object) -> list[list[str]]:
    """Returns the words of each line that the script prints."""
    return [line.split() for line in ends_well(script_here("explain.py", *arguments)).splitlines()]
