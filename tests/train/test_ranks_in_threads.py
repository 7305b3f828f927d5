"""Runs of several ranks within one process: the real collectives over threads in place of MPI. With MPI: test_distributed.py."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import TEXT, assert_same_run, small
from thread_ranks import on_ranks

from tinylm.errors import AnomalyError, ConfigError
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run
from tinylm.train.distributed import Ranks, check_same_weights
from tinylm.train.metrics import read_metrics
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks import language_modeling


def trained(ranks: Ranks, folder: Path, resume: bool = False, **settings: Any) -> Run:
    run = Run(small("lstm", **({"steps": 12, "eval_every": 6, "save_every": 6, "keep": 9} | settings)), folder, TEXT, None, resume, ranks)
    run.records = []  # type: ignore[attr-defined]
    run.summary = run.train(run.records.append)  # type: ignore[attr-defined]
    return run


def test_ranks_that_train_together_train_as_one(tmp_path: Path) -> None:
    """Rank 0 alone writes and reports; the checkpoint has the carried state of all rows."""
    alone: Any = trained(Ranks(), tmp_path / "alone", dropout=0.0)
    first, other = on_ranks(2, lambda ranks: trained(ranks, tmp_path / "together", dropout=0.0))
    assert_same_run_but_carried(first, other)
    assert first.summary == other.summary
    assert first.summary["val_loss"] == pytest.approx(alone.summary["val_loss"], rel=1e-4)
    assert first.summary["tokens_per_second"] * first.summary["train_seconds"] == pytest.approx(12 * 4 * 8)
    assert first.records == read_metrics(tmp_path / "together" / "metrics.jsonl")
    assert other.records == []
    assert other.state.log is None
    for mine, theirs in zip(first.records, alone.records, strict=True):
        for name in ("step", "loss", "val_loss", "grad_norm", "lr"):
            assert mine.get(name) == (pytest.approx(theirs[name], rel=1e-4) if name in theirs else None)
    ours, theirs = (saved_checkpoints(run.folder) for run in (first, alone))
    assert read_arrays(ours[0])[0]["state.0"].shape == (2, 4, 24)
    for a, b in ((read_arrays(path)[0] for path in pair) for pair in zip(ours, theirs, strict=True)):
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4, err_msg=name)


def assert_same_run_but_carried(a: Run, b: Run) -> None:
    for run in (a, b):
        run.state.carried = None
    assert_same_run(a, b)


def test_ranks_resume_where_they_stopped(tmp_path: Path) -> None:
    """With dropout, whose masks differ between the ranks, and each with its rows of the carried state."""
    on_ranks(2, lambda ranks: trained(ranks, tmp_path / "parts", dropout=0.3, steps=6))
    parts = on_ranks(2, lambda ranks: trained(ranks, tmp_path / "parts", resume=True, dropout=0.3))
    whole = on_ranks(2, lambda ranks: trained(ranks, tmp_path / "whole", dropout=0.3))
    for a, b in zip(parts, whole, strict=True):
        assert_same_run(a, b)
        assert a.state.generator.state == b.state.generator.state
    assert whole[1].state.generator.state[1] // 2**48 == 1
    assert not np.array_equal(whole[0].state.carried[0].data, whole[1].state.carried[0].data)


def test_a_request_to_one_rank_stops_all_after_the_same_step(tmp_path: Path) -> None:
    def asked(ranks: Ranks) -> tuple[int, Any]:
        run = Run(small("lstm"), tmp_path / "run", TEXT, ranks=ranks)
        step = run.train_step

        def counted(k: int) -> Any:
            run.stop_requested = ranks.rank == 1 and k == 4
            return step(k)

        run.train_step = counted  # type: ignore[method-assign]
        return run.progress.step, (run.train(), run.progress.step)

    assert on_ranks(2, asked) == [(0, (None, 5))] * 2
    assert saved_checkpoints(tmp_path / "run")[0].name == "step-00000005.safetensors"


@pytest.mark.parametrize(("rank", "due"), [(0, True), (1, False)])
def test_rank_0_says_when_a_checkpoint_is_due_by_the_clock(rank: int, due: bool, tmp_path: Path) -> None:
    def asked(ranks: Ranks) -> tuple[bool, bool]:
        run = Run(small("lstm", save_minutes=1.0), tmp_path / "run", TEXT, ranks=ranks)
        run.state.progress.step = 5
        before = run.save_is_due()
        run.state.clock.saved -= 61 * (ranks.rank == rank)
        return before, run.save_is_due()

    assert on_ranks(2, asked) == [(False, due)] * 2


@pytest.mark.parametrize("bad", [0, 1])
def test_the_rank_that_computed_a_nan_is_reported_by_all(bad: int, tmp_path: Path) -> None:
    def spoilt(ranks: Ranks) -> None:
        run = Run(small("lstm"), tmp_path / "run", TEXT, ranks=ranks)
        gradients = run.gradients

        def with_nan(k: int) -> Any:
            loss = gradients(k)
            if k == 7 and ranks.rank == bad:
                run.model.decoder.weight.grad[0, 0] = np.nan  # type: ignore[attr-defined]
            return loss

        run.gradients = with_nan  # type: ignore[method-assign]
        run.train()

    first, other = on_ranks(2, spoilt)
    for error in (first, other):
        assert isinstance(error, AnomalyError)
        assert "step 8: the loss is" in str(error)
        assert "1 of the" in str(error)
    assert "nothing was updated" in str(first)
    assert "gradient of 'decoder.weight' are not finite" in str(first)
    report = json.loads((tmp_path / "run" / "failure" / "report.json").read_text(encoding="utf-8"))
    assert report["step"] == 8
    assert report["gradient_norm"] == "nan"
    assert read_arrays(tmp_path / "run" / "failure" / "state.safetensors")[1]["progress"]["step"] == 7


def test_what_is_not_the_same_on_all_ranks_is_said_by_all(tmp_path: Path) -> None:
    def other_settings(ranks: Ranks) -> None:
        Run(small("lstm", dropout=0.1 * ranks.rank), tmp_path / "run", TEXT, ranks=ranks)

    def other_text(ranks: Ranks) -> None:
        Run(small("lstm"), tmp_path / "run", TEXT.replace("lazy", "azyl") if ranks.rank else TEXT, ranks=ranks)

    def other_weights(ranks: Ranks) -> None:
        run = Run(small("lstm", batch_size=6), tmp_path / "run", TEXT, ranks=ranks)
        run.model.decoder.weight.data[0, 0] += ranks.rank  # type: ignore[attr-defined]
        check_same_weights(ranks, run.model, "now")

    for work, message in [
        (other_settings, "dropout is 0.1 on rank 1 and 0.0 on rank 0: all ranks need the same"),
        (other_text, r"the SHA-256 of the training part is '[0-9a-f]{16}' on rank 1 and '[0-9a-f]{16}' on rank 0: "),
    ]:
        for error in on_ranks(2, work):
            assert isinstance(error, ConfigError)
            assert re.search(message, str(error))
    assert not (tmp_path / "run").exists()
    first, other, third = map(str, on_ranks(3, other_weights))
    assert "the weights of the ranks are not the same now: rank 0 has " in first
    assert first.endswith("another rank's differ")
    assert ", rank 1 has " in other
    assert ", rank 2 has " in third


def test_the_memory_of_a_step_is_that_of_a_ranks_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(language_modeling, "check_training_fits", lambda config, vocab_size, ranks: asked.append((vocab_size, ranks)))
    on_ranks(2, lambda ranks: Run(small("lstm"), tmp_path / "run", TEXT, ranks=ranks))
    vocabulary = len(set(TEXT))
    assert asked == [(vocabulary, 2)] * 2


def test_collectives_of_three_ranks() -> None:
    def work(ranks: Ranks) -> tuple[Any, ...]:
        mine = np.arange(4.0, dtype=np.float32) * (1 + ranks.rank)
        ranks.average([mine])
        ranks.barrier()
        ranks.agree({"a": 1})
        rows = ranks.gather(np.full((2, 1), ranks.rank), axis=1).tolist()
        said = ranks.any(ranks.rank == 2), ranks.any(False), ranks.broadcast(ranks.rank), ranks.broadcast(ranks.rank, root=2)
        return mine.tolist(), rows, said, ranks.device("cpu")  # type: ignore[attr-defined]

    assert on_ranks(3, work) == [([0.0, 2.0, 4.0, 6.0], [[0, 1, 2], [0, 1, 2]], (True, False, 0, 2), "cpu")] * 3


def test_names_that_one_rank_alone_has() -> None:
    for error in on_ranks(2, lambda ranks: ranks.agree({"a": 1, "b": 2} if ranks.rank else {"a": 1})):
        assert str(error) == "b is 2 on rank 1 and missing on rank 0: all ranks need the same"
    for error in on_ranks(2, lambda ranks: ranks.agree({"a": "x" * 500} if ranks.rank else {})):
        assert len(str(error)) < 300


def test_settings_of_one_process_ask_nobody(tmp_path: Path) -> None:
    run = Run(dataclasses.replace(small("lstm"), steps=0), tmp_path / "run", TEXT)
    assert (run.state.ranks.rank, run.state.ranks.size) == (0, 1)
    assert run.state.ranks.any(True)
    assert not run.state.ranks.any(False)
