"""Samples while a run is trained: they change no other number, stay with the run when it is resumed, and are printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, end_of, records, stop_at, tiny_run
from script_helpers import ends_well, script_here

from tinylm import explain
from tinylm.engine.random_keys import philox
from tinylm.errors import ConfigError
from tinylm.train import TrainConfig
from tinylm.train.state import Clock
from tinylm.train.tasks.samples import sample_text


def split_samples(folder: Path) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """Returns (the samples by step, the other records) of a run."""
    every = records(folder)
    return {r["step"]: r["sample"] for r in every if "sample" in r}, [r for r in every if "sample" not in r]


@pytest.mark.parametrize("model", ["gpt", "gru", "translator"])
def test_no_other_number_changes(model: str, tmp_path: Path) -> None:
    """With dropout, averaged weights and validations; the weights, the optimiser, the random state and all records."""
    reported: list[dict[str, Any]] = []
    tiny_run(model, tmp_path / "without").train()
    tiny_run(model, tmp_path / "with", sample_every=3).train(reported.append)
    samples, others = split_samples(tmp_path / "with")
    assert others == records(tmp_path / "without")
    assert end_of(tmp_path / "with") == end_of(tmp_path / "without")
    assert list(samples) == [3, 6, 9, 12, 15]
    assert {r["step"]: r["sample"] for r in reported if "sample" in r} == samples
    if model == "translator":
        assert all(text.count("\n→ ") == 3 for text in samples.values())
    else:
        assert all(len(text) == 200 for text in samples.values())
        assert len(set(samples.values())) == 5


def test_a_resumed_run_keeps_the_earlier_samples_and_draws_the_same(tmp_path: Path) -> None:
    tiny_run("gpt", tmp_path / "whole", sample_every=3).train()
    stop_at(parts := tiny_run("gpt", tmp_path / "parts", sample_every=3), 7)
    assert parts.train() is None
    assert list(split_samples(tmp_path / "parts")[0]) == [3, 6]
    tiny_run("gpt", tmp_path / "parts", resume=True, sample_every=3).train()
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    assert list(split_samples(tmp_path / "parts")[0]) == [3, 6, 9, 12, 15]


def test_it_is_the_averaged_model_that_speaks(tmp_path: Path) -> None:
    """The one that is validated and saved; from a stream that the seed and the step select."""
    run = tiny_run("gpt", tmp_path / "run", sample_every=16)
    run.train()  # at its end the model has the averaged weights
    random = np.random.Generator(philox((run.config.seed, (1 << 63) + 16)))
    text = sample_text(run.model, run.task.tokenizer, [0], "cpu", random)
    assert split_samples(tmp_path / "run")[0] == {16: text}
    assert set(text) <= set(TEXT)


def test_the_seconds_of_samples_are_not_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("tinylm.train.state.time.perf_counter", lambda: now[0])
    clock = Clock()
    now[0] = 12.0
    with clock.paused():
        now[0] = 15.0
    now[0] = 16.0
    assert clock.elapsed() == 3.0


def test_off_unless_asked_for(tmp_path: Path) -> None:
    assert TrainConfig().sample_every == 0
    with pytest.raises(ConfigError, match="sample_every is -1: expected at least 0"):
        TrainConfig(sample_every=-1)


def test_the_terminal_the_report_and_a_resume_show_them(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text(TEXT, encoding="utf-8")
    shape = ["--n-layer", 1, "--n-head", 2, "--n-embd", 8, "--block-size", 8, "--batch-size", 2, "--schedule-steps", 9]
    command = ["train.py", "--data", tmp_path / "fox.txt", "--out", tmp_path / "run", *shape, "--steps", 4]
    shown = ends_well(script_here(*command, "--sample-every", 2, "--tensorboard"))
    samples, _ = split_samples(tmp_path / "run")
    for step in (2, 4):
        assert f"step {step}/4  a sample:\n{samples[step]}\n" in shown
    shown = ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 6, "--sample-every", 1))  # a resume may change it
    assert "step 5/6  a sample:" in shown
    assert list(split_samples(tmp_path / "run")[0]) == [2, 4, 5, 6]
    page = explain.report(tmp_path / "run").read_text(encoding="utf-8")
    assert [page.count(f"<h3>after step {step}</h3>") for step in range(1, 7)] == [0, 1, 0, 1, 1, 1]
    assert page.index("after step 6") < page.index("the 3 before it") < page.index("after step 2")
