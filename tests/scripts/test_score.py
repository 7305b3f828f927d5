"""scripts/score.py as a user runs it: the figures compared with the library's, and every error."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm.decode import Score, score_text
from tinylm.train import Counting, Run, default_config, load_run

TEXT = "the quick brown fox jumps over the lazy dog.\nsee [bold]the[/bold] :smile: sleeping, the dog doesn't: \\o/ é\n" * 20
MODELS = {"gpt": "char", "gru": "bpe", "ngram": "word"}  # and the tokenizer each is tested with


def trained(folder: Path, model: str, tokenizer: str, text: str) -> Path:
    config = dataclasses.replace(
        default_config(model), tokenizer=tokenizer, bpe_size=280, n_layer=1, n_embd=16, block_size=16, batch_size=8, order=3,
        steps=10, schedule_steps=10, warmup=2, lr=1e-2,
    )  # fmt: skip
    (Counting if model == "ngram" else Run)(config, folder, text).train()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    return {model: trained(parent / model, model, tokenizer, TEXT) for model, tokenizer in MODELS.items()}


NOTES = re.compile(r"\d+ of \d+ tokens are unknown words|each token is read after")  # what stands below the tables


def printed(*arguments: object) -> list[str]:
    return [line.strip() for line in ends_well(script_here("score.py", *arguments)).splitlines()]


def scored(*arguments: object) -> list[str]:
    """Returns the lines of the tables."""
    return [line for line in printed(*arguments) if not NOTES.match(line)]


def row(name: str, score: Score) -> list[str]:
    """Returns the row of the table of totals."""
    figures = f"{score.log_probability:.4f}", f"{score.perplexity:.4f}", f"{score.bits_per_byte:.4f}"
    return [*name.split(), str(len(score.tokens)), str(score.unknown), *figures]


def together(scores: list[Score]) -> Score:
    return Score(
        "", [token for s in scores for token in s.tokens], np.concatenate([s.log_probabilities for s in scores]),
        sum(s.unknown for s in scores), sum(s.bytes for s in scores), sum(s.spelling or 0.0 for s in scores),
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sentences", [False, True])
def test_the_figures_are_the_librarys(runs: dict[str, Path], model: str, sentences: bool) -> None:
    """Each token's probability, each text's totals, and those of all texts; also beyond the block size."""
    lm, tokenizer, _ = load_run(runs[model])
    texts = ["the fox jumps", "lazy dog. the quick brown fox jumps over the lazy dog.", "é"]
    scores = [score_text(lm, tokenizer, t, sentence=sentences) for t in texts]
    lines = scored(runs[model], *texts, *["--sentences"] * sentences)
    cells = [line.split() for line in lines if line]
    assert cells.count(["token", "log", "p", "p"]) == 3
    tokens = [(token, value) for s in scores for token, value in zip(s.tokens, s.log_probabilities.tolist(), strict=True)]
    rows = [[*repr(token).split(), f"{value:.4f}", f"{math.exp(value):.4f}"] for token, value in tokens]
    totals = [row(repr(t if len(t) <= 30 else t[:29] + "…"), s) for t, s in zip(texts, scores, strict=True)]
    totals.append(row("all 3", together(scores)))
    headings = [["token", "log", "p", "p"], ["text", "tokens", "unknown", "log", "p", "(nats)", "perplexity", "bits/byte"]]
    assert [c for c in cells if c not in headings] == rows + totals


def test_a_real_start_prints_the_same(runs: dict[str, Path]) -> None:
    shown = ends_well(script("score.py", runs["gpt"], "the fox"))
    assert shown == ends_well(script_here("score.py", runs["gpt"], "the fox"))
    plain = script("score.py", runs["gpt"], "é", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0
    assert "'\\xe9'" in plain.stdout


@pytest.mark.parametrize("model", MODELS)
def test_files(runs: dict[str, Path], model: str, tmp_path: Path) -> None:
    """As one text, or line by line; the tokens are not shown."""
    lm, tokenizer, _ = load_run(runs[model])
    content = "the fox\n\n  \nthe lazy dog\r\nthe quick fox"
    file = tmp_path / "texts.txt"
    file.write_bytes(content.encode())
    whole = content.replace("\r", "")
    expected = score_text(lm, tokenizer, whole)
    lines = scored(runs[model], "--file", file)
    assert len(lines) == 2
    assert lines[1].split()[-5:] == row("", expected)
    scores = [score_text(lm, tokenizer, t, sentence=True) for t in ("the fox", "the lazy dog", "the quick fox")]
    lines = scored(runs[model], "--file", file, "--sentences")
    rows = [row(repr(s.text), s) for s in scores]
    assert [line.split() for line in lines[1:]] == [rows[0], [], [], *rows[1:], row("all 3", together(scores))]  # a blank line for each


def test_options(runs: dict[str, Path]) -> None:
    lm, tokenizer, _ = load_run(runs["gpt"])
    assert len(scored(runs["gpt"], "the fox", "--no-tokens")) == 2
    long = "the fox " * 50
    assert scored(runs["gpt"], long, "--no-tokens", "--dry-run")[1].split()[-5:] == row("", score_text(lm, tokenizer, long[:100]))
    shown = ends_well(script_here("score.py", "--help"))
    for flag in ("--file", "--sentences", "--no-tokens", "--dry-run"):
        assert flag in shown


def test_texts_are_shown_as_they_are(runs: dict[str, Path]) -> None:
    """Nothing in them is interpreted as markup or as the name of an emoji."""
    text = "[bold]the[/bold] :smile: \\o/"
    lines = scored(runs["gpt"], text)
    assert lines[-1].startswith(repr(text))
    assert [line.split()[0] for line in lines[1:7]] == ["'['", "'b'", "'o'", "'l'", "'d'", "']'"]


def test_unknown_words_are_counted(runs: dict[str, Path]) -> None:
    lines = scored(runs["ngram"], "the zebra jumps")
    assert "'<unk>'" in [line.split()[0] for line in lines if line]
    assert lines[-1].split()[-5:-3] == ["3", "1"]
    lm, tokenizer, _ = load_run(runs["ngram"])
    score = score_text(lm, tokenizer, "the zebra jumps")
    assert score.spelling is not None
    assert lines[-1].split()[-1] == f"{(score.spelling - score.log_probability) / math.log(2) / 15:.4f}", "zebra is spelt"
    note = printed(runs["ngram"], "the zebra jumps")[-1]
    assert note.startswith("1 of 3 tokens are unknown words")
    assert f"{score.spelling / 3:.4f} nats/token" in note


def test_why_a_score_is_not_the_loss_of_a_validation(runs: dict[str, Path]) -> None:
    why = "each token is read after at least 8 others where the text has them; validations (train, evaluate) read blocks of 16 tokens"
    assert printed(runs["gpt"], "the fox " * 3)[-1].startswith(why)
    for name, text in (("gpt", "the fox"), ("gru", "the fox " * 30), ("ngram", "the fox " * 30)):  # they are the same
        assert not any("validations" in line for line in printed(runs[name], text))


def test_bad_input_is_one_line_and_status_2(runs: dict[str, Path], tmp_path: Path) -> None:
    files = {"empty": b"", "blank": b" \n\n", "latin": "é".encode("latin-1"), "zero": b"a\0b", "foreign": "the fox\n\nthe ßox\n".encode()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for arguments, message in [
        ([], "give texts to score, or --file, and not both"),
        (["the", "--file", tmp_path / "foreign"], "give texts to score, or --file, and not both"),
        ([""], "text 1: there is no text to score"),
        (["the", "ß"], "text 2: unknown character 'ß' at position 0: the model knows"),
        (["--file", tmp_path / "foreign"], "foreign: unknown character 'ß' at position 13"),
        (["--file", tmp_path / "foreign", "--sentences"], "foreign, line 3: unknown character 'ß' at position 4"),
        (["--file", tmp_path / "empty"], "empty is empty"),
        (["--file", tmp_path / "empty", "--sentences"], "empty is empty"),
        (["--file", tmp_path / "blank", "--sentences"], "blank is empty"),
        (["--file", tmp_path / "latin"], "latin is not UTF-8 text"),
        (["--file", tmp_path / "zero"], "zero is not text: a zero byte at position 1"),
        (["--file", tmp_path / "none"], "none: No such file or directory"),
        (["--file", tmp_path], "is a folder, expected a text file"),
        (["the", "--device", "tpu"], "unknown device 'tpu'"),
        (["the", "--magic"], "Unrecognized options: --magic"),
    ]:
        fails_with_one_line(script_here("score.py", runs["gpt"], *arguments), message)
    undecodable = b"\xff".decode("utf-8", "surrogateescape")  # as it comes from a terminal
    for run in (runs["ngram"], runs["gru"]):
        fails_with_one_line(script_here("score.py", run, undecodable), "text 1: '\\udcff' at position 0 is no character")
    fails_with_one_line(script_here("score.py", tmp_path / "none", "the"), "no run folder")
    fails_with_one_line(script_here("score.py", tmp_path, "the"), "config.json: No such file or directory")


def test_run_folders_that_do_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    single = trained(tmp_path / "single", "ngram", "char", "one line only " * 20)
    fails_with_one_line(script_here("score.py", single, "one", "--sentences"), "has never seen a line break")
    assert scored(single, "one")[-1].split()[1:3] == ["2", "0"]  # the first character is not scored
    assert scored(single, "o")[-1].split()[1:] == ["0", "0", "0.0000", "nan", "nan"]
    for described, held in (("gpt", "gru"), ("gru", "ngram"), ("ngram", "gpt")):
        mixed = tmp_path / described
        mixed.mkdir()
        (mixed / "config.json").write_bytes((runs[described] / "config.json").read_bytes())
        (mixed / "model.safetensors").write_bytes((runs[held] / "model.safetensors").read_bytes())
        message = f"{mixed}/model.safetensors does not hold the model that config.json describes: the state does not fit"
        fails_with_one_line(script_here("score.py", mixed, "the"), message)
    (mixed / "model.safetensors").write_bytes(b"not safetensors")
    fails_with_one_line(script_here("score.py", mixed, "the"), "model.safetensors is damaged")
