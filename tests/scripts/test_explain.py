"""scripts/explain.py as a user runs it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

import tinylm
from tinylm import Tensor, explain
from tinylm.data.labelled import LabelledTexts, encode_words
from tinylm.data.pairs import Pairs
from tinylm.explain.reading import read_run
from tinylm.train import Counting, Run, default_config, load_run
from tinylm.train.tasks import classifier_config, translation_config
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.translation import TranslationRun, load_translator

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
SENTENCE = "the lazy dog"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    settings = {
        "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 16, "block_size": 24, "batch_size": 4, "order": 3,
        "steps": 10, "schedule_steps": 10, "warmup": 2, "lr": 1e-2,
    }  # fmt: skip
    for model in ("gpt", "lstm", "ngram"):
        config = dataclasses.replace(default_config(model), **settings)  # type: ignore[arg-type]
        (Counting if model == "ngram" else Run)(config, parent / model, TEXT).train()
    return {path.name: path for path in parent.iterdir()}


def rows(*arguments: object) -> list[list[str]]:
    return [line.split() for line in ends_well(script_here("explain.py", *arguments)).splitlines()]


# ---------------------------------------------------------------- backward


def test_the_steps(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = rows("backward", runs["gpt"], SENTENCE, "--page", page)
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    loss, _ = model.loss(Tensor(ids[None, :-1]), Tensor(ids[None, 1:]))  # type: ignore[union-attr]
    steps = list(explain.steps(loss, model=model))  # type: ignore[arg-type]
    assert shown[0] == ["written:", str(page)]
    assert shown[1] == ["loss", f"{loss.item():.4f}", "nats", "per", "token", "over", "11", "tokens"]
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
    assert f"|g| {np.linalg.norm(grad.astype(float)):.4g}" in shown.splitlines()[0]
    assert "the sum of 2 contributions" in shown
    for text in ("linear", "embedding", "dweight[v] = Σ dy over the positions", "what came in there is from step 1 (cross_entropy)"):
        assert text in shown, text


def test_one_step(runs: dict[str, Path]) -> None:
    shown = ends_well(script_here("explain.py", "backward", runs["lstm"], SENTENCE, "--step", 4))
    for text in ("4  lstm", "in rnn", "weight_ih receives (64, 16)", "Hochreiter"):
        assert text in shown, text


# ---------------------------------------------------------------- attention


def test_which_earlier_words_a_head_looks_at(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows("attention", runs["gpt"], SENTENCE, "--layer", 1, "--head", 0, "--words", "--out", tmp_path / "a.png")
    model, tokenizer, _ = load_run(runs["gpt"])
    ids = tokenizer.encode(SENTENCE)
    layers = explain.attention_weights(model(Tensor(ids[None])), model=model)  # type: ignore[operator,arg-type]
    weights, words, _ = explain.by_word(layers[1].weights[0, 0], list(SENTENCE))
    assert words == ["the ", "lazy ", "dog"]
    assert shown[1] == ["0", "'the", "'", "1.00"]
    assert shown[2] == ["1", "'lazy", "'", f"{weights[1, 1]:.2f}", "'the", "'", "1", "back:", f"{weights[1, 0]:.2f}"]
    looks = [f"'{words[s]}' {2 - s} back: {weights[2, s]:.2f}" for s in sorted((0, 1), key=lambda s: -weights[2, s])]
    assert shown[3] == ["2", "'dog'", f"{weights[2, 2]:.2f}", *",  ".join(looks).split()]
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_all_heads(runs: dict[str, Path]) -> None:
    shown = rows("attention", runs["gpt"], SENTENCE)
    assert [cells[:3] for cells in shown[1:5]] == [[str(i), str(j), f"transformer.h.{i}.attn"] for i in (0, 1) for j in (0, 1)]
    for cells in shown[1:5]:
        assert 0 < float(cells[3]) < 11
        assert 0 < float(cells[4]) < 1
    assert (runs["gpt"] / "attention.png").read_bytes().startswith(PNG)


# ---------------------------------------------------------------- gates and report


def test_the_gates(runs: dict[str, Path]) -> None:
    shown = rows("gates", runs["lstm"], SENTENCE)
    names = ["input", "forget", "candidate", "output", "c", "h"]
    assert [cells[:2] for cells in shown[1:13]] == [[f"rnn.l{i}", name] for i in (0, 1) for name in names]
    model, tokenizer, _ = load_run(runs["lstm"])
    ids = tokenizer.encode(SENTENCE)
    layers = explain.gate_values(model(Tensor(ids[:, None]))[0], model=model)  # type: ignore[operator,arg-type]
    forget = layers[1].values["forget"]
    assert shown[8][2:5] == [f"{x:+.3f}" for x in (forget.mean(), forget.min(), forget.max())]
    assert (runs["lstm"] / "gates.png").read_bytes().startswith(PNG)


def test_the_report(runs: dict[str, Path]) -> None:
    shown = rows("report", runs["gpt"], "--ngram", runs["ngram"], "--text", SENTENCE)
    assert shown == [["written:", str(runs["gpt"] / "report.html")]]
    assert "Attention" in (runs["gpt"] / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- translators and classifiers


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns two translators and two classifiers."""
    parent = tmp_path_factory.mktemp("others")
    words = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
    pairs = [(f"The {a} sees the {b}.", f"El {x} ve el {y}.") for a, x in words.items() for b, y in words.items()]
    for model in ("transformer", "lstm"):
        translator = dataclasses.replace(
            translation_config.default_config(model), bpe_size=280, block_size=32, n_layer=1, n_head=2, n_embd=16, n_hidden=16,
            batch_tokens=64, steps=3, schedule_steps=3, warmup=1,
        )  # fmt: skip
        TranslationRun(translator, parent / f"translate-{model}", Pairs(pairs, pairs[:3], pairs[3:5], 0, "")).train()
        classifier = dataclasses.replace(
            classifier_config.default_config(model),
            width=8,
            hidden=8,
            heads=2,
            members=2 if model == "transformer" else 1,
            epochs=1,
            min_count=1,
        )
        texts = [source for source, _ in pairs]
        data = LabelledTexts(texts, np.arange(25) % 2, ("bad", "good"), 0, "")
        ClassifierRun(classifier, data, parent / f"classify-{model}").train()
    return {path.name: path for path in parent.iterdir()}


