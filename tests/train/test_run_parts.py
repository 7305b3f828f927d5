"""Parts of a run on their own: the lock's contents, ranks without MPI, and what a task does that says nothing else."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import TEXT, small

from tinylm.data.pairs import Pairs
from tinylm.engine.random_keys import Generator
from tinylm.errors import ConfigError
from tinylm.train import Run, distributed
from tinylm.train.distributed import MPIRanks, Ranks, own_rows, rank_0_first, refuse_lone_ranks, separate_draws
from tinylm.train.run_folder import RunLock, new_folder
from tinylm.train.tasks.task import Task
from tinylm.train.tasks.translation import TranslationRun, build_translator
from tinylm.train.tasks.translation_config import TranslationConfig


def test_the_lock_holds_one_process_id_whatever_was_there(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999999999\n", encoding="utf-8")
    with RunLock(tmp_path):
        assert (tmp_path / "lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"


def test_names_of_new_folders(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        names.append(new_folder("gpt", "texts/own.text.txt", tmp_path).name)
        (tmp_path / names[-1]).mkdir()
    assert names == ["gpt-own.text", "gpt-own.text-2", "gpt-own.text-3"]
    assert new_folder("gpt", "", tmp_path).name == "gpt-data"


# ---------------------------------------------------------------- ranks


class Rank(Ranks):
    """One of three ranks; notes when it waits."""

    size = 3

    def __init__(self, rank: int) -> None:
        self.rank, self.did = rank, [""][1:]

    def barrier(self) -> None:
        self.did.append("waits")


@pytest.mark.parametrize(("rank", "order"), [(0, ["reads", "waits"]), (1, ["waits", "reads"]), (2, ["waits", "reads"])])
def test_rank_0_goes_first(rank: int, order: list[str]) -> None:
    ranks = Rank(rank)
    with rank_0_first(ranks):
        ranks.did.append("reads")
    assert ranks.did == order


def test_rows_of_each_rank() -> None:
    assert [own_rows(Rank(r), 12) for r in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert own_rows(Rank(2), 12, accumulate=4) == slice(8, 12)
    with pytest.raises(ConfigError, match="accumulate is 5: expected at most 4"):
        own_rows(Rank(2), 12, accumulate=5)
    with pytest.raises(ConfigError, match="batch_size is 13: expected a multiple of the number of ranks, 3"):
        own_rows(Rank(0), 13)


def test_no_two_ranks_draw_the_same_numbers() -> None:
    counts = []
    for rank in range(3):
        generator = Generator(7)
        generator.state = 7, 5 + 2 * 2**48
        separate_draws(Rank(rank), generator)
        counts.append(generator.state)
    assert counts == [(7, 5), (7, 5 + 2**48), (7, 5 + 2 * 2**48)]


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE"])
def test_ranks_that_do_not_know_of_each_other(name: str) -> None:
    refuse_lone_ranks({})
    refuse_lone_ranks({name: "1"})
    with pytest.raises(ConfigError, match="mpiexec started 2 processes"):
        refuse_lone_ranks({name: "2"})


@pytest.mark.parametrize(("cores", "sharers", "each"), [(8, 1, "8"), (8, 2, "4"), (8, 3, "2"), (2, 3, "1"), (1, 2, "1"), (3, 2, "1")])
def test_ranks_of_the_same_cores_share_them(cores: int, sharers: int, each: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank with other cores does not count."""

    class Here:
        def allgather(self, usable: Any) -> list[Any]:
            return [usable, ["elsewhere"], *[usable] * (sharers - 1)]

    monkeypatch.setattr(distributed, "thread_count", lambda: cores)
    monkeypatch.delenv("TINYLM_NUM_THREADS", raising=False)
    ranks = MPIRanks.__new__(MPIRanks)
    ranks._here = Here()  # type: ignore[assignment]
    ranks.share_cores()
    assert os.environ["TINYLM_NUM_THREADS"] == each
    monkeypatch.setenv("TINYLM_NUM_THREADS", "3")
    ranks.share_cores()
    assert os.environ["TINYLM_NUM_THREADS"] == "3", "what the user says goes first"


# ---------------------------------------------------------------- tasks


def test_what_a_task_says_unless_it_says_otherwise() -> None:
    task: Any = Task
    assert task.tokens_between(None, 3, 9) == 0
    assert task.starts_afresh(None, 5) is True
    assert task.carried_kinds(None) == []
    assert math.isnan(task.validation_loss(None))
    assert (task.epoch_record(None, 1), task.results(None, 1.0), task.lines_until(None, 1)) == (None, None, None)
    assert task.to_stored(None, {"a": 1}, {"b": 2}) == task.from_stored(None, {"a": 1}, {"b": 2}) == ({"a": 1}, {"b": 2})
    assert (Task.rows, Task.validates) == (slice(None), True)


@pytest.mark.parametrize(("embedding", "same"), [("random", True), ("latent", False)])
def test_a_translators_embedding_begins_as_its_setting_says(embedding: str, same: bool, tmp_path: Path) -> None:
    pairs = [(f"the {a} cat {b}", f"el {b} gato {a}") for a in ("old", "new", "big") for b in ("eats", "runs", "sits")]
    settings = TranslationConfig(embedding=embedding, bpe_size=300, block_size=24, n_layer=1, n_head=2, n_embd=16, batch_tokens=64)  # type: ignore[arg-type]
    run = TranslationRun(settings, tmp_path / "run", Pairs(pairs, pairs[:3], pairs[:2], 0, ""))
    fresh = build_translator(run.config, run.task.vocabulary.size)
    first, other = (next(iter(m.state_dict().values())) for m in (run.model, fresh))
    assert first.shape == other.shape
    lengths = np.linalg.norm(first, axis=1)
    assert (np.abs(lengths - 1) < 1e-5).any() != same, "latent vectors have length 1"


def test_a_run_that_is_asked_to_stop_before_its_first_step_makes_none(tmp_path: Path) -> None:
    run = Run(small("gru"), tmp_path / "run", TEXT)
    run.stop_requested = True
    assert run.train() is None
    assert run.progress.step == 0
    run.stop_requested = False
    records: list[dict[str, Any]] = []

    def report(record: dict[str, Any]) -> None:
        records.append(record)
        run.stop_requested = True

    assert run.train(report) is None
    assert run.progress.step == records[0]["step"] + 1, "it stops after the step in which it was asked"


def test_a_language_model_reads_whole_batches(tmp_path: Path) -> None:
    run = Run(small("gpt"), tmp_path / "run", TEXT)
    assert run.state.task.tokens_between(3, 9) == 6 * run.config.batch_size * run.config.block_size
