"""Training classifiers, their run folders, and the comparison's arithmetic."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tinylm.data.labelled import LabelledTexts, encode_words, load_labelled, split_labelled
from tinylm.errors import AnomalyError, CheckpointError, ConfigError, DataError
from tinylm.files.json_files import write_json
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.models.classifier import Ensemble
from tinylm.train.records import Report
from tinylm.train.replay import replay
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.classification import (
    Split,
    accuracy,
    baselines,
    load_classifier,
    logits_of,
    mean_interval,
    prepare_split,
    start_classifier,
)
from tinylm.train.tasks.classifier_config import MODEL_DEFAULTS, ClassifierConfig, default_config
from tinylm.train.tasks.classifier_run import ClassifierRun, train_classifier

kinds = pytest.mark.parametrize("kind", list(MODEL_DEFAULTS))


def small(kind: str, **changes: object) -> ClassifierConfig:
    """Returns a config that memorises a few texts within a second."""
    settings = {"members": 1, "width": 8, "hidden": 8, "buckets": 64, "epochs": 30, "batch_size": 8, "lr": 1e-2, "dropout": 0.0}
    settings |= {"folds": 0, "patience": 0}  # what validation adds is tested in test_validated_classifiers.py
    return dataclasses.replace(default_config(kind), **{**settings, "min_count": 1, "word_dropout": 0.0, **changes})


@pytest.fixture
def data() -> LabelledTexts:
    """Returns 60 sentences, good ones and bad ones."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    words = (["bad", "awful", "poor"], ["good", "great", "fine"])
    texts = [f"The {rng.choice(['food', 'phone', 'film', 'place'])} was {rng.choice(words[c])}" for c in labels]
    return LabelledTexts(texts, labels, ("neg", "pos"), 0, "")


def trained(config: ClassifierConfig, part: Split, report: Report = lambda record: None) -> Ensemble:
    model = start_classifier(config, part)
    train_classifier(model, config, part, report)
    return model


@kinds
def test_training_is_seeded_and_learns(kind: str, data: LabelledTexts) -> None:
    part = prepare_split(data, 0)
    records: list[dict] = []
    model = trained(small(kind), part, records.append)
    assert accuracy(logits_of(model, part.train_texts), part.train_labels) == 1.0
    assert accuracy(logits_of(model, part.test_texts), part.test_labels) == 1.0
    assert [r["epoch"] for r in records] == list(range(1, 31))
    assert records[-1]["step"] == 30 * 6
    assert records[-1]["loss"] < min(0.1, records[0]["loss"])  # the linear model begins as naive Bayes
    again = trained(small(kind), part)
    np.testing.assert_array_equal(logits_of(again, part.test_texts), logits_of(model, part.test_texts))
    other = trained(small(kind, seed=1), part)
    assert not np.array_equal(logits_of(other, part.test_texts), logits_of(model, part.test_texts))


def test_the_vocabulary_is_the_training_parts(data: LabelledTexts) -> None:
    numbered = dataclasses.replace(data, texts=[f"{text} word{i}" for i, text in enumerate(data.texts)])
    for split in range(5):
        train, _ = split_labelled(60, split)
        known = prepare_split(numbered, split).tokenizer.words
        assert {w for w in known if w.startswith(" word")} == {f" word{i}" for i in train}


def test_logits_keep_their_order(data: LabelledTexts) -> None:
    part = prepare_split(data, 0)
    model = trained(small("bag", epochs=1), part)
    texts = [ids[:n] for n, ids in zip([4, 1, 3, 2, 4], part.test_texts, strict=False)]
    expected = [logits_of(model, [ids])[0] for ids in texts]
    np.testing.assert_allclose(logits_of(model, texts, batch_size=2), expected, rtol=1e-5, atol=1e-6)


def test_accuracy() -> None:
    assert accuracy(np.array([2.0, -1.0, 0.0, 3.0]), np.array([1, 1, 0, 0])) == 0.5


def test_the_baselines_learn_too(data: LabelledTexts) -> None:
    for right in baselines(prepare_split(data, 0)).values():
        assert right.shape == (12,)
        assert right.all()


def test_the_interval_is_students() -> None:
    values = [1.0, 2.5, -0.5, 0.0, 3.0]
    mean, low, high = mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean == pytest.approx(1.2)
    assert (low, high) == pytest.approx((expected.low, expected.high))


