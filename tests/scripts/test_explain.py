"""scripts/explain.py as a user runs it on language models."""

from pathlib import Path

import numpy as np
import pytest
from explain_runs import PNG, SENTENCE, TEXT, language_models, rows
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm import Tensor, explain
from tinylm.train import load_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return language_models(tmp_path_factory.mktemp("runs"))


# ---------------------------------------------------------------- backward


def test_the_steps(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = rows("backward", runs["gpt"], SENTENCE, "--page", page)
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    loss, _ = model.loss(Tensor(ids[None, :-1]), Tensor(ids[None, 1:]))  # type: ignore[union-attr]
    steps = list(explain.steps(loss, model=model))  # type: ignore[arg-type]
    assert shown[0] == ["written:", str(page)]
    said = (
        f"GPT: loss {loss.item():.4f} nats per token over 11 tokens, for the text {SENTENCE!r}. Its backward pass takes {len(steps)} steps."
    )
    assert " ".join(shown[1]) == said
    numbered = {cells[0]: cells[1] for cells in shown[3:] if cells[0].isdigit()}
    assert numbered == {str(step.number): step.op for step in steps}
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "transformer.h.1.attn" in text


def test_why_a_gradient_is_what_it_is(runs: dict[str, Path]) -> None:
    """The norms of a tied weight's two contributions and of their sum equal those of backward."""
    shown = ends_well(script_here("explain.py", "backward", runs["gpt"], SENTENCE, "--parameter", "lm_head.weight"))
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    model.loss(Tensor(ids[None, :-1]), Tensor(ids[None, 1:]))[0].backward()  # type: ignore[union-attr]
    grad = model.lm_head.weight.grad  # type: ignore[union-attr]
    assert f"the gradient of transformer.wte.weight = lm_head.weight: {grad.shape}" in shown
    assert f"|g| {np.linalg.norm(grad.astype(float)):.4g}" in shown.splitlines()[1]
    assert "the sum of 2 contributions" in shown
    for text in ("linear", "embedding", "dweight[v] = Σ dy over the positions", "what came in there is from step 1 (cross_entropy)"):
        assert text in shown, text


def test_one_step(runs: dict[str, Path]) -> None:
    shown = ends_well(script_here("explain.py", "backward", runs["lstm"], SENTENCE, "--step", 4))
    for text in ("4  lstm", "in rnn", "Hochreiter", "|d weight_hh|"):
        assert text in shown, text
    lines = [line.strip("│ ").split() for line in shown.splitlines()]
    assert ["weight_ih", "(64,", "16)", "norm"] in [line[:4] for line in lines]
    assert [line[1].strip("'") for line in lines if line and line[0].isdigit()][:3] == list(SENTENCE)[:3]
    assert len([line for line in lines if line and line[0].isdigit()]) == 2 * 11, "the values and the gradients of each time step"


# ---------------------------------------------------------------- attention


def test_which_earlier_words_a_head_looks_at(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows("attention", runs["gpt"], SENTENCE, "--layer", 1, "--head", 0, "--words", "--out", tmp_path / "a.png")
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    layers = explain.attention_weights(model, Tensor(ids[None]))  # type: ignore[operator,arg-type]
    weights, words, _ = explain.by_word(layers[1].weights[0, 0], list(SENTENCE))
    assert words == ["the ", "lazy ", "dog"]
    assert shown[1] == ["0", "'the", "'", "1.00"]
    assert shown[2] == ["1", "'lazy", "'", f"{weights[1, 1]:.2f}", "'the", "'", "1", "back:", f"{weights[1, 0]:.2f}"]
    looks = [f"'{words[s]}' {2 - s} back: {weights[2, s]:.2f}" for s in sorted((0, 1), key=lambda s: -weights[2, s])]
    assert shown[3] == ["2", "'dog'", f"{weights[2, 2]:.2f}", *",  ".join(looks).split()]
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_all_heads(runs: dict[str, Path]) -> None:
    shown = rows("attention", runs["gpt"], SENTENCE)
    assert [cells[:3] for cells in shown[1:5]] == [[str(i), str(j), f"h.{i}.attn"] for i in (0, 1) for j in (0, 1)]
    for cells in shown[1:5]:
        assert 0 < float(cells[3]) < 11
        assert 0 < float(cells[4]) < 1
    assert (runs["gpt"] / "attention.png").read_bytes().startswith(PNG)


# ---------------------------------------------------------------- the live page


def test_the_page(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = ends_well(script_here("explain.py", "page", runs["lstm"], SENTENCE, "--out", tmp_path / "inside.html"))
    assert shown.splitlines() == [f"written: {tmp_path / 'inside.html'}, 0.2 MB", "the page computes whatever text is typed into it"]
    text = (tmp_path / "inside.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert str(runs["lstm"]) not in text


# ---------------------------------------------------------------- gates and report


def test_the_gates(runs: dict[str, Path]) -> None:
    shown = rows("gates", runs["lstm"], SENTENCE)
    names = ["input", "forget", "candidate", "output", "c", "h"]
    assert [cells[:2] for cells in shown[1:13]] == [[f"rnn.{i}", name] for i in (0, 1) for name in names]
    model, tokenizer, _ = load_run(runs["lstm"])
    ids = tokenizer.encode(SENTENCE)
    layers = explain.gate_values(model, Tensor(ids[:, None]))  # type: ignore[operator,arg-type]
    forget = layers[1].values["forget"]
    assert shown[8][2:5] == [f"{x:+.3f}" for x in (forget.mean(), forget.min(), forget.max())]
    assert (runs["lstm"] / "gates.png").read_bytes().startswith(PNG)


def test_the_report(runs: dict[str, Path]) -> None:
    shown = rows("report", runs["gpt"], "--ngram", runs["ngram"], "--text", SENTENCE)
    assert shown == [["written:", str(runs["gpt"] / "report.html")]]
    assert "Attention" in (runs["gpt"] / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- all


def test_dry_runs_write_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")}
    long = TEXT[:200]
    result = script("explain.py", "backward", runs["gpt"], long, "--page", tmp_path / "page.html", "--dry-run", cwd=tmp_path)
    assert "over 19 tokens" in ends_well(result)
    assert rows("attention", runs["gpt"], long, "--dry-run")[-1][:2] == ["1", "1"]
    assert rows("gates", runs["lstm"], long, "--dry-run")[-1][:2] == ["rnn.1", "h"]
    assert rows("page", runs["gpt"], long, "--out", tmp_path / "inside.html", "--dry-run")[0][:2] == ["would", "write:"]
    assert rows("report", runs["gpt"], "--dry-run") == [["would", "write", str(runs["gpt"] / "report.html")]]
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")} == before


def test_help() -> None:
    for arguments in ((), ("--help",)):
        assert "usage: python scripts/explain.py backward" in ends_well(script_here("explain.py", *arguments))
    for command, flags in {
        "backward": ("--parameter", "--step", "--page", "--target", "--label"), "attention": ("--layer", "--head", "--words", "--out"),
        "gates": ("--out",), "page": ("--out", "--exact"), "report": ("--ngram", "--torch", "--text"),
    }.items():  # fmt: skip
        shown = ends_well(script_here("explain.py", command, "--help"))
        for flag in (*flags, "--dry-run"):
            assert flag in shown


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("explain.py", *arguments), message)

    gpt, lstm = runs["gpt"], runs["lstm"]
    fails("command 'look': expected 'backward', 'attention', 'gates', 'attribute'", "look")
    fails("no run folder", "backward", tmp_path / "none", SENTENCE)
    fails("no parameter 'lm_head' took part: expected one of transformer.wte.weight", "backward", gpt, SENTENCE, "--parameter", "lm_head")
    fails("step is 99: expected 1 to", "backward", gpt, SENTENCE, "--step", 99)
    fails("has 30 tokens: expected at most 24", "attention", gpt, TEXT[:30])
    fails("unknown character '&'", "attention", gpt, "the dog & me")
    fails("layer is 2: expected 0 to 1", "attention", gpt, SENTENCE, "--layer", 2, "--head", 0)
    fails("head is None: expected 0 to 1", "attention", gpt, SENTENCE, "--layer", 1)
    fails("has no attention", "attention", lstm, SENTENCE)
    fails("is not recurrent", "gates", gpt, SENTENCE)
    for command in ("backward", "attention", "gates", "page"):
        fails("an n-gram model counts", command, runs["ngram"], SENTENCE)
    fails("config.json", "report", tmp_path)
    fails("unknown device 'tpu'", "gates", lstm, SENTENCE, "--device", "tpu")
    fails("cannot write", "backward", gpt, SENTENCE, "--page", gpt / "config.json" / "page.html")
