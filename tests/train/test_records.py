"""What a run records: losses since the last record, the best validation, its first files; and the least data for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import TEXT, small

from tinylm.errors import DataError
from tinylm.train import Run, loop
from tinylm.train.metrics import read_metrics
from tinylm.train.tasks.language_modeling import prepare


def test_a_record_has_the_mean_loss_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    """Also at a validation between two records, and after it."""
    run = Run(small("gru", steps=9, log_every=4, eval_every=6), tmp_path / "run", TEXT)
    losses: list[float] = []
    step = run.train_step

    def noted(k: int) -> Any:
        loss, norm = step(k)
        losses.append(float(loss))
        return loss, norm

    run.train_step = noted  # type: ignore[method-assign]
    run.train()
    records = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert [r["step"] for r in records] == [4, 6, 8, 9]
    for r, first in zip(records, (0, 4, 6, 8), strict=True):
        assert r["loss"] == pytest.approx(np.mean(losses[first : r["step"]]), rel=1e-6)
        assert r["loss"] > 1


@pytest.mark.parametrize(
    ("patience", "stop", "since_best"),
    [(1, 6, 1), (2, 12, 2), (3, 14, 3), (0, 16, 4)],  # validations after steps 2, 4, ...
)
def test_the_validations_since_the_best_one(patience: int, stop: int, since_best: int, tmp_path: Path) -> None:
    run = Run(small("gru", steps=16, eval_every=2, patience=patience), tmp_path / "run", TEXT)
    found = iter([3.0, 2.5, 2.6, 2.0, 2.0, 2.1, 2.2, 2.3])  # as good as the best is not better
    run.task.validation_loss = lambda: next(found)  # type: ignore[method-assign]
    summary = run.train()
    assert summary is not None
    assert (summary["steps"], run.progress.since_best) == (stop, since_best)
    assert (summary["best_step"], summary["best_val_loss"]) == ((4, 2.5) if stop == 6 else (8, 2.0))
    assert summary["stopped_early"] == (stop < 16)


@pytest.mark.parametrize("model", ["gpt", "gru"])
def test_a_validation_takes_no_random_numbers_from_the_training(model: str, tmp_path: Path) -> None:
    run = Run(small(model, dropout=0.5), tmp_path / "run", TEXT)
    run.train_step(0)
    before = run.state.generator.state
    run.validate(lambda record: None)
    assert run.state.generator.state == before


def test_config_json_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it the folder holds a run, to which all other files belong."""
    written: list[str] = []
    write = loop.write_json
    monkeypatch.setattr(loop, "write_json", lambda path, record: written.append(path.name) or write(path, record))  # type: ignore[func-returns-value]
    Run(small("gru"), tmp_path / "run", TEXT)
    assert written == ["data.json", "config.json"]


@pytest.mark.parametrize(
    ("model", "settings", "characters", "enough"),
    [
        ("gpt", {"block_size": 8}, 10, False),  # one validates, which has nothing before it
        ("gpt", {"block_size": 8}, 20, True),
        ("gpt", {"block_size": 17}, 20, True),  # 18 train: a block and its last target
        ("gpt", {"block_size": 18}, 20, False),
        ("ngram", {"order": 18}, 20, True),
        ("ngram", {"order": 19}, 20, False),
    ],
)
def test_the_least_data(model: str, settings: dict[str, Any], characters: int, enough: bool) -> None:
    config = small(model, **settings)
    if enough:
        data = prepare(config, TEXT[:characters], None)
        assert (len(data.train_ids), len(data.val_ids)) == (characters - 2, 2)
    else:
        with pytest.raises(DataError, match="the data is too short"):
            prepare(config, TEXT[:characters], None)