def translated(run: Path, source: str, target: str) -> tuple[Any, Tensor, Tensor]:
    """Returns (model, logits, loss) of a pair, computed by hand."""
    translator = load_translator(run)
    v = translator.vocabulary
    ids, goal = v.encode(source), v.encode(target)
    logits = translator.model(Tensor(ids[None]), np.array([len(ids)]), Tensor(np.array([[v.bos, *goal[:-1]]])))
    return translator.model, logits, tinylm.cross_entropy(logits, Tensor(goal[None]))


def test_a_translators_backward_pass(others: dict[str, Path]) -> None:
    for kind in ("transformer", "lstm"):
        run = others[f"translate-{kind}"]
        shown = ends_well(script_here("explain.py", "backward", run, "The cat.", "--target", "El gato."))
        model, _, loss = translated(run, "The cat.", "El gato.")
        assert shown.splitlines()[0].startswith(f"loss {loss.item():.4f} nats per token over ")
        assert shown.splitlines()[0].endswith(" tokens of 'El gato.'")
        shown = ends_well(script_here("explain.py", "backward", run, "The cat.", "--target", "El gato.", "--parameter", "embedding.weight"))
        loss.backward()
        assert f"|g| {np.linalg.norm(model.embedding.weight.grad.astype(float)):.4g}" in shown.splitlines()[0]
        assert "the sum of 3 contributions" in shown  # source, target and logits
        own = ends_well(script_here("explain.py", "backward", run, "The cat."))
        assert repr(load_translator(run).translate("The cat.", beams=1))[:10] in own.splitlines()[0]


