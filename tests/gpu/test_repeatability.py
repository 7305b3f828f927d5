"""The same numbers each time, bit for bit: ops, training, and training that was stopped and resumed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_cases import CASES, Case, arguments, results

from tinylm.data import load_text
from tinylm.engine.devices import to_numpy
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run, default_config
from tinylm.train.run_folder import saved_checkpoints

MODELS = ["gpt", "llama", "transformer", "rnn", "lstm", "gru"]


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES, ids=[f"{case.name} {i}" for i, case in enumerate(CASES)])
def test_ops_repeat_themselves(case: Case, scale: int) -> None:
    arrays = arguments(case, 8 * scale, np.float32)
    first = [to_numpy(a).tobytes() for a in results(case, arrays, np.float32)]
    for _ in range(9):
        assert [to_numpy(a).tobytes() for a in results(case, arrays, np.float32)] == first


def config_of(model: str, scale: int, **changes: Any) -> Any:
    """Returns a config that is wide enough for every product and sum to be split over many blocks."""
    width = {"n_layer": 2, "n_embd": 384 // scale, "n_hidden": 1024 // scale, "n_head": 2, "n_kv_head": 1}
    batch = {"block_size": 128 // scale, "batch_size": 32 // scale, "dropout": 0.1, "warmup": 1, "steps": 6, "log_every": 3}
    return dataclasses.replace(default_config(model), **{**width, **batch, "device": "cuda", **changes})


def last_checkpoint(folder: Path) -> dict[str, bytes]:
    arrays, _ = read_arrays(saved_checkpoints(folder)[0])
    return {name: a.tobytes() for name, a in arrays.items()}


@pytest.mark.cuda_long
@pytest.mark.parametrize("model", MODELS)
def test_ten_trainings_end_the_same(tmp_path: Path, model: str, scale: int) -> None:
    text = load_text("tinyshakespeare")[:60_000]
    for k in range(10):
        Run(config_of(model, scale), tmp_path / str(k), text).train()
    expected = last_checkpoint(tmp_path / "0")
    for k in range(1, 10):
        found = last_checkpoint(tmp_path / str(k))
        assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_training_ends_as_an_unbroken_one(tmp_path: Path, model: str, scale: int) -> None:
    text = load_text("tinyshakespeare")[:60_000]
    Run(config_of(model, scale), tmp_path / "whole", text).train()
    Run(config_of(model, scale, steps=3), tmp_path / "broken", text).train()
    Run(config_of(model, scale), tmp_path / "broken", text, resume=True).train()
    expected, found = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "broken")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
