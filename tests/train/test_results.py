"""What is written of a run's result, and read from it; and the loss that a validation part has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, tiny

from tinylm.engine import machine_memory
from tinylm.errors import ConfigError
from tinylm.models import NgramLM
from tinylm.train import Run, tensorboard, validation_loss
from tinylm.train.metrics import read_metrics
from tinylm.train.records import summary_of
from tinylm.train.state import Progress
from tinylm.train.tasks.fine_tuning import with_shape_of
from tinylm.train.tasks.language_model_config import check_training_fits
from tinylm.train.tasks.presets import PRESETS, preset
from tinylm.train.tasks.token_losses import token_losses


def test_a_summary() -> None:
    progress = Progress(step=7, train_seconds=2.0, val_loss=3.0, best_step=5, best_val_loss=2.5)
    assert summary_of(progress, 11, 1.5, 80) == {
        "val_loss": 3.0, "val_nats_per_byte": 2.0, "best_val_loss": 2.5, "best_step": 5, "steps": 7, "stopped_early": False,
        "parameters": 11, "train_seconds": 2.0, "tokens_per_second": 40.0,
    }  # fmt: skip
    assert summary_of(progress, 11, 1.5, 80, early=True)["stopped_early"] is True


def test_whole_lines_of_metrics_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo', encoding="utf-8")
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.5}]


def test_curves_begin_after_the_step_of_a_resume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Any] = []
    monkeypatch.setattr(tensorboard, "summary_writer", lambda: lambda folder, purge_step, flush_secs: given.append(purge_step))
    tensorboard.TensorBoardLog(tmp_path)
    tensorboard.TensorBoardLog(tmp_path, 20)
    assert given == [1, 21]


def test_n_grams_are_scored_after_the_tokens_before_them() -> None:
    ids = np.array([0, 1, 2, 0, 1, 1, 2, 0, 2, 1, 0, 1, 2])
    model = NgramLM(3, 3)
    model.fit(ids)
    losses = [-model.log_probabilities(ids[k : k + 1], ids[:k])[0] for k in range(1, len(ids))]
    np.testing.assert_allclose(token_losses(model, ids), losses, rtol=1e-12)
    assert validation_loss(model, ids) == pytest.approx(np.mean(losses), rel=1e-12)


def test_the_base_of_a_run_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Run(tiny("gpt"), tmp_path / "base", TEXT)
    base.train()
    monkeypatch.chdir(tmp_path)
    assert with_shape_of(base.model, tiny("gpt", init="base")).init == str((tmp_path / "base").resolve())


def test_memory_is_asked_for_one_process_if_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("tinylm.train.tasks.language_model_config.check_fits", lambda needed, what: asked.append(needed))
    for ranks in ((), (1,), (2,)):
        check_training_fits(tiny("gpt"), 10, *ranks)
    assert asked[0] == asked[1] > asked[2]
    monkeypatch.undo()
    monkeypatch.setattr(machine_memory, "machine_memory", lambda: (asked[0] - 1, 0))
    with pytest.raises(ConfigError, match="this machine has"):
        check_training_fits(tiny("gpt"), 10)


@pytest.mark.parametrize(("name", "members", "steps", "schedule"), [("best-10min", 1, 7500, 8000), ("best-20min", 2, 7000, 7600)])
def test_presets_are_those_of_the_measured_runs(name: str, members: int, steps: int, schedule: int) -> None:
    """presets.md tells what they gave."""
    found = preset(name)
    assert list(PRESETS) == ["best-10min", "best-20min"]
    assert (found.model, found.members, found.steps, found.schedule_steps, found.dropout_ramp) == (
        "gru",
        members,
        steps,
        schedule,
        schedule,
    )
    assert (found.n_embd, found.n_hidden, found.block_size, found.batch_size) == (64, 384, 50, 32)
    assert (found.lr, found.min_lr, found.warmup, found.dropout, found.weight_decay) == (3e-3, 0.0, 100, 0.35, 0.15)
    assert (found.eval_every, found.save_every) == (500, 500)
