"""What a run writes stays in its folder, whatever lies there; a run that had saved nothing is begun again, and only such a run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_runs import TEXT, assert_same_end, stop_at, tiny, tiny_classifier, tiny_run

from tinylm.errors import CheckpointError
from tinylm.train import Counting, Run
from tinylm.train.metrics import MetricsLog
from tinylm.train.run_folder import RunLock, never_started, saved_checkpoints

Make = Callable[[Path, bool], Any]


def ngram(folder: Path, resume: bool = False) -> Counting:
    return Counting(tiny("ngram", order=3), folder, TEXT, resume=resume)


MAKERS: dict[str, Make] = {
    "gpt": lambda folder, resume: tiny_run("gpt", folder, resume),
    "translator": lambda folder, resume: tiny_run("translator", folder, resume, steps=3),
    "classifier": tiny_classifier,
    "ngram": ngram,
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


# ---------------------------------------------------------------- links


@makers
def test_a_link_in_place_of_the_lock_is_refused(make: Make, tmp_path: Path) -> None:
    folder, letter = tmp_path / "run", tmp_path / "letter"
    letter.write_text("dear reader", encoding="utf-8")
    folder.mkdir()
    (folder / "lock").symlink_to(letter)
    with pytest.raises(CheckpointError, match=f"cannot write {folder / 'lock'}: it is a symbolic link"):
        make(folder, False)
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="it is a symbolic link"):
        make(folder, False)
    assert letter.read_text(encoding="utf-8") == "dear reader"
    assert not (tmp_path / "nothing").exists()


@makers
def test_other_files_are_replaced_and_not_followed(make: Make, tmp_path: Path) -> None:
    """Also where a link has the name of a file that the run will write."""
    folder, letter = tmp_path / "run", tmp_path / "letter"
    letter.write_text("dear reader", encoding="utf-8")
    (folder / "checkpoints").mkdir(parents=True)
    names = ["metrics.jsonl", "summary.json", "model.safetensors", "checkpoints/step-00000000.safetensors", "checkpoints/best.safetensors"]
    for name in names:
        (folder / name).symlink_to(letter)
    make(folder, False).train()
    assert letter.read_text(encoding="utf-8") == "dear reader"
    assert not any((folder / name).is_symlink() for name in ("metrics.jsonl", "summary.json", "model.safetensors"))


@pytest.mark.parametrize("name", ["checkpoints", "failure", "tensorboard"])
def test_a_link_in_place_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    """What lies behind it stays: also a file that has the name of a half-written one."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".mine.abc.partial").write_text("mine", encoding="utf-8")
    folder.mkdir()
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=f"{folder / name} is a symbolic link, expected a folder"):
        tiny_run("gpt", folder)
    assert [path.name for path in elsewhere.iterdir()] == [".mine.abc.partial"]
    assert not (folder / "lock").exists()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    tiny_run("gpt", tmp_path / "run", steps=2).train()
    assert (tmp_path / "disk" / "summary.json").exists()


