"""A run goes on with the data it was trained on: what changed is named, and that it was accepted is noted."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from old_runs.measure import RUNS
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.data import open_corpus
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import load_pairs
from tinylm.errors import CheckpointError, DataError
from tinylm.files.json_files import read_json, write_json
from tinylm.train import Run, default_config
from tinylm.train.replay import task_with_batch
from tinylm.train.tasks.classifier_config import default_config as classifier_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.data_note import check_data, data_note, keep_note, what_changed

LINES = [f"{i}: the quick brown fox jumps over the lazy dog\n" for i in range(60)]
SMALL = ["--n-layer", 1, "--n-embd", 16, "--log-every", 1, "--warmup", 1]
GPT = [*SMALL, "--block-size", 16, "--batch-size", 4]
TRANSLATOR = [*SMALL, "--n-hidden", 16, "--bpe-size", 300, "--batch-tokens", 256]
TASKS = {"train": ["train.py", *GPT], "classify": ["classify.py", "train"], "translate": ["translate.py", "train", *TRANSLATOR]}
TEXTS = {
    "train": LINES,
    "classify": [f"{('no', 'yes')[i % 2]}\tthis is text {i}\n" for i in range(40)],
    "translate": [f"one cat {i}\tun gato {i}\n" for i in range(40)],
}


def swapped(line: str) -> str:
    return line.replace("no\t", "?\t").replace("yes\t", "no\t").replace("?\t", "yes\t")


CHANGES: dict[str, list[tuple[Callable[[list[str]], list[str]], str]]] = {
    "train": [(lambda t: t[::-1], "data.txt changed"), (lambda t: t[:-1], "data.txt changed")],
    "classify": [
        (lambda t: t[::-1], "texts changed; labels changed"),
        (lambda t: [swapped(line) for line in t], ": labels changed;"),
    ],
    "translate": [
        (lambda t: t[::-1], "training pairs changed; validation pairs changed"),
        (lambda t: t[:-1], "training pairs changed"),
    ],
}


@pytest.mark.parametrize("task", TASKS)
def test_other_data_are_refused_or_noted(task: str, tmp_path: Path) -> None:
    script, *settings = TASKS[task]
    data, run = tmp_path / "data.txt", tmp_path / "run"
    data.write_text("".join(TEXTS[task]), encoding="utf-8")
    steps = [] if task == "classify" else ["--steps", 1]
    more = ["--resume", run] if task == "classify" else ["--resume", run, "--steps", 2]
    verb = [s for s in settings if s == "train"]
    ends_well(script_here(script, *settings, "--data", data, "--out", run, *steps))
    noted = read_json(run / "data.json")
    for change, message in CHANGES[task]:
        data.write_text("".join(change(TEXTS[task])), encoding="utf-8")
        result = script_here(script, *verb, *more)
        fails_with_one_line(result, message)
        assert "--accept-new-data goes on with it" in result.stderr
        assert f"is not what the run in {run} was trained on" in result.stderr
    assert read_json(run / "data.json") == noted
    data.write_text("".join(CHANGES[task][0][0](TEXTS[task])), encoding="utf-8")
    ends_well(script_here(script, *verb, *more, "--accept-new-data"))
    now = read_json(run / "data.json")
    (before,) = now["changes"]
    assert before["digests"] == noted["digests"] != now["digests"]
    assert before["until_step"] >= 1
    ends_well(script_here(script, *verb, *more))  # these are its data now
    assert read_json(run / "data.json") == now


def test_a_new_run_takes_any_data() -> None:
    for script, *settings in TASKS.values():
        fails_with_one_line(script_here(script, *settings, "--accept-new-data"), "--accept-new-data needs --resume")


def test_a_folder_names_the_files_that_changed(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text("".join(name + line for line in LINES), encoding="utf-8")
    config = dataclasses.replace(default_config("gpt"), steps=1, n_layer=1, n_embd=16, batch_size=4, data=str(folder))
    Run(config, tmp_path / "run", open_corpus(folder)).train()
    moved = folder.rename(tmp_path / "moved")
    assert what_changed(tmp_path / "run", open_corpus(moved).to_json()) == ""
    (moved / "a.txt").write_text("".join(LINES), encoding="utf-8")
    (moved / "b.txt").rename(moved / "d.txt")
    with pytest.raises(DataError, match=r"b\.txt is gone; d\.txt is new; a\.txt changed; accept_new_data=True goes on"):
        Run(config, tmp_path / "run", open_corpus(moved), resume=True)
    note = data_note(open_corpus(moved), "")
    assert what_changed(tmp_path / "run", {**read_json(tmp_path / "run" / "data.json"), "validation_files": []}).endswith(
        "the split into a training and a validation part changed"
    )
    Run(config, tmp_path / "run", open_corpus(moved), resume=True, accept_new_data=True)
    assert read_json(tmp_path / "run" / "data.json")["digests"] == note["digests"]


def test_long_names_are_cut_and_those_that_changed_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / ("r" * 200) / ("s" * 200)
    folder.mkdir(parents=True)
    names = ["a.txt", "d" * 200 + "/b.txt", "c.txt"]
    note = {"source": "/x" * 500 + "/texts", "digests": dict.fromkeys(names, "0")}
    keep_note(folder, note, 0)
    with pytest.raises(DataError) as caught:
        check_data(folder, {**note, "digests": dict.fromkeys(names, "1")}, False)
    said = str(caught.value)
    assert len(said) <= 480
    assert "/texts' is not what the run in " in said
    assert "ssss was trained on: a.txt changed; d" in said
    assert "accept_new_data=True goes on with it" in said
    assert re.search(r"b\.txt changed; (c\.txt changed|and 1 more)", said)


def test_a_text_in_code_and_its_order(tmp_path: Path) -> None:
    text = "".join(LINES)
    config = dataclasses.replace(default_config("gpt"), steps=1, n_layer=1, n_embd=16, batch_size=4)
    Run(config, tmp_path / "run", text).train()
    with pytest.raises(DataError, match="'the text' is not what the run"):
        Run(config, tmp_path / "run", text[::-1], resume=True)
    Run(config, tmp_path / "run", text, resume=True)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    Run(config, tmp_path / "run", open_corpus(tmp_path / "a.txt"), resume=True)  # the same text from a file


def test_labels_and_pairs_in_their_order(tmp_path: Path) -> None:
    def digests(load: Any, lines: list[str]) -> list[str]:
        path = tmp_path / "data.tsv"
        path.write_text("".join(lines), encoding="utf-8")
        return list(data_note(load(path), "x")["digests"].values())

    for load, lines in ((load_labelled, TEXTS["classify"]), (load_pairs, TEXTS["translate"])):
        same = digests(load, lines)
        assert digests(load, lines) == same
        for other in (lines[::-1], lines[1:], [*lines[:2], *lines]):
            assert all(a != b for a, b in zip(digests(load, other), same, strict=True) if load is load_labelled)
            assert digests(load, other) != same


@pytest.mark.parametrize("name", ["gpt", "bag-classifier", "translator"])
def test_old_runs_go_on_and_note_their_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of classifiers and translators have no data.json, the first language models neither."""
    folder = tmp_path / "old"
    shutil.copytree(RUNS, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(folder)
    (folder / name / "data.json").unlink(missing_ok=True)
    script = {"gpt": ["train.py"], "bag-classifier": ["classify.py", "train"], "translator": ["translate.py", "train"]}[name]
    ends_well(script_here(*script, "--resume", name))
    note = read_json(folder / name / "data.json")
    assert note["digests"]
    assert note["noted_at_step"] > 0
    for file in ("text.txt", "labelled.txt", "pairs.txt"):
        (folder / file).write_text("\n".join((folder / file).read_text(encoding="utf-8").splitlines()[::-1]), encoding="utf-8")
    fails_with_one_line(script_here(*script, "--resume", name), "is not what the run in")


def test_a_damaged_note(tmp_path: Path) -> None:
    note = data_note("abc", "x")
    for damaged in ([], {"digests": 3}, {"digests": {}, "changes": 1}):
        write_json(tmp_path / "data.json", damaged)
        with pytest.raises(CheckpointError, match=r"data\.json is damaged"):
            what_changed(tmp_path, note)
    (tmp_path / "data.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"data\.json is damaged: .*; without this file a run goes on with any data$"):
        check_data(tmp_path, note, False)
    write_json(tmp_path / "data.json", {"source": "old"})
    assert what_changed(tmp_path, note) == ""
    keep_note(tmp_path, note, 3)
    assert read_json(tmp_path / "data.json") == {**note, "noted_at_step": 3}


def test_the_data_of_an_evaluation_have_changed(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("".join(LINES), encoding="utf-8")
    ends_well(script_here("train.py", "--model", "ngram", "--order", 2, "--data", data, "--out", tmp_path / "run"))
    ends_well(script_here("evaluate.py", tmp_path / "run"))
    data.write_text("".join(LINES[::-1]), encoding="utf-8")
    shown = script_here("evaluate.py", tmp_path / "run")
    assert shown.returncode == 0
    assert shown.stderr.startswith(f"warning: {str(data)!r} is not what the run in {tmp_path / 'run'} was trained on")
    assert shown.stderr.count("\n") == 1
    ends_well(script_here("evaluate.py", tmp_path / "run", "--data", data))  # it was asked for
    shown = script_here("long_range.py", "context", tmp_path / "run", "--dry-run")
    assert "warning: " in shown.stderr


def test_a_failed_step_of_a_classifier_needs_its_texts(tmp_path: Path) -> None:
    data = tmp_path / "data.tsv"
    data.write_text("".join(TEXTS["classify"]), encoding="utf-8")
    config = dataclasses.replace(classifier_config("bag"), data=str(data))
    ClassifierRun(config, load_labelled(data), tmp_path / "run")
    assert task_with_batch(tmp_path / "run", {}, True)
    data.write_text("".join(TEXTS["classify"][::-1]), encoding="utf-8")
    with pytest.raises(DataError, match=r"the failed step cannot be repeated: .*texts changed"):
        task_with_batch(tmp_path / "run", {}, True)
