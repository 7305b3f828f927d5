"""Small training runs of every language model, and whether two runs are the same."""

import dataclasses
from pathlib import Path

import numpy as np

from tinylm.train import Counting, Run, TrainConfig, default_config
from tinylm.train.tasks.loading import read_config

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SMALL = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 24, "block_size": 8, "order": 4, "bpe_size": 270,
    "batch_size": 4, "steps": 24, "schedule_steps": 24, "warmup": 2, "lr": 3e-2, "log_every": 4, "eval_every": 12, "save_every": 12,
}  # fmt: skip
RECURRENT = ["rnn", "lstm", "gru"]


def small(model: str, **changes: object) -> TrainConfig:
    """Returns a config for a run of a second or so."""
    return dataclasses.replace(default_config(model), **(SMALL | changes))  # type: ignore[arg-type]


def make(config: TrainConfig, folder: Path, text: str = TEXT) -> Run | Counting:
    """Makes the run, or the counting of an n-gram model."""
    return (Counting if config.model == "ngram" else Run)(config, folder, text)


def resumed(folder: Path, **changes: object) -> Run:
    """Returns the run of a folder, ready to go on, with these settings changed."""
    config, tokenizer = read_config(folder, TrainConfig)
    return Run(dataclasses.replace(config, **changes), folder, TEXT, tokenizer, resume=True)  # type: ignore[arg-type]


def assert_same_run(a: Run, b: Run) -> None:
    """Asserts that weights, optimiser and carried state are equal, bit for bit."""
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
    for (name, x), y in zip(a.task.optimizer.state_dict().items(), b.task.optimizer.state_dict().values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)
    for x, y in zip(a.state.carried or [], b.state.carried or [], strict=True):
        np.testing.assert_array_equal(x.data, y.data)
