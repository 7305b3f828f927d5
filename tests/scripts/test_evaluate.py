"""scripts/evaluate.py as a user runs it."""

import dataclasses
from pathlib import Path

import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm.data import split_text
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.studies.mixing import mix
from tinylm.train import Counting, Run, default_config, load_run
from tinylm.train.tasks.token_losses import token_losses

TEXT = "the quick brown fox jumps over the lazy dog.\nsee the dog sleep, and the fox run away again.\n" * 30
SMALL = {
    "n_layer": 1, "n_embd": 16, "block_size": 16, "batch_size": 4, "order": 4, "steps": 10, "schedule_steps": 10, "warmup": 2, "lr": 1e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "foxes.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    for model in ("gru", "gpt", "ngram"):
        config = dataclasses.replace(default_config(model), data=str(corpus), **SMALL)  # type: ignore[arg-type]
        (Counting if model == "ngram" else Run)(config, parent / model, TEXT).train()
    config = dataclasses.replace(default_config("ngram"), data=str(corpus), tokenizer="word", order=2)
    Counting(config, parent / "words", TEXT).train()
    return {name: parent / name for name in ("gru", "gpt", "ngram", "words")}


def figures(*arguments: object) -> list[float]:
    lines = ends_well(script_here("evaluate.py", *arguments)).splitlines()
    return [float(line.split()[-2]) for line in lines if line.strip()[-1:].isdigit()]


def test_losses_and_their_mixture(runs: dict[str, Path]) -> None:
    names = ["gru", "gpt", "ngram"]
    losses = []
    for name in names:
        model, tokenizer, _ = load_run(runs[name])
        losses.append(token_losses(model, tokenizer.encode(split_text(TEXT)[1])))
    expected = [x.mean() for x in (*losses, mix(losses)[0])]
    assert figures(*(runs[name] for name in names)) == pytest.approx(expected, abs=6e-5)


def test_dynamic_evaluation(runs: dict[str, Path]) -> None:
    model, tokenizer, _ = load_run(runs["gru"])
    ids = tokenizer.encode(split_text(TEXT)[1])
    ngram = token_losses(load_run(runs["ngram"])[0], ids)
    learning = dynamic_losses(model, ids, 0.2)
    expected = [ngram.mean(), learning.mean(), mix([ngram, learning])[0].mean()]
    assert figures(runs["ngram"], runs["gru"], "--dynamic", 0.2) == pytest.approx(expected, abs=6e-5)


def test_help_and_dry_run(runs: dict[str, Path]) -> None:
    assert "--dynamic" in ends_well(script_here("evaluate.py", "--help"))
    assert "nats/token" in ends_well(script("evaluate.py", runs["gpt"], "--dry-run"))


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    fails_with_one_line(script_here("evaluate.py", tmp_path / "none"), "no run folder")
    fails_with_one_line(script_here("evaluate.py", runs["gru"], runs["words"]), "only models of the same tokens can be mixed")
    fails_with_one_line(script_here("evaluate.py", runs["gru"], "--dynamic", "-1"), "expected more than 0")
    fails_with_one_line(script_here("evaluate.py"), "at least one")
    fails_with_one_line(script_here("evaluate.py", runs["gru"], "--data", tmp_path / "no.txt"), "no.txt")
