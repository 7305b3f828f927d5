"""scripts/evaluate.py as a user runs it."""

import dataclasses
import math
from pathlib import Path

import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm.data import WordTokenizer, split_text
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.studies.mixing import mix
from tinylm.train import Counting, Run, default_config, load_run
from tinylm.train.tasks.fine_tuning import fine_tuning_config
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


def test_the_figures_that_compare(runs: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    """Nats per byte and perplexity beside nats per token, how many tokens are unknown, and why `score` says something else."""
    val = split_text(TEXT)[1]
    _, _, table, *notes = ends_well(script_here("evaluate.py", runs["gpt"])).splitlines()
    per_byte, perplexity, per_token, _ = map(float, table.split()[-4:])
    assert per_byte == per_token, "a character is a byte here"
    assert perplexity == pytest.approx(math.exp(per_token), abs=6e-3)
    assert notes[0] == f"over {len(val) - 1} tokens"
    assert "read in blocks of 16 tokens that do not overlap; 'score' reads windows that do" in notes[1]
    other = tmp_path / "owls.txt"
    other.write_text("the owl jumps over the lazy zebra.\n" * 20, encoding="utf-8")
    _, _, table, *notes = ends_well(script_here("evaluate.py", runs["words"], "--data", other)).splitlines()
    model, tokenizer, _ = load_run(runs["words"])
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.spelling is not None
    val = split_text(other.read_text(encoding="utf-8"))[1]
    lacking = [word for word in tokenizer.pieces(val)[1:] if word not in tokenizer.words]
    assert {" owl", " zebra"} <= set(lacking)
    nats = token_losses(model, tokenizer.encode(val)).sum() - tokenizer.spelling.log_probabilities(lacking).sum()
    assert float(table.split()[-4]) == pytest.approx(nats / (len(val) - tokenizer.first_bytes(val)), abs=6e-5)
    assert notes[1].startswith(f"{len(lacking)} of {len(tokenizer.pieces(val)) - 1} tokens are unknown words")
    assert len(notes) == 2, "an n-gram model has one loss of a text"


def test_a_run_and_its_evaluation_agree(runs: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    """Also where a model that goes on from another is validated in shorter blocks than it could read."""
    config = dataclasses.replace(fine_tuning_config(str(runs["gpt"]), adapters=False), **SMALL, data=str(corpus))
    settings = {"block_size": 8, "steps": 2, "schedule_steps": 2, "eval_tokens": 100, "n_embd": 16}
    summary = Run(dataclasses.replace(config, **settings), tmp_path / "run", TEXT).train()
    assert summary is not None
    out = ends_well(script_here("evaluate.py", tmp_path / "run"))
    assert "read in blocks of 8 tokens" in out
    assert "a validation of the run itself reads the first 100 tokens at most (eval_tokens)" in out
    whole = dataclasses.replace(config, **{**settings, "eval_tokens": 0})
    summary = Run(whole, tmp_path / "whole", TEXT).train()
    assert summary is not None
    found = ends_well(script_here("evaluate.py", tmp_path / "whole")).splitlines()[2].split()
    assert found[-2] == f"{summary['val_loss']:.4f}"
    assert found[-4] == f"{summary['val_nats_per_byte']:.4f}"
