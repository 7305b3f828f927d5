"""A classifier and a translator in one call: the commands' training, and a run folder that the commands read."""

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import ANIMALS, DOES
from script_helpers import ends_well, script_here

from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import load_pairs
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.json_files import read_json, write_json
from tinylm.train import ClassifierConfig, FittedClassifier, FittedTranslator, TranslationConfig, fit_classifier, fit_translator
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.fitting import IN_PYTHON, copy_run
from tinylm.train.tasks.given_texts import labelled_data
from tinylm.train.tasks.translation import TranslationRun

TEXTS = [f"the {noun} was {word}" for noun in ("film", "food", "phone", "place", "music") for word in ("bad", "good", "awful", "fine")]
LABELS = ["no", "yes"] * 10
PAIRS = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()] * 3
BAG = ClassifierConfig(members=1, buckets=64, epochs=10, batch_size=4, lr=0.05, dropout=0.0, word_dropout=0.0)
TINY = TranslationConfig(
    bpe_size=280, n_layer=1, n_head=2, n_embd=16, n_hidden=16, block_size=24, batch_tokens=100, steps=4, schedule_steps=4, warmup=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def classifier() -> FittedClassifier:
    return fit_classifier(TEXTS, LABELS, BAG)


@pytest.fixture(scope="module")
def translator() -> FittedTranslator:
    return fit_translator(PAIRS, TINY)


# ---------------------------------------------------------------- a classifier


def test_a_classifier_predicts_and_is_measured(classifier: FittedClassifier) -> None:
    assert classifier.labels == ("no", "yes")
    assert classifier.predict(["good music", "awful music"]) == ["yes", "no"]
    assert classifier.predict([]) == []
    p = classifier.probabilities(np.array(["good music", "awful music"]))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert p[0, 1] > 0.5 > p[1, 1]
    found = classifier.evaluate(TEXTS, LABELS)
    assert (found["texts"], found["accuracy"], found["macro_f1"]) == (20, 1.0, 1.0)
    assert found["log_loss"] == pytest.approx(-np.log(classifier.probabilities(TEXTS).max(axis=1)).mean())
    found = classifier.evaluate(TEXTS, ["yes", *LABELS[1:]])
    assert (found["accuracy"], found["confusion"]) == (0.95, [[9, 0], [1, 10]])
    texts, labels = classifier.held_out
    assert len(texts) == 4
    assert dict(zip(TEXTS, LABELS, strict=True)).items() >= dict(zip(texts, labels, strict=True)).items()
    assert classifier.evaluate(texts, labels)["accuracy"] == classifier.summary["accuracy"]


def test_it_is_the_training_of_the_command(classifier: FittedClassifier, tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in zip(LABELS, TEXTS, strict=True)), encoding="utf-8")
    ClassifierRun(dataclasses.replace(BAG, data=str(path)), load_labelled(path), tmp_path / "run").train()
    classifier.save(tmp_path / "saved")
    assert list((tmp_path / "saved" / "checkpoints").glob("step-*.safetensors"))
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert read_json(tmp_path / "saved" / "config.json")["train"]["data"] == IN_PYTHON


