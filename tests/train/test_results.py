"""What is written of a run's result, and read from it; and the loss that a validation part has."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, tiny

from tinylm.models import NgramLM
from tinylm.train import Run, metrics, tensorboard, validation_loss
from tinylm.train.loop import Training
from tinylm.train.metrics import MetricsLog, read_metrics
from tinylm.train.records import summary_of
from tinylm.train.state import Clock, Progress
from tinylm.train.tasks.fine_tuning import with_shape_of
from tinylm.train.tasks.language_model_config import build_model
from tinylm.train.tasks.token_losses import token_losses, validated_tokens


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


def test_lines_that_are_no_records_of_ours_are_left_out(tmp_path: Path) -> None:
    lines = ["3", "[1]", "null", '"step"', "{}", '{"loss": 2.5}', '{"step": "1"}', '{"step": 1.0}', '{"step": true}', "", '{"step": 4}']
    (tmp_path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 4}]


@pytest.mark.parametrize(
    ("at", "most", "kept"),
    [(0, None, []), (2, None, [0, 1, 2]), (3, None, [0, 1, 2, 3]), (9, None, [0, 1, 2, 3, 4]), (3, 2, [0, 1]), (3, 0, [])],
)
def test_a_resume_keeps_the_records_up_to_its_step(at: int, most: int | None, kept: list[int], tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {k}}}\n' for k in range(5)) + '{"st', encoding="utf-8")
    log = MetricsLog(path, at, most)
    log.write({"step": 7, "loss": 0.5})
    assert path.read_text(encoding="utf-8").splitlines() == [*(f'{{"step": {k}}}' for k in kept), '{"step": 7, "loss": 0.5}']
    path.unlink()
    MetricsLog(path, at)  # a run whose file was deleted goes on with a new one
    assert path.read_bytes() == b""


def test_memory_is_told_in_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = types.SimpleNamespace(total_bytes=lambda: 3 * 2**20 + 2**19)
    monkeypatch.setattr(metrics, "device_namespace", lambda device: types.SimpleNamespace(get_default_memory_pool=lambda: pool))
    assert metrics.memory_mb("cuda:1")["device"] == 3.5
    monkeypatch.setattr(metrics.resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=7 * 2**20))
    monkeypatch.setattr(metrics.resource, "getpagesize", lambda: 4096)
    monkeypatch.setattr(metrics.Path, "read_text", lambda path, encoding: "900 512 3 1 0 4 0\n")  # pages: of the whole, resident, ...
    for platform, peak in (("linux", 7 * 2**10), ("darwin", 7)):
        monkeypatch.setattr(metrics.sys, "platform", platform)
        assert metrics.memory_mb() == {"now": 2.0, "peak": peak}

    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(metrics.Path, "read_text", missing)
    assert metrics.memory_mb() == {"peak": 7}


def test_a_run_goes_on_with_the_generator_that_its_weights_were_drawn_from(tmp_path: Path) -> None:
    run = Run(tiny("gpt", seed=5), tmp_path / "run", TEXT)
    seed, drawn = run.state.generator.state
    assert seed == 5
    assert drawn > 0
    assert Training(run.task, tmp_path / "other").state.generator.state == (0, 0)  # without one: a new one


def test_the_clock_of_a_run_begins_at_step_0() -> None:
    clock = Clock()
    assert clock.step == 0
    clock.start(7)
    saved = clock.saved
    clock.resume(9)
    assert (clock.step, clock.saved) == (9, saved)
    assert 0 <= clock.elapsed() < 60


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


@pytest.mark.parametrize(
    ("model", "tokens", "read"),
    [
        ("gpt", 5000, 4999),
        ("gru", 4096, 4095),  # one stream: a second one would be less than four times as long as what is read before it
        ("gru", 4097, 4096 + 2 * 512),
        ("gru", 1 + 40 * 2048, 40 * 2048 + 32 * 512),
    ],
)
def test_the_tokens_that_a_validation_reads(model: str, tokens: int, read: int) -> None:
    """All but the last, and for each stream of a recurrent model the 512 before it."""
    assert validated_tokens(build_model(tiny(model), 10), tokens) == read


def test_the_base_of_a_run_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Run(tiny("gpt"), tmp_path / "base", TEXT)
    base.train()
    monkeypatch.chdir(tmp_path)
    assert with_shape_of(base.model, tiny("gpt", init="base")).init == str((tmp_path / "base").resolve())
