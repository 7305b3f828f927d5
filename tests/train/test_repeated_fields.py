"""Which numbers of a run are repeated to the last bit, and which are measured: as tinylm/train/README.md lists them."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_runs import stop_at, tiny_classifier, tiny_run

from tinylm.files.json_files import read_json
from tinylm.train import Counting, default_config
from tinylm.train.loop import Training
from tinylm.train.tasks.language_model_config import corpus_of
from tinylm.train.tasks.own_test import with_test

README = Path(__file__).resolve().parents[2] / "tinylm" / "train" / "README.md"
Make = Callable[..., Training]


def listed(title: str) -> set[str]:
    """Returns the names in an item of the README's list."""
    item = re.search(rf"^- \*\*{title}\*\*(.*?)(?=^- |^$)", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert item is not None
    return {name for name in re.findall(r"`([^`]+)`", item[1]) if "." not in name}


EXACT, MEASURED = listed("Repeated to the last bit"), listed("Measured, different each time")


def written(folder: Path) -> list[dict[str, Any]]:
    """Returns the records of metrics.jsonl and the summary."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [*map(json.loads, lines), read_json(folder / "summary.json")]


def exact(records: list[dict[str, Any]]) -> str:
    """Returns the fields that are repeated, as text: NaN equals NaN, and every digit counts."""
    return json.dumps([{name: value for name, value in record.items() if name in EXACT} for record in records])


def language_model(folder: Path, resume: bool = False) -> Training:
    return tiny_run("gpt", folder, resume)


def translator(folder: Path, resume: bool = False) -> Training:
    return tiny_run("translator", folder, resume)


@pytest.mark.parametrize("make", [language_model, translator, tiny_classifier])
def test_every_field_is_repeated_or_measured(make: Make, tmp_path: Path) -> None:
    """By a second run, and by one that is stopped and resumed."""
    for name in ("first", "second"):
        make(tmp_path / name).train()
    stop_at(parts := make(tmp_path / "parts"), 5)
    assert parts.train() is None
    make(tmp_path / "parts", resume=True).train()
    first, *others = [written(tmp_path / name) for name in ("first", "second", "parts")]
    names = {name for record in first for name in record}
    assert names <= EXACT | MEASURED
    assert names & MEASURED
    assert not EXACT & MEASURED
    for other in others:
        assert [set(record) for record in other] == [set(record) for record in first]
        assert exact(other) == exact(first)
    for file in ("model.safetensors", "config.json"):
        assert len({(tmp_path / name / file).read_bytes() for name in ("first", "second", "parts")}) == 1


def test_nothing_is_listed_that_no_run_writes(tmp_path: Path) -> None:
    tiny_run("gpt", tmp_path / "language_model", sample_every=8).train()
    tiny_classifier(tmp_path / "classifier").train()
    (tmp_path / "words.txt").write_text("the fox jumps\n" * 60 + "the owl <unk> jumps\n", encoding="utf-8")
    text = str(tmp_path / "words.txt")
    (tmp_path / "test.txt").write_text("the fox sleeps\n" * 9, encoding="utf-8")
    config = dataclasses.replace(default_config("ngram"), order=2, tokenizer="whitespace", data=text, test=str(tmp_path / "test.txt"))
    corpus = corpus_of(config)
    run = Counting(config, tmp_path / "words", corpus)
    with_test(tmp_path / "words", run.train(), run.model, run.task.tokenizer, corpus, config)
    names = {name for folder in tmp_path.iterdir() if folder.is_dir() for record in written(folder) for name in record}
    assert names == EXACT | MEASURED