def test_a_translators_heads(others: dict[str, Path]) -> None:
    """Heads that look from the translation to the source have two axes of words."""
    run = others["translate-transformer"]
    arguments = ("attention", run, "The cat.", "--target", "El gato.")
    shown = rows(*arguments)
    names = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.multihead_attn"]
    assert [cells[:3] for cells in shown[1:7]] == [[str(i), str(j), name] for i, name in enumerate(names) for j in (0, 1)]
    assert [cells[3:5] == ["-", "-"] for cells in shown[1:7]] == [False] * 4 + [True] * 2
    for part in ("encoder", "decoder", "source"):
        assert (run / f"attention-{part}.png").read_bytes().startswith(PNG)
    shown = rows(*arguments, "--words", "--layer", 2, "--head", 1)
    model, logits, _ = translated(run, "The cat.", "El gato.")
    weights = explain.attention_weights(logits, model=model)[2].weights[0, 1]
    v = load_translator(run).vocabulary
    tokens, sources = ([v.decode([i]) for i in v.encode(text)[:-1]] for text in ("El gato.", "The cat."))
    joined, words, source_words = explain.by_word(weights, ["<s> ", *tokens], [*sources, " </s>"])
    assert (words[0], source_words[-1]) == ("<s> ", " </s>")
    assert "".join(words[1:]) == "El gato."
    assert "".join(source_words[:-1]) == "The cat."
    best = int(np.argmax(joined[0]))
    assert shown[1] == ["0", *repr("<s> ").split(), *shown[1][3:]]
    assert " ".join(shown[1]).startswith(f"0 '<s> ' {' '.join(repr(source_words[best]).split())}: {joined[0, best]:.2f},")


def test_a_translators_gates(others: dict[str, Path]) -> None:
    shown = rows("gates", others["translate-lstm"], "The cat.")
    assert [cells[0] for cells in shown[1:13]] == ["encoder.l0"] * 6 + ["decoder.l0"] * 6
    model, logits, _ = translated(others["translate-lstm"], "The cat.", "")
    forget = explain.gate_values(logits, model=model)[0].values["forget"]
    assert shown[2][2:5] == [f"{x:+.3f}" for x in (forget.mean(), forget.min(), forget.max())]
    for part in ("encoder", "decoder"):
        assert (others["translate-lstm"] / f"gates-{part}.png").read_bytes().startswith(PNG)
    read = read_run(others["translate-lstm"], "The cat.")
    _, tokens, _ = read.tokens("encoder.l0")
    assert tokens[0] == " </s>"  # it reads the source backwards
    assert "".join(reversed(tokens)) == "The cat. </s>"


def test_a_classifier(others: dict[str, Path]) -> None:
    run, text = others["classify-transformer"], "The cat sees."
    model, tokenizer, names = load_classifier(run)
    ids = encode_words(tokenizer, text)
    logits = model(Tensor(ids[None]), np.array([len(ids)]))
    for label, p in zip(names, (1 / (1 + np.exp(logits.item())), 1 / (1 + np.exp(-logits.item()))), strict=True):
        shown = ends_well(script_here("explain.py", "backward", run, text, "--label", label))
        assert shown.splitlines()[0] == f"loss {-np.log(p):.4f} nats for the label {label!r}, over 4 words"
    likelier = names[logits.item() > 0]
    assert f"for the label {likelier!r}" in ends_well(script_here("explain.py", "backward", run, text))
    shown = rows("attention", run, text, "--layer", 1, "--head", 0)
    weights = explain.attention_weights(logits, model=model)[1].weights[0, 0]
    for t, cells in enumerate(shown[1:5]):  # later words count, too
        s = int(np.argmax(np.where(np.arange(4) == t, 0, weights[t])))
        assert f"{abs(t - s)} {'back' if s < t else 'on'}: {weights[t, s]:.2f}" in " ".join(cells)
    shown = rows("gates", others["classify-lstm"], text)
    assert [cells[0] for cells in shown[1:13:6]] == ["members.0.rnn.l0", "members.0.rnn.l0_reverse"]
    assert (others["classify-lstm"] / "gates.png").read_bytes().startswith(PNG)


