"""scripts/explain.py as a user runs it on translators and classifiers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_runs import PNG, SENTENCE, language_models, rows
from script_helpers import ends_well, fails_with_one_line, script_here

import tinylm
from tinylm import Tensor, explain
from tinylm.data.labelled import LabelledTexts, encode_words
from tinylm.data.pairs import Pairs
from tinylm.explain.reading import read_run
from tinylm.train.tasks import classifier_config, translation_config
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.translation import TranslationRun, load_translator


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return language_models(tmp_path_factory.mktemp("runs"))


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
        assert shown.splitlines()[0].startswith(f"{type(model).__name__}: loss {loss.item():.4f} nats per token over ")
        assert shown.splitlines()[0].partition(". Its backward")[0].endswith(" tokens of 'El gato.', for the text 'The cat.'")
        shown = ends_well(script_here("explain.py", "backward", run, "The cat.", "--target", "El gato.", "--parameter", "embedding.weight"))
        loss.backward()
        assert f"|g| {np.linalg.norm(model.embedding.weight.grad.astype(float)):.4g}" in shown.splitlines()[1]
        assert "the sum of 3 contributions" in shown  # source, target and logits
        own = ends_well(script_here("explain.py", "backward", run, "The cat."))
        assert repr(load_translator(run).translate("The cat.", beams=1))[:10] in own.splitlines()[0]


def test_a_translators_heads(others: dict[str, Path]) -> None:
    """Heads that look from the translation to the source have two axes of words."""
    run = others["translate-transformer"]
    arguments = ("attention", run, "The cat.", "--target", "El gato.")
    shown = rows(*arguments)
    names = ["encoder.h.0.attn", "decoder.h.0.attn", "decoder.h.0.cross"]
    assert [cells[:3] for cells in shown[1:7]] == [[str(i), str(j), name] for i, name in enumerate(names) for j in (0, 1)]
    assert [cells[3:5] == ["-", "-"] for cells in shown[1:7]] == [False] * 4 + [True] * 2
    for part in ("encoder", "decoder", "source"):
        assert (run / f"attention-{part}.png").read_bytes().startswith(PNG)
    shown = rows(*arguments, "--words", "--layer", 2, "--head", 1)
    weights = read_run(run, "The cat.", target="El gato.").attention()[2].weights[0, 1]
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
    assert [cells[0] for cells in shown[1:13]] == ["encoder.rnn.0"] * 6 + ["decoder.rnn.0"] * 6
    read = read_run(others["translate-lstm"], "The cat.")
    forget = read.gates()[0].values["forget"]
    assert shown[2][2:5] == [f"{x:+.3f}" for x in (forget.mean(), forget.min(), forget.max())]
    for part in ("encoder", "decoder"):
        assert (others["translate-lstm"] / f"gates-{part}.png").read_bytes().startswith(PNG)
    _, tokens, _ = read.tokens("encoder.rnn.0")
    assert tokens[0] == " </s>"  # it reads the source backwards
    assert "".join(reversed(tokens)) == "The cat. </s>"


def test_a_classifier(others: dict[str, Path]) -> None:
    run, text = others["classify-transformer"], "The cat sees."
    model, tokenizer, names = load_classifier(run)
    ids = encode_words(tokenizer, text)
    logits = model(Tensor(ids[None]), np.array([len(ids)]))
    for label, p in zip(names, (1 / (1 + np.exp(logits.item())), 1 / (1 + np.exp(-logits.item()))), strict=True):
        shown = ends_well(script_here("explain.py", "backward", run, text, "--label", label))
        said = f"loss {-np.log(p):.4f} nats for the label {label!r}, over 4 words, for the text {text!r}. Its backward pass takes "
        assert said in shown.splitlines()[0]
    likelier = names[logits.item() > 0]
    assert f"for the label {likelier!r}" in ends_well(script_here("explain.py", "backward", run, text))
    shown = rows("attention", run, text, "--layer", 1, "--head", 0)
    weights = explain.attention_weights(model, Tensor(ids[None]), np.array([len(ids)]))[1].weights[0, 0]
    for t, cells in enumerate(shown[1:5]):  # later words count, too
        s = int(np.argmax(np.where(np.arange(4) == t, 0, weights[t])))
        assert f"{abs(t - s)} {'back' if s < t else 'on'}: {weights[t, s]:.2f}" in " ".join(cells)
    shown = rows("gates", others["classify-lstm"], text)
    assert [cells[0] for cells in shown[1:13:6]] == ["members.0.rnn.0", "members.0.rnn.0.reverse"]
    assert (others["classify-lstm"] / "gates.png").read_bytes().startswith(PNG)


def test_questions_to_translators(others: dict[str, Path]) -> None:
    """The lens shows the decoder, ablation both halves, patching the encoder."""
    for kind, layers in (("transformer", ["embed", "h.0"]), ("lstm", ["rnn.0"])):
        run = others[f"translate-{kind}"]
        given = "The cat.", "--target", "El gato."
        shown = rows("lens", run, *given, "--dry-run")
        assert shown[0][1 : 1 + len(layers)] == layers
        assert shown[1][1:3] == ["'<s>", "'"]
        loss = translated(run, "The cat.", "El gato.")[2].item()
        ablated = rows("ablate", run, *given, "--dry-run")
        assert ablated[0][:2] == ["loss", f"{loss:.4f}"]
        parts = {cells[0].partition(".")[0] for cells in ablated[3:] if "." in cells[0]}
        assert parts == {"encoder", "decoder"}
        v = load_translator(run).vocabulary
        other = next(
            text for text in ("The dog.", "The wolf.", "The bird.", "the cat.") if len(v.encode(text)) == len(v.encode("The cat."))
        )
        patched = rows("patch", run, "The cat.", other, "--target", "El", "--metric", "log-probability", "--dry-run")
        assert [cells[0] for cells in patched[3:]] == [str(t) for t in range(len(v.encode(other)))]
        ends = [cells for cells in patched[3:] if "</s>" in cells[1] + cells[2]]
        assert len(ends) == 1
        assert (ends[0][0] == "0") == (kind == "lstm")  # which reads the source backwards


def test_questions_to_classifiers(others: dict[str, Path]) -> None:
    for kind, layers in (("transformer", ["embed", "h.0"]), ("lstm", ["rnn.0"])):
        run, text = others[f"classify-{kind}"], "The cat sees."
        shown = rows("lens", run, text, "--label", "good", "--dry-run")
        assert shown[0][1 : 1 + len(layers)] == layers
        assert shown[1][-3] == "'good'"
        (run / "reference.txt").write_text("The dog sees.\n\nA bird.\n", encoding="utf-8")
        ablated = rows("ablate", run, text, "--label", "good", "--by", "mean", "--reference", run / "reference.txt", "--dry-run")
        assert f"{float(ablated[0][1]):.2f}" == shown[1][-2]
        assert ablated[3][0].startswith("members.0." + layers[-1])
        patched = rows("patch", run, text, "The dog sees.", "--dry-run")
        assert " ".join(patched[0]).startswith("logit of class 1: ")
        result = script_here("explain.py", "patch", run, text, "The dog sees.", "--answer", "dog")
        fails_with_one_line(result, "--answer is given, but the run is a classifier")
        assert patched[4][1:5] == ["'", "dog'", "→", "'"]


def test_which_tokens_made_them_say_so(others: dict[str, Path]) -> None:
    """A translator's source and target tokens, in the order in which it reads them, and a classifier's words, of all members."""
    for kind in ("transformer", "lstm"):
        arguments = others[f"translate-{kind}"], "The cat.", "--target", "El gato.", "--position", 0, "--dry-run", "--json"
        found = json.loads(ends_well(script_here("explain.py", "attribute", *arguments)))
        encoder, decoder = found["inputs"]["parts"]
        assert (encoder["name"], decoder["name"]) == ("encoder", "decoder")
        assert encoder["tokens"][-1 if kind == "transformer" else 0] == " </s>"
        assert decoder["tokens"][0] == "<s> "
        assert decoder["integrated"][1:] == [0] * (len(decoder["tokens"]) - 1)
        assert found["direct"] is None
        shown = rows("attribute", others[f"classify-{kind}"], "The cat sees.", "--label", "good", "--dry-run")
        assert shown[0] == ["the", "logit", "of", "the", "label", "'good'"]
        words = [cells[2] for cells in shown if cells and cells[0].isdigit()]
        assert words[:3] == ["the'", "cat'", "sees'"]


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
    fails("position is 1: a classifier has one logit, that of the label", "attribute", classifier, "The cat.", "--position", 1)
    fails("was trained for another task: classification, expected language modeling", "heads", classifier)
    fails("is no language model: only those have heads that look back", "heads", translator, "The cat.")
    fails("was trained for another task: translation, expected language modeling", "loss", translator, "The cat.")
    fails("was trained for another task: classification, expected language modeling", "probe", classifier, "The cat.")
