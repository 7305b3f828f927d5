"""The runs of a scaling law: no token twice, complete schedules, none repeated; and train.py --scaling as a whole."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, stop_at
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.errors import CheckpointError, ConfigError
from tinylm.studies.scaling_laws import fit_scaling_law
from tinylm.studies.scaling_runs import ScalingPlan, finished, plan_scaling, seconds_left, trained_point
from tinylm.train import Run, default_config
from tinylm.train.tasks.language_modeling import make_batches, prepare

TINY = {"n_layer": 1, "n_head": 1, "n_embd": 16, "n_hidden": 16, "block_size": 16, "batch_size": 4, "dropout_ramp": 10, "warmup": 10}


def planned(model: str = "gpt", **changes: Any) -> ScalingPlan:
    return plan_scaling(dataclasses.replace(default_config(model), **{**TINY, "steps": 24, "schedule_steps": 100, **changes}), TEXT)


@pytest.mark.parametrize("model", ["gpt", "llama", "gru"])
def test_every_run_is_a_finished_schedule_without_a_token_twice(model: str) -> None:
    plan = planned(model, steps=1000)
    _, train_ids, *_ = prepare(plan.config, TEXT, None)
    assert len({run.n_embd for run in plan.runs}) == len({run.steps for run in plan.runs}) == 4
    assert max(run.n_embd for run in plan.runs) < plan.config.n_embd
    for run in plan.runs:
        batches = make_batches(run, np.arange(len(train_ids)))  # every token occurs once
        targets = np.concatenate([batches[k][1].ravel() for k in range(run.steps)])
        assert len(set(targets.tolist())) == targets.size == run.steps * 64
        assert run.schedule_steps == run.steps == run.eval_every
        assert run.warmup == run.dropout_ramp == round(run.steps / 10)
        assert run.lr == pytest.approx(plan.config.lr * plan.config.n_embd / run.n_embd, rel=0.005), "a larger one learns as well"
    assert max(run.steps for run in plan.runs) == make_batches(plan.config, train_ids).batches_per_epoch


def test_a_run_of_less_than_a_pass_sets_the_most() -> None:
    assert [run.steps for run in planned(steps=16).runs[:4]] == [2, 4, 8, 16]


def test_what_is_too_small() -> None:
    with pytest.raises(ConfigError, match=r"n_embd 16 with 4 heads: narrower widths \[8\], a scaling law needs 3"):
        planned(n_head=4)
    with pytest.raises(ConfigError, match="2 steps are a pass"):
        planned(steps=2)


def test_runs_that_are_done_are_not_repeated_and_stopped_ones_go_on(tmp_path: Path) -> None:
    plan = planned(steps=8)
    run = plan.runs[3]
    trained: list[int] = []

    def stopping(made: Run) -> Any:
        stop_at(made, 3)
        return made.train()

    def training(made: Run) -> Any:
        trained.append(made.progress.step)
        return made.train()

    assert trained_point(plan, run, tmp_path / "stopped", TEXT, stopping) is None
    assert finished(plan, run, tmp_path / "stopped", TEXT) is None
    point = trained_point(plan, run, tmp_path / "stopped", TEXT, training)
    assert trained == [3]
    assert trained_point(plan, run, tmp_path / "stopped", TEXT, training) == point
    assert trained == [3]
    assert point == trained_point(plan, run, tmp_path / "whole", TEXT, training), "bit for bit"
    assert point is not None
    assert (point.tokens, point.parameters) == (8 * 64, Run(run, tmp_path / "x", TEXT).model.num_parameters())
    folder = plan.folder(tmp_path / "begun", run)
    Run(run, folder, TEXT, plan.tokenizer)  # ended before it had saved anything, and perhaps before it noted its data
    assert finished(plan, run, tmp_path / "begun", TEXT) is None
    assert point == trained_point(plan, run, tmp_path / "begun", TEXT, training)
    other = dataclasses.replace(run, lr=1.0)
    with pytest.raises(CheckpointError, match="holds a run of other settings"):
        trained_point(plan, other, tmp_path / "whole", TEXT, training)


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_scaling_law, "__defaults__", (0, 20))  # the usual number of resamples takes six seconds
    data, out = tmp_path / "fox.txt", tmp_path / "out"
    data.write_text(TEXT, encoding="utf-8")
    flags = ["--data", data, "--n-layer", 1, "--n-head", 1, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--steps", 16]
    flags += ["--schedule-steps", 16, "--warmup", 2, "--save-minutes", 0, "--scaling", "--target", 2, "--out", out]
    shown = ends_well(script_here("train.py", *flags))
    for words in (
        "16 runs, 4 widths on 4 amounts",
        "that takes about",
        "run 16 of 16",
        "left",
        "alpha",
        "ten times the data",
        "the configured run has",
        "2 nats per token",
    ):
        assert words in shown, words
    answers = shown[shown.index("\nThis run (") :].splitlines()[1:4]
    assert [line.partition(" (")[0] for line in answers] == ["This run", "Ten times the data", "Twice the size"]
    assert shown.index("Twice the size (--n-embd") < shown.index("alpha"), "the answers stand before the tables"
    record = json.loads((out / "scaling.json").read_text(encoding="utf-8"))
    assert len(record["points"]) == 16
    assert {"E", "A", "alpha", "B", "beta"} == set(record["law"]) == set(record["intervals"])
    assert ("do not tell" in shown) == bool(record["not_identified"])
    assert record["target"]["loss"] == 2
    assert [p["name"] for p in record["predictions"]] == ["as configured", "ten times the data", "twice the size", "both"]
    assert (out / "scaling.png").read_bytes().startswith(b"\x89PNG")
    data.write_text(TEXT.replace("fox", "hen"), encoding="utf-8")
    failed = script_here("train.py", *flags)
    assert failed.returncode == 2
    assert "on other data" in failed.stderr
    fails_with_one_line(script_here("train.py", "--scaling", "--model", "ngram"), "--scaling and --model ngram")
    fails_with_one_line(script_here("train.py", "--target", 1.5), "--target 1.5 needs --scaling")
    fails_with_one_line(script_here("train.py", "--scaling", "--target", 0), "--target 0: expected a loss above 0")


def test_the_time_left_learns_from_the_runs_that_are_done() -> None:
    expected = [0.0, 10.0, 20.0, 30.0]
    assert seconds_left(expected, []) == 60
    assert seconds_left(expected, [0.0]) == 60, "a run that was finished before tells nothing"
    assert seconds_left(expected, [0.0, 15.0]) == pytest.approx(1.5 * 50)
    assert seconds_left(expected, [0.0, 15.0, 40.0, 60.0]) == 0