@kinds
def test_a_run_folder_gives_the_model_back(kind: str, data: LabelledTexts, tmp_path: Path) -> None:
    folder, config = tmp_path / "run", small(kind, members=2, epochs=2, split=3)
    run = ClassifierRun(config, data, folder)
    summary = run.train()
    assert not any(member.training for member in run.model.members), "a trained classifier is in evaluation mode"
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoints", "config.json", "data.json", "lock", "metrics.jsonl", "model.safetensors", "summary.json",
    ]  # fmt: skip
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == summary
    assert (summary["train_texts"], summary["test_texts"], summary["skipped_lines"]) == (48, 12, 0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["member"], r["epoch"]) for r in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    model, tokenizer, names = load_classifier(folder)
    assert names == ("neg", "pos")
    part = prepare_split(data, 3)
    model_again = trained(config, part)
    text = "the film was great"
    np.testing.assert_array_equal(
        logits_of(model, [encode_words(tokenizer, text)]), logits_of(model_again, [encode_words(part.tokenizer, text)])
    )
    with pytest.raises(CheckpointError, match="holds a run already"):
        ClassifierRun(config, data, folder).train()


def test_damaged_and_foreign_folders(data: LabelledTexts, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run folder"):
        load_classifier(tmp_path / "none")
    folder = tmp_path / "run"
    ClassifierRun(small("bag", epochs=1), data, folder).train()
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for change, message in [
        ({"task": "translation"}, "was trained for another task"),
        ({"labels": ["a"]}, "labels are"),
        ({"labels": ["a", "a"]}, "labels are"),
        ({"labels": ["a", "b", "c"]}, "does not hold the model that config.json describes"),
        ({"tokenizer": {}}, "not a tokenizer record"),
        ({"train": {**record["train"], "width": "8"}}, "width is '8'"),
        ({"train": {**record["train"], "more": 1}}, "does not fit this version of tinylm: missing \\[\\], unexpected \\['more'\\]"),
        ({"train": {**record["train"], "width": 9}}, "does not hold the model that config.json describes"),
    ]:
        write_json(folder / "config.json", {**record, **change})
        with pytest.raises(CheckpointError, match=message):
            load_classifier(folder)
    write_json(folder / "config.json", record)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_classifier(folder)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_loss_that_is_not_finite_is_an_error(data: LabelledTexts) -> None:
    with pytest.raises(AnomalyError):
        trained(small("bag", lr=1e38, weight_decay=0.0), prepare_split(data, 0))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_failed_step_is_kept_and_repeated(data: LabelledTexts, tmp_path: Path) -> None:
    """The texts are read again; epoch, dropout and the member whose turn it is are as they were."""
    path = tmp_path / "texts"
    path.write_text("".join(f"{'np'[label]}\t{text}\n" for text, label in zip(data.texts, data.labels, strict=True)), encoding="utf-8")
    config = small("lstm", members=2, epochs=2, dropout=0.3, data=str(path))
    run = ClassifierRun(config, load_labelled(path), tmp_path / "run")
    gradients = run.gradients

    def poisoned(k: int) -> Any:
        if k == 14:  # within the second member's first epoch
            for p in run.task.member.parameters():
                p.data[...] = 3e38
                p.bump_version()
        return gradients(k)

    run.gradients = poisoned  # type: ignore[method-assign]
    with pytest.raises(AnomalyError, match=r"step 15: the loss is .*nothing was updated; .*tinylm replay"):
        run.train()
    kept = json.loads((tmp_path / "run" / "failure" / "report.json").read_text(encoding="utf-8"))
    again = json.loads(json.dumps(replay(tmp_path / "run")))
    assert {**again, "op": None} == {**kept, "op": None}


def test_a_training_part_of_one_class(data: LabelledTexts) -> None:
    labels = np.zeros(60, int)
    labels[split_labelled(60, 0)[1][0]] = 1
    with pytest.raises(DataError, match="the training part of split 0 has one class only: 'neg'"):
        prepare_split(dataclasses.replace(data, labels=labels), 0)


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="model 'tree': expected one of linear, bag, lstm, transformer"):
        default_config("tree")
    for name, value in [("members", 0), ("epochs", 0), ("batch_size", 0), ("lr", -1.0), ("weight_decay", float("nan"))]:
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            ClassifierConfig(**{name: value})


# ---------------------------------------------------------------- interruptions