@pytest.mark.parametrize("make_other", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_lock_that_is_no_file(make_other: Callable[[Path], None], tmp_path: Path) -> None:
    make_other(tmp_path / "lock")
    with pytest.raises(CheckpointError, match="lock: it is no regular file"):
        tiny_run("gpt", tmp_path)


def test_a_lock_with_a_second_name_is_replaced(tmp_path: Path) -> None:
    """As in a folder copied with hard links; the other file keeps its content, and the new lock locks."""
    folder, letter = tmp_path / "run", tmp_path / "letter"
    letter.write_text("dear reader", encoding="utf-8")
    folder.mkdir()
    (folder / "lock").hardlink_to(letter)
    with RunLock(folder):
        assert (folder / "lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"
        with pytest.raises(CheckpointError, match="in use"):
            RunLock(folder).acquire()
    assert letter.read_text(encoding="utf-8") == "dear reader"


@pytest.mark.parametrize(
    "exchange", [lambda path, letter: path.symlink_to(letter), lambda path, letter: os.mkfifo(path)], ids=["link", "pipe"]
)
def test_metrics_that_are_exchanged_while_it_trains(exchange: Callable[[Path, Path], None], tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear reader", encoding="utf-8")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.unlink()
    exchange(log.path, letter)
    with pytest.raises(CheckpointError, match=f"cannot write {log.path}: it is "):
        log.write({"step": 1})
    assert letter.read_text(encoding="utf-8") == "dear reader"


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    """In every folder of the run; a folder of such a name is none of it, and stays."""
    tiny_run("gpt", tmp_path, steps=2).train()
    (tmp_path / "failure").mkdir()
    (tmp_path / ".a.partial").mkdir()
    left = [tmp_path / name for name in (".config.json.x.partial", "checkpoints/.best.x.partial", "failure/.report.json.x.partial")]
    for path in left:
        path.write_text("half", encoding="utf-8")
    with RunLock(tmp_path):
        assert not any(path.exists() for path in left)
    assert (tmp_path / ".a.partial").is_dir()


# ---------------------------------------------------------------- runs that had saved nothing


@makers
@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("ended_after", ["config.json", "metrics.jsonl", "checkpoints"])
def test_a_run_that_had_saved_nothing_is_begun_again(
    make: Make, resume: bool, ended_after: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "whole", False).train()
    folder = tmp_path / "run"
    begun = make(folder, False)
    del begun  # which gives the lock back
    if ended_after == "config.json":
        (folder / "metrics.jsonl").unlink()
    if ended_after == "checkpoints":
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / ".step-00000000.safetensors.x.partial").write_bytes(b"half")
    assert never_started(folder)
    capsys.readouterr()
    make(folder, resume).train()
    assert capsys.readouterr().err == f"the run in {folder} was ended before it had saved anything: it is begun again\n"
    for name in ("model.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(folder.rglob("*.partial"))


def test_it_may_be_begun_again_with_other_settings(tmp_path: Path) -> None:
    tiny_run("gpt", tmp_path / "run")
    tiny_run("gpt", tmp_path / "run", seed=5).train()
    tiny_run("gpt", tmp_path / "whole", seed=5).train()
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def damaged_checkpoint(folder: Path) -> None:
    tiny_run("gpt", folder, steps=0).train()
    for path in (folder / "model.safetensors", folder / "summary.json", *saved_checkpoints(folder)[1:]):
        path.unlink()
    saved_checkpoints(folder)[0].write_bytes(b"damaged")


def set_aside(folder: Path) -> None:
    damaged_checkpoint(folder)
    (path := saved_checkpoints(folder)[0]).rename(path.with_name(f"{path.name}.damaged"))


def only_the_model(folder: Path) -> None:
    tiny_run("gpt", folder, steps=0).train()
    (folder / "summary.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    (folder / "metrics.jsonl").unlink()


def only_metrics(folder: Path) -> None:
    stop_at(run := tiny_run("gpt", folder), 6)
    run.train()
    for path in (folder / "checkpoints").iterdir():
        path.unlink()


def users_file(folder: Path) -> None:
    tiny_run("gpt", folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")


def foreign_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")


def no_json(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{", encoding="utf-8")


def test_counting_leaves_a_run_of_another_model_alone(tmp_path: Path) -> None:
    stop_at(run := tiny_run("gpt", tmp_path), 6)
    run.train()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds a run of another model, with checkpoints"):
        ngram(tmp_path, resume=True)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("lay", [damaged_checkpoint, set_aside, only_the_model, only_metrics, users_file, foreign_config, no_json])
@pytest.mark.parametrize("resume", [True, False])
def test_nothing_that_may_be_of_value_is_begun_again(lay: Callable[[Path], None], resume: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lay(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    assert not never_started(folder)
    with pytest.raises(CheckpointError, match="is damaged|holds no checkpoint|is not the config of" if resume else "holds a run already"):
        Run(tiny("gpt"), folder, TEXT, resume=resume)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_all_that_there_may_be_before_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"train": {}, "tokenizer": {}}', encoding="utf-8")
    for name in ("lock", "data.json", "metrics.jsonl", ".summary.json.x.partial"):
        assert never_started(tmp_path)
        (tmp_path / name).touch()
    for name in ("checkpoints", "tensorboard"):
        (tmp_path / name).mkdir()
        assert never_started(tmp_path)
    (tmp_path / "config.json").write_text('["train", "tokenizer"]', encoding="utf-8")
    assert not never_started(tmp_path)
    (tmp_path / "config.json").write_text('{"train": {}, "tokenizer": {}}', encoding="utf-8")
    (tmp_path / "notes.txt").touch()
    assert not never_started(tmp_path)


def test_a_run_that_another_process_has_just_begun_is_left_alone(tmp_path: Path) -> None:
    begun = tiny_run("gpt", tmp_path)
    for resume in (True, False):
        with pytest.raises(CheckpointError, match="in use by process"):
            tiny_run("gpt", tmp_path, resume)
    assert begun.train() is not None


def test_n_grams_that_were_counted_are_not_counted_again(tmp_path: Path) -> None:
    ngram(tmp_path / "whole").train()
    counted = tmp_path / "run"
    ngram(counted).train()
    with pytest.raises(CheckpointError, match="is finished"):
        ngram(counted, resume=True)
    (counted / "summary.json").unlink()  # as if it had been ended before its last file
    with pytest.raises(CheckpointError, match="holds a run already: continue it with resume=True"):
        ngram(counted)
    ngram(counted, resume=True).train()
    assert (counted / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
