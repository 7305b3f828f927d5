"""Classifiers with a validation part: early stopping, the best weights, the temperature, weights of classes, parts of one's own."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tinylm.data.labelled import LabelledTexts, encode_words
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.class_figures import fit_temperature, log_probabilities
from tinylm.train.tasks.classification import (
    class_prior,
    class_weights,
    load_classifier,
    logits_of,
    prepare_split,
    start_classifier,
    text_probabilities,
    validation_parts,
)
from tinylm.train.tasks.classifier_config import ClassifierConfig, default_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.classifier_task import Classification

SMALL = {"buckets": 64, "epochs": 6, "batch_size": 16}
WORDS = {"food": ["soup", "bread", "rice"], "film": ["actor", "scene", "plot"], "phone": ["screen", "charger", "call"]}


def opinions(count: int = 90, wrong: int = 6) -> LabelledTexts:
    """Returns texts about three things, the last of which have another label than they should."""
    rng = np.random.default_rng(0)
    names = tuple(sorted(WORDS))
    labels = np.arange(count) % 3
    texts = [f"the {rng.choice(WORDS[names[c]])} and a {rng.choice(['good', 'bad'])} {rng.choice(WORDS[names[c]])}" for c in labels]
    labels[:wrong] = (labels[:wrong] + 1) % 3
    return LabelledTexts(texts, labels, names, 0, "")


def config_of(**changes: object) -> ClassifierConfig:
    return dataclasses.replace(default_config("linear"), **{**SMALL, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ClassifierRun:
    """Returns a run of three classes that has ended."""
    run = ClassifierRun(config_of(patience=2, epochs=9, lr=0.1, members=3), opinions(), tmp_path_factory.mktemp("validated") / "run")
    run.train()
    return run


def test_three_classes_from_training_to_figures(finished: ClassifierRun) -> None:
    summary = json.loads((finished.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["accuracy"] > 0.7 > summary["majority_accuracy"]
    assert 0 <= summary["calibration_error"] < 0.3
    assert {"macro_f1", "log_loss", "tfidf_accuracy", "naive_bayes_accuracy", "temperature"} < summary.keys()
    assert (summary["train_texts"], summary["valid_texts"], summary["test_texts"]) == (72, 6, 18)
    outcome = finished.task.outcome
    assert outcome is not None
    assert outcome.figures["accuracy"] == summary["accuracy"]
    assert list(outcome.figures["against"]) == ["naive Bayes", "TF-IDF"]
    model, tokenizer, names = load_classifier(finished.folder)
    assert names == ("film", "food", "phone")
    texts = [encode_words(tokenizer, text) for text in ("a charger", "rice", "the plot of a scene")]
    assert [names[c] for c in text_probabilities(model, texts).argmax(axis=1)] == ["phone", "food", "film"]
    np.testing.assert_array_equal(text_probabilities(model, finished.task.part.test_texts), outcome.log_p)


def test_members_end_early_with_their_best_weights(finished: ClassifierRun) -> None:
    """The last validation of a member that its records show is no better than the best; its weights have that best loss."""
    task = finished.task
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = [[line for line in lines if line["member"] == m + 1] for m in range(3)]
    assert any(len(each) < 9 for each in ends)
    assert task.starts == [task.batches_per_epoch * n for n in np.cumsum([0, *map(len, ends)])]
    for m, each in enumerate(ends):
        assert [line["epoch"] for line in each] == list(range(1, len(each) + 1))
        losses = [line["val_loss"] for line in each]
        if len(each) < 9:
            assert min(losses[-2:]) >= min(losses)
        logits, labels = task.validation_logits([m])
        log_p = log_probabilities(logits / fit_temperature(logits, labels))
        assert -log_p[np.arange(len(labels)), labels].mean() <= min(losses) * (1 + 1e-5)
    assert finished.finished()


def test_probabilities_are_calibrated_on_the_validation_part(finished: ClassifierRun) -> None:
    """Fitting a temperature once more changes nothing."""
    logits, labels = finished.task.validation_logits([0, 1, 2])
    assert len(labels) == 3 * 6
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=1e-4)


def test_a_text_of_unknown_words_gives_the_prior(finished: ClassifierRun) -> None:
    """That of the training texts, for every kind of model."""
    counts = np.bincount(finished.task.part.train_labels)
    model, tokenizer, _ = load_classifier(finished.folder)
    unknown = [encode_words(tokenizer, "xqz wubble xqz")]
    np.testing.assert_allclose(np.exp(text_probabilities(model, unknown)), [counts / counts.sum()], rtol=1e-5)
    for kind in ("bag", "lstm", "transformer"):
        config = dataclasses.replace(default_config(kind), **{**SMALL, "width": 8, "hidden": 8, "members": 1})
        part = prepare_split(opinions(), 0, config.min_count)
        found = np.exp(text_probabilities(start_classifier(config, part), [np.zeros(3, np.int64)]))
        np.testing.assert_allclose(found, [counts / counts.sum()], rtol=1e-5)


def test_validation_parts_are_apart_and_stratified() -> None:
    part = prepare_split(opinions(300), 0)
    held = validation_parts(config_of(folds=5, members=5), part)
    together = np.concatenate(held)
    assert len(set(together.tolist())) == len(together) == 5 * (237 // 5)
    for each in held:
        counts = np.bincount(part.train_labels[each], minlength=3) / len(each)
        np.testing.assert_allclose(counts, np.bincount(part.train_labels) / 240, atol=0.05)
    again = validation_parts(config_of(folds=5, members=7), part)
    np.testing.assert_array_equal(again[5], held[0])
    assert [len(each) for each in validation_parts(config_of(folds=0, members=2), part)] == [0, 0]


def test_every_class_stays_in_training() -> None:
    data = opinions(30, wrong=0)
    labels = data.labels.copy()
    labels[labels == 2] = 0
    train = prepare_split(dataclasses.replace(data, labels=labels, names=("a", "b")), 0)
    labels = train.train_labels.copy()
    labels[:] = 0
    labels[3] = 1
    part = train._replace(train_labels=labels)
    assert all(3 not in each for each in validation_parts(config_of(folds=4, members=4), part))


def test_too_few_texts_to_validate_on() -> None:
    part = prepare_split(opinions(30), 0)._replace(train_texts=[np.array([1])] * 4, train_labels=np.array([0, 1, 2, 2]))
    with pytest.raises(
        DataError, match="4 training texts of 3 classes are too few to validate on some of them: expected at least 5; folds=0"
    ):
        validation_parts(config_of(), part)
    with pytest.raises(ConfigError, match="folds is 1: expected at least 2 parts, or 0"):
        config_of(folds=1)


def test_weights_of_classes() -> None:
    labels, names = np.array([0, 0, 0, 1]), ("no", "a=b")
    assert class_weights(config_of(), labels, names).tolist() == [1, 1]
    np.testing.assert_allclose(class_weights(config_of(class_weights="balanced"), labels, names), [4 / 6, 4 / 2])
    assert class_weights(config_of(class_weights="a=b=2.5"), labels, names).tolist() == [1, 2.5]
    for given, message in [
        ("maybe=1", "names the label 'maybe': expected 'no' or 'a=b'"),
        ("no=0", "has 'no=0': expected 'balanced', or LABEL=WEIGHT"),
        ("no", "has 'no': expected 'balanced'"),
        ("no=much", "has 'no=much'"),
    ]:
        with pytest.raises(ConfigError, match=f"^class_weights {message}"):
            class_weights(config_of(class_weights=given), labels, names)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_weight_of_two_is_a_text_twice(classes: int) -> None:
    data = opinions()
    if classes == 2:
        data = dataclasses.replace(data, labels=np.minimum(data.labels, 1), names=data.names[:2])
    part = prepare_split(data, 0)
    config = config_of(members=1, folds=0, class_weights=f"{data.names[1]}=2", word_dropout=0.0)
    task = Classification(config, start_classifier(config, part), part)
    task.begin_member(0)
    model = task.member
    batch = task.batch(0)
    weighted, _ = task.loss(batch, None)
    twice = [*range(len(batch["labels"])), *np.flatnonzero(batch["labels"] == 1)]
    logits = log_probabilities(logits_of(model, [ids[:n] for ids, n in zip(batch["ids"], batch["lengths"], strict=True)]))
    expected = -np.mean([logits[i, int(batch["labels"][i])] for i in twice])
    assert weighted.item() == pytest.approx(expected, rel=1e-5)
    counts = np.bincount(part.train_labels) * np.array([1, 2, 1])[:classes]
    np.testing.assert_allclose(class_prior(config, part), counts / counts.sum())


def test_parts_of_ones_own() -> None:
    """All texts are trained on; vocabulary and classes are theirs."""
    data, others = opinions(60), opinions(12)
    part = prepare_split(dataclasses.replace(data, validation=others, test=dataclasses.replace(others, texts=["zebra"] * 12)), 0)
    assert (len(part.train_texts), len(part.valid_texts), len(part.test_texts)) == (60, 12, 12)
    assert all((ids == 0).all() for ids in part.test_texts)
    assert [len(held) for held in validation_parts(config_of(), part)] == [0] * 5
    config = config_of(folds=0, valid="other.tsv", members=1)
    task = Classification(config, start_classifier(config, part), part)
    assert len(task.validation_logits([0])[1]) == 12
    with pytest.raises(ConfigError, match=r"valid is 'other.tsv', but the data have no validation part: expected those of load_parts"):
        Classification(config, start_classifier(config, part), part._replace(valid_texts=()))


def test_a_class_of_the_test_part_alone() -> None:
    data = opinions(30, wrong=0)
    test = prepare_split(dataclasses.replace(data, texts=[f"t{i}" for i in range(30)]), 0).shown
    labels = np.array([2 if f"t{i}" in test[:2] else i % 2 for i in range(30)])
    with pytest.raises(DataError, match=r"the label 'phone' is in the test part of split 0 only, the first time at 'the .*another split="):
        prepare_split(dataclasses.replace(data, labels=labels), 0)


def test_what_a_checkpoint_says_of_validation(tmp_path: Path) -> None:
    run = ClassifierRun(config_of(members=2), opinions(30), tmp_path)
    run.stop_requested = True
    assert run.train() is None
    del run
    path = saved_checkpoints(tmp_path)[0]
    arrays, record = read_arrays(path)
    for change, message in [
        ({"starts": [1]}, r"its members began at the steps \[1\]"),
        ({"starts": [0, 0]}, "began at"),
        ({"starts": 3}, "at the steps 3"),
    ]:
        write_arrays(path, arrays, {**record, **change})
        with pytest.raises(CheckpointError, match=message):
            ClassifierRun(config_of(members=2), opinions(30), tmp_path, resume=True)
    best = {f"best.{name.removeprefix('model.members.0.')}": a for name, a in arrays.items() if name in ("model.members.0.bias",)}
    write_arrays(path, {**arrays, **best}, record)
    with pytest.raises(CheckpointError, match=r"missing 'encoder\.weight'"):
        ClassifierRun(config_of(members=2), opinions(30), tmp_path, resume=True)