def outcome(folder: Path) -> tuple[list[dict], dict[str, bytes], dict[str, bytes]]:
    """Returns the lines of metrics.jsonl, the model and the arrays of the last checkpoint."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    files = folder / "model.safetensors", saved_checkpoints(folder)[0]
    model, last = ({name: a.tobytes() for name, a in read_arrays(file)[0].items()} for file in files)
    return lines, model, last


@pytest.mark.parametrize(("kind", "folds"), [*((kind, 0) for kind in MODEL_DEFAULTS), ("linear", 5), ("lstm", 5)])
def test_interrupted_anywhere_it_is_the_same_run(kind: str, folds: int, data: LabelledTexts, tmp_path: Path) -> None:
    """With dropout, without validation and with it; within an epoch, between two epochs and between two members."""
    config = small(kind, members=2, epochs=3, dropout=0.3, word_dropout=0.2, folds=folds)
    ClassifierRun(config, data, tmp_path / "whole").train()
    folder = tmp_path / "parts"
    for i, stop in enumerate((0, 8, 12, 18, 23, None)):
        run = ClassifierRun(config, data, folder, resume=i > 0)
        gradients = run.gradients

        def stopping(k: int, run: ClassifierRun = run, gradients: Any = gradients, stop: int | None = stop) -> Any:
            run.stop_requested = k + 1 == stop
            return gradients(k)

        run.gradients = stopping  # type: ignore[method-assign]
        run.stop_requested = stop == 0
        assert (run.train() is None) == (stop is not None)
        assert stop is None or run.progress.step == stop
        if stop is not None:  # a line that was written when the checkpoint after it was not
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"member": 1, "step": 6, "epoch": 1, "loss": 0.5}\n')
        del run, gradients, stopping
    assert outcome(folder) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("each", [1, 3])
def test_whose_turn_it_is_after_a_checkpoint(each: int, data: LabelledTexts, tmp_path: Path) -> None:
    """The checkpoint after a member's last step still holds that member's optimiser."""
    run = ClassifierRun(small("bag", members=3, epochs=each, batch_size=64), data, tmp_path)
    task = run.task
    assert task.steps_each == each
    for step in range(3 * each + 1):
        record = {"step": step, "total": 0.5, "epoch_key": [1, 2], "generator": [3, 4], "train_seconds": 5.0}
        _, stored = task.from_stored({}, record)
        assert task.member is list(task.model.members)[max(0, -(-step // each) - 1)]
        assert (task.epoch_key, task.total) == ((1, 2), 0.5)
        progress = stored["progress"]
        assert (progress["step"], progress["logged_step"], progress["train_seconds"]) == (step, step, 5.0)
        assert task.to_stored({}, {**stored, "generator": [3, 4]})[1] == record


def test_a_classifiers_checkpoints(data: LabelledTexts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small("lstm", epochs=3)
    run = ClassifierRun(config, data, tmp_path)
    with pytest.raises(CheckpointError, match="is in use by process"):
        ClassifierRun(config, data, tmp_path, resume=True)
    run.train()
    newest, before = saved_checkpoints(tmp_path)
    assert [path.stem for path in (newest, before)] == ["step-00000018", "step-00000012"]
    model, lines, _ = outcome(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    again = ClassifierRun(config, data, tmp_path, resume=True)
    assert "is damaged" in capsys.readouterr().err
    assert again.progress.step == 12
    again.train()
    assert outcome(tmp_path)[:2] == (model, lines)
    del run, again
    for change, message in [
        ({"step": -1}, "it is at step -1"), ({"step": 99}, "it is at step 99"), ({"total": None}, "losses of None"),
        ({"generator": [1]}, "its generator is"), ({"epoch_key": "x"}, "its generator is"),
    ]:  # fmt: skip
        for path in saved_checkpoints(tmp_path):
            arrays, record = read_arrays(path)
            write_arrays(path.with_name("step-00000099.safetensors"), arrays, {**record, **change})
        path = saved_checkpoints(tmp_path)[0]
        for other in saved_checkpoints(tmp_path)[1:]:
            other.rename(other.with_suffix(".kept"))
        with pytest.raises(CheckpointError, match=message):
            ClassifierRun(config, data, tmp_path, resume=True)
        path.unlink()
        for kept in (tmp_path / "checkpoints").glob("*.kept"):
            kept.rename(kept.with_suffix(".safetensors"))
