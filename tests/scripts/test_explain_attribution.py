"""scripts/explain.py attribute, heads, loss and probe as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
from explain_runs import PNG, SENTENCE, TEXT, language_models, rows
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm import explain
from tinylm.train import load_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return language_models(tmp_path_factory.mktemp("runs"))


def record(*arguments: object) -> dict:
    """Returns what the script prints with --json: one object and nothing else."""
    (line,) = ends_well(script_here("explain.py", *arguments, "--json")).splitlines()
    return json.loads(line)


def test_attribute(runs: dict[str, Path], tmp_path: Path) -> None:
    options = ("--position", 7, "--token", "y", "--against", "x", "--out", tmp_path / "a.png")
    shown = ends_well(script_here("explain.py", "attribute", runs["gpt"], SENTENCE, *options))
    assert shown.startswith("the logit of 'y' minus that of 'x' at position 7, after 'y'\n")
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    token, against = tokenizer.encode("yx").tolist()
    direct = explain.direct_attribution(model, ids, position=7, token=token, against=against)  # type: ignore[arg-type]
    assert f"sum {direct.sum:+.4f}, logit {direct.logit:+.4f}, remainder" in shown
    largest = max(direct.terms, key=lambda name: abs(direct.terms[name]))
    assert f"{largest}" in shown.split("written by")[1].splitlines()[1]
    found = record("attribute", runs["gpt"], SENTENCE, *options)
    assert found["direct"]["terms"] == pytest.approx(dict(direct.terms))
    (part,) = found["inputs"]["parts"]
    assert part["tokens"] == list(SENTENCE)
    assert sum(part["integrated"]) == pytest.approx(found["inputs"]["score"] - found["inputs"]["baseline"], rel=1e-2)
    assert abs(found["completeness_error"]) < 1e-2
    assert abs(found["remainder"]) < 1e-4
    assert part["integrated"][8:] == [0] * (len(SENTENCE) - 8)
    for name in ("a-tokens.png", "a-parts.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_attribute_of_a_recurrent_model(runs: dict[str, Path]) -> None:
    shown = ends_well(script_here("explain.py", "attribute", runs["lstm"], SENTENCE))
    assert "RNNModel has no stream that is the sum of what its parts wrote" in shown
    assert "completeness error" in shown
    assert (runs["lstm"] / "attribute-tokens.png").read_bytes().startswith(PNG)


def test_heads(runs: dict[str, Path]) -> None:
    shown = rows("heads", runs["gpt"])
    model, tokenizer, _ = load_run(runs["gpt"])
    found = explain.head_scores(model)  # type: ignore[arg-type]
    assert shown[0] == ["layer", "head", "previous", "first", "duplicate", "induction"]
    assert shown[1][:3] == ["0", "0", f"{found.scores['previous'][0]:.2f}"]
    assert (runs["gpt"] / "heads.png").read_bytes().startswith(PNG)
    given = record("heads", runs["gpt"], SENTENCE)
    expected = explain.head_scores(model, tokenizer.encode(SENTENCE))  # type: ignore[arg-type]
    np.testing.assert_allclose(given["heads"]["scores"]["duplicate"], expected.scores["duplicate"])
    assert given["heads"]["first_loss"] is None
    assert given["does"] == expected.marks()
    assert given["verdict"] is None


def test_loss_agrees_with_score(runs: dict[str, Path]) -> None:
    text = TEXT[:60]
    found = record("loss", runs["gpt"], text, "--ngram", runs["ngram"])
    scored = rows_of_score(runs["gpt"], text)
    assert [f"{-loss:.4f}" for loss in found["losses"]] == scored
    assert [f"{-loss:.4f}" for loss in found["ngram"]] == rows_of_score(runs["ngram"], text)
    shown = ends_well(script_here("explain.py", "loss", runs["gpt"], text, "--ngram", runs["ngram"]))
    assert f"mean loss {np.mean(found['losses']):.4f} nats over 60 tokens; of the n-gram model {np.mean(found['ngram']):.4f}" in shown
    assert (runs["gpt"] / "loss.png").read_bytes().startswith(PNG)


def rows_of_score(run: Path, text: str) -> list[str]:
    """Returns the log-probabilities that scripts/score.py prints, one per token."""
    lines = ends_well(script_here("score.py", run, text)).splitlines()
    return [line.split()[-2] for line in lines[1 : 1 + len(text)]]


def test_probe(runs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    shown = rows("probe", runs["gpt"], "--data", file, "--label", "previous", "--tokens", 480, "--out", tmp_path / "p.png")
    model, tokenizer, _ = load_run(runs["gpt"])
    found = explain.probe(model, tokenizer, TEXT[:480], labels="previous")  # type: ignore[arg-type]
    assert shown[1] == ["embed", f"{found.accuracy[0]:.3f}", f"{found.control[0]:.3f}", f"{found.selectivity[0]:+.3f}"]
    assert [line[0] for line in shown[1:4]] == ["embed", "h.0.resid_post", "h.1.resid_post"]
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
    given = record("probe", runs["lstm"], TEXT, "--name", "rnn.1.h")
    assert given["probe"]["names"] == ["rnn.1.h"]
    assert len(given["selectivity"]) == 1


def test_dry_runs_write_nothing(runs: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")}
    assert "at position 19" in ends_well(script_here("explain.py", "attribute", runs["gpt"], TEXT[:200], "--dry-run"))
    for arguments in (("heads", runs["gpt"]), ("loss", runs["gpt"], TEXT), ("probe", runs["gpt"], TEXT)):
        ends_well(script_here("explain.py", *arguments, "--dry-run"))
    assert {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")} == before


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("explain.py", *arguments), message)

    gpt, lstm, ngram = runs["gpt"], runs["lstm"], runs["ngram"]
    fails("position is 12: expected 0 to 11", "attribute", gpt, SENTENCE, "--position", 12)
    fails("the token 'th' is 2 tokens: expected one", "attribute", gpt, SENTENCE, "--token", "th")
    fails("unknown character '&'", "attribute", gpt, SENTENCE, "--against", "&")
    fails("against is 't', the token that is explained", "attribute", gpt, SENTENCE, "--token", "t", "--against", "t")
    fails("an n-gram model counts", "attribute", ngram, SENTENCE)
    fails("RNNModel has no heads that look back", "heads", lstm)
    fails("an n-gram model counts: it has no heads", "heads", ngram)
    fails("is a GPT: expected an n-gram model", "loss", lstm, SENTENCE, "--ngram", gpt)
    fails("there is no text to score", "loss", gpt, "")
    fails("no such data: 'nothing.txt'", "probe", gpt, "--data", "nothing.txt")
    fails("give a text or --data, and not both", "probe", gpt, TEXT, "--data", tmp_path)
    fails("label 'size': expected one of word-position", "probe", gpt, TEXT, "--label", "size")
    fails("target 'x': only a language model is asked here, which has no target", "loss", gpt, TEXT, "--target", "x")
    fails("label 'x': only a language model is asked here, which has no label", "heads", gpt, "--label", "x")
    fails("tokens is 0: expected at least 1", "probe", gpt, TEXT, "--tokens", 0)
    fails("an n-gram model counts: it has no activations", "probe", ngram, TEXT)