def test_the_report_of_a_translator_reads(others: dict[str, Path]) -> None:
    ends_well(script_here("explain.py", "report", others["translate-transformer"], "--text", "The cat."))
    text = (others["translate-transformer"] / "report.html").read_text(encoding="utf-8")
    for title in ("Attention of the encoder: ", "Attention of the decoder: ", "Attention from target to source: "):
        assert title in text


def test_what_the_others_cannot(others: dict[str, Path], runs: dict[str, Path]) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("explain.py", *arguments), message)

    translator, classifier = others["translate-transformer"], others["classify-transformer"]
    fails("target 'x': the run in", "backward", classifier, "The cat.", "--target", "x")
    fails("is not one of classification", "backward", translator, "The cat.", "--label", "good")
    fails("is not one of translation", "backward", runs["gpt"], SENTENCE, "--target", "x")
    fails("label 'so so': expected 'bad' or 'good'", "attention", classifier, "The cat.", "--label", "so so")
    fails("there is no text to translate", "attention", translator, " ")
    fails("expected at most 32", "attention", translator, "The cat. " * 30)
    fails("the target has", "attention", translator, "The cat.", "--target", "El gato. " * 30)
    fails("the text is empty", "backward", classifier, " ")
    fails("has no attention", "attention", others["translate-lstm"], "The cat.")
    fails("is not recurrent", "gates", classifier, "The cat.")


# ---------------------------------------------------------------- all


def test_dry_runs_write_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")}
    long = TEXT[:200]
    result = script("explain.py", "backward", runs["gpt"], long, "--page", tmp_path / "page.html", "--dry-run", cwd=tmp_path)
    assert "over 19 tokens" in ends_well(result)
    assert rows("attention", runs["gpt"], long, "--dry-run")[-1][:2] == ["1", "1"]
    assert rows("gates", runs["lstm"], long, "--dry-run")[-1][:2] == ["rnn.l1", "h"]
    assert rows("report", runs["gpt"], "--dry-run") == [["would", "write", str(runs["gpt"] / "report.html")]]
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")} == before


def test_help() -> None:
    for arguments in ((), ("--help",)):
        assert "usage: python scripts/explain.py backward" in ends_well(script_here("explain.py", *arguments))
    for command, flags in {
        "backward": ("--parameter", "--step", "--page", "--target", "--label"), "attention": ("--layer", "--head", "--words", "--out"),
        "gates": ("--out",), "report": ("--ngram", "--torch", "--text"),
    }.items():  # fmt: skip
        shown = ends_well(script_here("explain.py", command, "--help"))
        for flag in (*flags, "--dry-run"):
            assert flag in shown


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("explain.py", *arguments), message)

    gpt, lstm = runs["gpt"], runs["lstm"]
    fails("command 'look': expected 'backward', 'attention', 'gates' or 'report'", "look")
    fails("no run folder", "backward", tmp_path / "none", SENTENCE)
    fails("no parameter 'lm_head' took part: expected one of transformer.wte.weight", "backward", gpt, SENTENCE, "--parameter", "lm_head")
    fails("step is 99: expected 1 to", "backward", gpt, SENTENCE, "--step", 99)
    fails("has 30 tokens: expected at most 24", "attention", gpt, TEXT[:30])
    fails("unknown character '&'", "attention", gpt, "the dog & me")
    fails("layer is 2: expected 0 to 1", "attention", gpt, SENTENCE, "--layer", 2, "--head", 0)
    fails("head is None: expected 0 to 1", "attention", gpt, SENTENCE, "--layer", 1)
    fails("has no attention", "attention", lstm, SENTENCE)
    fails("is not recurrent", "gates", gpt, SENTENCE)
    for command in ("backward", "attention", "gates"):
        fails("an n-gram model counts", command, runs["ngram"], SENTENCE)
    fails("config.json", "report", tmp_path)
    fails("unknown device 'tpu'", "gates", lstm, SENTENCE, "--device", "tpu")
    fails("cannot write", "backward", gpt, SENTENCE, "--page", gpt / "config.json" / "page.html")
