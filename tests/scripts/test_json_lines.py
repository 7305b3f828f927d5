"""--json of score, evaluate, classify run and translate run: one JSON object per line, and nothing else, on the standard output."""

import json
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script, script_here

from tinylm.decode import score_text
from tinylm.train import load_run
from tinylm.train.tasks.token_losses import token_losses
from tinylm.train.tasks.translation import load_translator

OLD = Path(__file__).parents[1] / "old_runs"
TEXTS = ["the miller had a mill", "the fox"]


def lines_of(*arguments: object) -> list[dict[str, Any]]:
    """Returns the objects that a command prints; NaN and infinities are refused, as other programs do."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in ends_well(script_here(*arguments, "--json")).splitlines()]


def documented(command: str) -> set[str]:
    """Returns the fields that scripts/README.md lists for a command."""
    (row,) = re.findall(rf"^\| `{command}` \|(.*)\|$", (SCRIPTS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {name for name in re.findall(r"`([^`]+)`", row) if not name.startswith("--")}


def test_score() -> None:
    model, tokenizer, _ = load_run(OLD / "gpt")
    scores = [score_text(model, tokenizer, text) for text in TEXTS]
    plain = [
        {
            "text": text, "tokens": len(s.tokens), "unknown": 0, "bytes": len(text), "log_probability": s.log_probability,
            "perplexity": s.perplexity, "bits_per_byte": s.bits_per_byte,
        }
        for text, s in zip(TEXTS, scores, strict=True)
    ]  # fmt: skip
    assert lines_of("score.py", OLD / "gpt", *TEXTS, "--no-tokens") == plain
    found = lines_of("score.py", OLD / "gpt", *TEXTS)
    assert set(found[0]) == documented("score")
    assert [record.pop("token_texts") for record in found] == [s.tokens for s in scores]
    assert [record.pop("token_log_probabilities") for record in found] == [s.log_probabilities.tolist() for s in scores]
    assert found == plain


def test_an_error_comes_after_the_texts_before_it() -> None:
    result = script_here("score.py", OLD / "gpt", "the fox", "Ω", "--json", "--no-tokens")
    assert result.returncode == 2
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["the fox"]
    assert result.stderr.startswith("error: text 2: unknown character")


def test_evaluate(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes((OLD / "text.txt").read_bytes())
    runs = OLD / "gpt", OLD / "ngram"
    found = lines_of("evaluate.py", *runs, "--data", tmp_path / "text.txt")
    assert [record["model"] for record in found[:2]] == [str(run) for run in runs]
    assert found[2]["model"].startswith("mixed, ")
    assert sum(found[2]["weights"]) == pytest.approx(1)
    assert set(found[2]) == documented("evaluate") == {*found[0], "weights"}
    model, tokenizer, config = load_run(OLD / "gpt")
    assert config is not None
    ids = tokenizer.encode((OLD / "text.txt").read_text(encoding="utf-8"))
    losses = token_losses(model, ids[-found[0]["tokens"] - 1 :], "cpu")
    assert found[0]["nats_per_token"] == pytest.approx(losses.mean(), rel=1e-6)
    assert found[0]["standard_error"] == pytest.approx(losses.std() / np.sqrt(len(losses)), rel=1e-6)


def test_classify() -> None:
    texts = ["this soup was lovely", "the film was\tbad “é”"]
    shown = [line.split("\t", 2) for line in ends_well(script_here("classify.py", "run", OLD / "lstm-classifier", *texts)).splitlines()]
    found = lines_of("classify.py", "run", OLD / "lstm-classifier", *texts)
    assert [[r["label"], f"{r['probability']:.4f}", r["text"]] for r in found] == shown
    assert set(found[0]) == documented("classify run")
    for record in found:
        assert sum(record["probabilities"].values()) == pytest.approx(1)
        assert record["probabilities"][record["label"]] == record["probability"] == max(record["probabilities"].values())


def test_translate() -> None:
    texts = ["the old house sleeps", "the old house"]
    translator = load_translator(OLD / "translator")
    expected = [{"text": text, "translation": " ".join(translator.translate(text).split())} for text in texts]
    found = lines_of("translate.py", "run", OLD / "translator", *texts)
    assert {*found[0], *found[0]["n_best"][0]} == documented("translate run")
    assert [{name: record[name] for name in ("text", "translation")} for record in found] == expected


def test_lines_are_utf_8_in_any_terminal() -> None:
    """A real start, with a terminal that has no letters beyond ASCII."""
    text = "the soup was ä"
    result = script("classify.py", "run", OLD / "lstm-classifier", text, "--json", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "ä" in result.stdout
    assert json.loads(result.stdout)["text"] == text


def test_an_option_that_is_wrong_is_one_line_as_ever() -> None:
    fails_with_one_line(script_here("score.py", OLD / "gpt", "--json"), "give texts to score, or --file, and not both")


def test_notices_go_to_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        from support.json_lines import json_lines
    with json_lines() as write:
        assert write is not None
        print("a notice")
        write({"a": [1.5, float("nan")], "b": np.float32(np.inf), "c": np.arange(2), "d": "“\n\udcff"})
    with json_lines(False) as write:
        assert write is None
        print("as ever")
    captured = capsys.readouterr()
    assert captured.err == "a notice\n"
    first, second = captured.out.splitlines()
    assert json.loads(first) == {"a": [1.5, None], "b": None, "c": [0, 1], "d": "“\n\udcff"}  # half a pair stays an escape of JSON
    assert second == "as ever"