def test_a_saved_classifier_is_a_run_that_the_commands_read(classifier: FittedClassifier, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    classifier.save(str(folder))
    shown = ends_well(script_here("classify.py", "run", folder, "good music", "awful music"))
    assert [line.split("\t")[0] for line in shown.splitlines()] == ["yes", "no"]
    loaded = FittedClassifier.load(str(folder))
    np.testing.assert_array_equal(loaded.probabilities(TEXTS), classifier.probabilities(TEXTS))
    assert loaded.summary == classifier.summary
    assert loaded.held_out == ([], [])
    again = ClassifierRun(dataclasses.replace(BAG, data=IN_PYTHON), labelled_data(TEXTS, LABELS), folder, resume=True)
    assert again.finished()
    with pytest.raises(CheckpointError, match="was trained for another task"):
        FittedTranslator.load(folder)


def test_saving_twice(classifier: FittedClassifier, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    classifier.save(folder)
    (folder / "checkpoints" / "step-99999999.safetensors").write_bytes(b"of a longer run")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds a run already: choose another folder, or give overwrite=True"):
        classifier.save(folder)
    classifier.save(folder, overwrite=True)
    assert not (folder / "checkpoints" / "step-99999999.safetensors").exists()
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert FittedClassifier.load(folder).predict(["good music"]) == ["yes"]
    with pytest.raises(CheckpointError, match=r"the run is in .* already"):
        FittedClassifier.load(folder).save(folder, overwrite=True)
    write_json(tmp_path / "config.json", {"model_type": "gpt2"})
    with pytest.raises(CheckpointError, match="is not the config of a tinylm run: nothing is deleted"):
        classifier.save(tmp_path, overwrite=True)
    with pytest.raises(CheckpointError, match="is gone"):
        copy_run(tmp_path / "nothing", tmp_path / "new")


def test_what_a_classifier_says_of_itself(classifier: FittedClassifier, tmp_path: Path) -> None:
    assert repr(classifier) == (
        f"<FittedClassifier: model linear, {classifier.model.num_parameters():,} parameters; labels no, yes; "
        f"accuracy on the test part {classifier.summary['accuracy']:.4f}; folder not saved yet>"
    )
    classifier.save(tmp_path / "saved")
    assert f"folder {tmp_path / 'saved'}>" in repr(FittedClassifier.load(tmp_path / "saved"))


def test_the_temporary_folder_goes_with_the_object() -> None:
    short_lived = fit_classifier(TEXTS, LABELS, dataclasses.replace(BAG, epochs=1))
    folder = short_lived._folder.parent
    assert folder.exists()
    del short_lived
    gc.collect()
    assert not folder.exists()


def test_a_failed_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ClassifierRun, "train", lambda self: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        fit_classifier(TEXTS, LABELS, BAG)
    assert list(tmp_path.iterdir()) == []


def test_labels_may_be_numbers() -> None:
    fitted = fit_classifier(np.array(TEXTS), np.array([0, 1] * 10), dataclasses.replace(BAG, epochs=1))
    assert fitted.labels == ("0", "1")
    assert fitted.evaluate(TEXTS, [0, 1] * 10)["texts"] == 20
    with pytest.raises(DataError, match="the label 'maybe' is not one that the classifier tells apart: 0, 1"):
        fitted.evaluate(["good"], ["maybe"])


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("good", ["yes"], r"the texts are 'good': expected a list; for a single one a list of one"),
        (TEXTS, LABELS[:-1], "there are 20 texts and 19 labels"),
        ([], [], "there are 0 texts and 0 labels"),
        ([*TEXTS[:-1], " "], LABELS, r"texts\[19\] is ' ': expected a text with at least one word"),
        ([*TEXTS[:-1], 3], LABELS, r"texts\[19\] is 3: expected a text"),
        (TEXTS, [*LABELS[:-1], float("nan")], r"labels\[19\] is nan: expected text or a whole number"),
        (TEXTS, [*LABELS[:-1], None], r"labels\[19\] is None"),
        (TEXTS, ["yes"] * 20, "the texts have one label only, 'yes': expected at least 2"),
        (TEXTS[:4], LABELS[:4], "4 labelled texts: expected at least 10"),
    ],
)
def test_texts_and_labels_that_do_not_fit(texts: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_classifier(texts, labels, BAG)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_parts_are_taken_from_what_is_given(part: str) -> None:
    for fit in (lambda: fit_classifier(TEXTS, LABELS, dataclasses.replace(BAG, **{part: "some.tsv"})),
                lambda: fit_translator(PAIRS, dataclasses.replace(TINY, **{part: "some.tsv"}))):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{part} is 'some.tsv': expected none"):
            fit()


def test_texts_that_cannot_be_predicted(classifier: FittedClassifier, translator: FittedTranslator) -> None:
    for fitted in (classifier, translator):
        with pytest.raises(DataError, match=r"the texts are 'good music': expected a list"):
            fitted.predict("good music")
        with pytest.raises(DataError, match=r"texts\[1\] is None: expected a text"):
            fitted.predict(["good", None])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"texts\[1\]: the source has \d+ tokens"):
        translator.predict(["The cat runs.", "cat " * 100])


# ---------------------------------------------------------------- a translator


def test_a_translator_is_the_training_of_the_command(translator: FittedTranslator, tmp_path: Path) -> None:
    path = tmp_path / "animals.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS), encoding="utf-8")
    data = load_pairs(path)
    assert translator.held_out == data.test
    TranslationRun(dataclasses.replace(TINY, data=str(path)), tmp_path / "run", data).train()
    translator.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()


def test_a_saved_translator_is_a_run_that_the_commands_read(translator: FittedTranslator, tmp_path: Path) -> None:
    translator.save(tmp_path / "saved")
    (said,) = translator.predict(["The cat runs."], beams=1)
    shown = ends_well(script_here("translate.py", "run", tmp_path / "saved", "The cat runs.", "--beams", 1))
    assert shown == " ".join(said.split()) + "\n"
    loaded = FittedTranslator.load(tmp_path / "saved")
    assert loaded.predict(["The cat runs."], beams=1) == [said]
    assert repr(loaded).startswith(f"<FittedTranslator: model transformer, {loaded.model.num_parameters():,} parameters; validation loss ")


def test_a_translator_is_measured(translator: FittedTranslator, monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(PAIRS)
    monkeypatch.setattr(translator.translator, "translate", lambda text, beams: known[text])
    figures = translator.evaluate([*translator.held_out, ("cat " * 100, "gato")])
    assert figures == {"sentences": len(translator.held_out), "left_out": 1, "bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    monkeypatch.setattr(translator.translator, "translate", lambda text, beams: "nada")
    assert translator.evaluate(translator.held_out)["bleu"] < 1
    monkeypatch.setattr(translator.translator, "translate", lambda text, beams: known[text].lower())
    assert translator.evaluate(translator.held_out)["bleu"] < 90
    monkeypatch.setattr(translator.translator.vocabulary, "lower", True)
    assert translator.evaluate(translator.held_out)["bleu"] == pytest.approx(100)
    with pytest.raises(DataError, match="none of the 1 pairs has a source of at most 24 tokens"):
        translator.evaluate([("cat " * 100, "gato")])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (PAIRS[:2], "the list has 2 pairs: expected at least 3"),
        ([*PAIRS, "ab"], r"pairs\[27\] is 'ab': expected two texts, a source and its translation"),
        ([*PAIRS, ("a", " ")], r"pairs\[27\] is \('a', ' '\)"),
        ([*PAIRS, ("a", "b", "c")], r"pairs\[27\] is \('a', 'b', 'c'\)"),
        ([*PAIRS, 5], r"pairs\[27\] is 5"),
        ("ab", "the pairs are 'ab': expected a list"),
    ],
)
def test_what_is_no_pair(pairs: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_translator(pairs, TINY)
