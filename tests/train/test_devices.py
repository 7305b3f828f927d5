"""Training on a GPU or its emulation: nothing waits within a step, and runs move between devices."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_helpers import waits_for_nothing

from tinylm.data import load_text
from tinylm.data.pairs import Pairs
from tinylm.engine.devices import to_numpy
from tinylm.engine.kernels import launches
from tinylm.errors import RangeError
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run, default_config, load_run
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.translation import TranslationRun
from tinylm.train.tasks.translation_config import TranslationConfig

TEXT = load_text("tinyshakespeare")[:3000]


def config_of(model: str, **changes: Any) -> Any:
    small = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32, "block_size": 8, "batch_size": 3, "dropout": 0.1, "steps": 4}
    return dataclasses.replace(default_config(model), **{**small, "log_every": 2, "warmup": 1, **changes})


@pytest.mark.parametrize("model", ["gpt", "transformer", "rnn", "lstm", "gru"])
def test_a_step_waits_for_nothing(cuda: Any, tmp_path: Path, model: str) -> None:
    run = Run(config_of(model, device="cuda"), tmp_path / "run", TEXT)
    launches.clear()
    with waits_for_nothing():
        for k in range(2):  # the second has a carried state, and an optimiser that has made a step
            loss, norm = run.train_step(k)
    assert np.isfinite(float(to_numpy(loss)))
    assert np.isfinite(float(to_numpy(norm)))
    assert launches["adamw", "cuda"] == 4  # two groups, two steps


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_a_step_of_a_translator_waits_for_nothing(cuda: Any, tmp_path: Path, model: Any) -> None:
    pairs = [(f"the {a} sees the {b}", f"el {b} ve al {a}") for a in ("dog", "cat", "man") for b in ("bird", "tree", "sun")] * 3
    config = TranslationConfig(
        model=model, n_layer=1, n_head=2, n_embd=16, n_hidden=32, block_size=24, bpe_size=300, batch_tokens=100, device="cuda"
    )
    run = TranslationRun(config, tmp_path / "run", Pairs(pairs, pairs[:3], pairs[:3], 0, ""))
    with waits_for_nothing():
        for k in range(2):
            loss, _ = run.train_step(k)
    assert np.isfinite(float(to_numpy(loss)))


@pytest.mark.parametrize("model", ["gpt", "lstm"])
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(cuda: Any, tmp_path: Path, model: str, first: str, second: str) -> None:
    """Weights, optimiser, carried state, batches and dropout masks are as if it had stayed on the CPU."""
    Run(config_of(model), tmp_path / "whole", TEXT).train()
    Run(config_of(model, steps=2, device=first), tmp_path / "moved", TEXT).train()
    Run(config_of(model, device=second), tmp_path / "moved", TEXT, resume=True).train()
    files = [saved_checkpoints(tmp_path / name)[0] for name in ("whole", "moved")]
    (expected, _), (found, _) = (read_arrays(file) for file in files)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        if "exp_avg" not in name:  # Adam makes steps of full size from gradients that are only rounding, such as a key bias's
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    model_there, _, _ = load_run(tmp_path / "moved", "cuda")
    assert {p.device for p in model_there.parameters()} == {"cuda:0"}


def test_a_target_out_of_range_stops_the_run_before_it_is_saved(cuda: Any, tmp_path: Path) -> None:
    run = Run(config_of("gpt", device="cuda", save_every=2), tmp_path / "run", TEXT)

    class Broken(type(run.task.batches)):  # type: ignore[misc]
        def __getitem__(self, k: int) -> Any:
            x, y = super().__getitem__(k)
            return x, y + 1000

    run.task.batches.__class__ = Broken
    with pytest.raises(RangeError, match=r"target 1\d\d\d is out of range"):
        run.train()
    assert [path.stem for path in saved_checkpoints(tmp_path / "run")] == ["step-00000000"]
