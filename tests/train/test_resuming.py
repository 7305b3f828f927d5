"""Runs that are stopped and go on are the same as runs in one go; recurrent models carry their state on."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from small_runs import RECURRENT, TEXT, assert_same_run, resumed, small

from tinylm.engine.tensor import Tensor
from tinylm.train import Run, load_run


@pytest.mark.parametrize("model", RECURRENT)
def test_a_resumed_recurrent_run_is_the_same_run(model: str, tmp_path: Path) -> None:
    """With carried state and dropout; it stops in the middle of an epoch, where the state matters."""
    whole = Run(small(model), tmp_path / "whole", TEXT)
    assert whole.config.dropout > 0
    assert not whole.task.batches.starts_afresh(12)
    whole.train()
    half = Run(small(model, steps=12), tmp_path / "half", TEXT)
    half.train()
    rest = resumed(half.folder, steps=24)
    assert rest.state.carried is not None
    assert all(s.data.any() for s in rest.state.carried)
    assert len(rest.state.carried) == (2 if model == "lstm" else 1)
    rest.train()
    assert_same_run(rest, whole)

    again = Run(small(model, steps=12), tmp_path / "again", TEXT)
    again.train()
    forgetful = resumed(again.folder, steps=24)
    forgetful.state.carried = None
    forgetful.train()
    with pytest.raises(AssertionError):  # a lost state would be noticed
        assert_same_run(forgetful, whole)


@pytest.mark.parametrize("model", RECURRENT)
def test_the_state_is_carried_within_an_epoch(model: str, tmp_path: Path) -> None:
    """Each step starts from the final state of the one before; an epoch starts without a state."""
    run = Run(small(model, batch_size=16), tmp_path / "run", TEXT)
    assert run.task.batches.batches_per_epoch == 12
    calls, advance = [], run.model.advance

    def watched(ids: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        logits, after = advance(ids, state)
        if run.model.training:
            assert all(s.node is None for s in state or [])  # gradients end at the block
            calls.append((state, after))
        return logits, after

    run.model.advance = watched  # type: ignore[method-assign, assignment]
    run.train()
    assert [k for k, (state, _) in enumerate(calls) if state is None] == [0, 12]
    for (_, after), (state, _) in itertools.pairwise(calls):
        for a, b in zip(after if state else [], state or [], strict=True):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("stop_at", [0, 7])
def test_a_run_stopped_anywhere_can_go_on(stop_at: int, tmp_path: Path) -> None:
    """Also before the first step, and where no checkpoint is due."""
    whole = Run(small("lstm"), tmp_path / "whole", TEXT)
    whole.train()
    run = Run(small("lstm", log_every=1), tmp_path / "run", TEXT)
    run.stop_requested = stop_at == 0

    def report(record: dict) -> None:
        run.stop_requested = record["step"] >= stop_at - 1  # noticed after the current step

    assert run.train(report) is None
    assert run.progress.step == stop_at
    rest = resumed(run.folder)
    assert rest.progress.step == stop_at
    rest.train()
    assert_same_run(rest, whole)


def test_a_run_without_steps_can_be_continued(tmp_path: Path) -> None:
    none = Run(small("gru", steps=0), tmp_path / "none", TEXT)
    summary = none.train()
    assert summary is not None
    assert summary["steps"] == 0
    assert summary["val_loss"] == pytest.approx(math.log(none.task.tokenizer.vocab_size), abs=0.1)
    rest = resumed(none.folder, steps=24)
    rest.train()
    whole = Run(small("gru"), tmp_path / "whole", TEXT)
    whole.train()
    assert_same_run(rest, whole)


def test_validations_and_checkpoints_come_when_they_are_due(tmp_path: Path) -> None:
    """Also between the steps that are logged."""
    run = Run(small("gru", log_every=10, eval_every=7, save_every=5), tmp_path / "run", TEXT)
    saved, save = [], run.save
    run.save = lambda: (saved.append(run.progress.step), save())  # type: ignore[method-assign, func-returns-value, assignment]
    records: list[dict] = []
    run.train(records.append)
    assert [r["step"] for r in records if "val_loss" in r] == [7, 14, 21, 24]
    assert saved == [0, 5, 10, 15, 20, 24]
    logged = [r["step"] for r in records if "loss" in r]
    assert logged == [7, 10, 14, 20, 21, 24]


def test_a_stopped_run_loads_from_its_checkpoint(tmp_path: Path) -> None:
    run = Run(small("lstm"), tmp_path / "run", TEXT)

    def report(record: dict) -> None:
        run.stop_requested = True

    assert run.train(report) is None
    model, _, _ = load_run(run.folder)
    for name, value in run.model.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
