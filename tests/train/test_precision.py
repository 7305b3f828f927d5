"""Runs whose products round their operands to bfloat16: in training and validation, after a resume, in threads and in a replay."""

import json
from pathlib import Path

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script_here
from small_runs import TEXT, assert_same_run, resumed, small
from thread_ranks import on_ranks

from tinylm import products
from tinylm.data.labelled import load_labelled
from tinylm.engine.products import products_mode
from tinylm.errors import AnomalyError
from tinylm.train import Run
from tinylm.train.replay import failed_run
from tinylm.train.tasks.classification import logits_of, prepare_split, start_classifier
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_run import train_classifier
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.token_losses import validation_loss

ROUNDED = {"precision": "bfloat16", "steps": 8, "eval_every": 4, "save_every": 4, "log_every": 2}


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_a_resumed_run_is_the_same_run(model: str, tmp_path: Path) -> None:
    whole = Run(small(model, **ROUNDED), tmp_path / "whole", TEXT)
    summary = whole.train()
    assert not products_mode.rounded
    Run(small(model, **(ROUNDED | {"steps": 4})), tmp_path / "half", TEXT).train()
    rest = resumed(tmp_path / "half", steps=8)
    assert rest.config.precision == "bfloat16"
    again = rest.train()
    assert_same_run(rest, whole)
    assert summary is not None
    assert again is not None
    assert again["val_loss"] == summary["val_loss"]

    plain = Run(small(model, **(ROUNDED | {"precision": "float32"})), tmp_path / "plain", TEXT)
    plain.train()
    with pytest.raises(AssertionError):
        assert_same_run(plain, whole)
    exact = validation_loss(whole.model, whole.task.val_ids)
    with products("bfloat16"):
        rounded = validation_loss(whole.model, whole.task.val_ids)
    assert summary["val_loss"] == rounded != exact  # a run validates in its own precision
    assert rounded == pytest.approx(exact, abs=0.02)


def test_a_resume_may_change_the_precision(tmp_path: Path) -> None:
    Run(small("gpt", **(ROUNDED | {"steps": 4, "precision": "float32"})), tmp_path, TEXT).train()
    changed = resumed(tmp_path, steps=8, precision="bfloat16")
    changed.train()
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["train"]
    assert config["precision"] == "float32"  # what the run began with
    assert changed.config.precision == "bfloat16"


def test_every_rank_rounds(tmp_path: Path) -> None:
    """In threads, each of which has a precision of its own."""
    alone = Run(small("lstm", **ROUNDED, dropout=0.0), tmp_path / "alone", TEXT)
    alone.train()

    def trained(ranks):
        run = Run(small("lstm", **ROUNDED, dropout=0.0), tmp_path / "together", TEXT, ranks=ranks)
        seen = []
        loss = run.task.loss
        run.task.loss = lambda *args: (seen.append(products_mode.rounded), loss(*args))[1]
        run.train()
        return seen, run.progress.val_loss

    for seen, value in on_ranks(2, trained):
        assert seen == [True] * 8
        assert value == pytest.approx(alone.progress.val_loss, abs=0.01)


def test_a_failed_step_is_repeated_in_its_precision(tmp_path: Path) -> None:
    """That of the step, which a resume may have changed since config.json was written."""
    Run(small("gpt", **(ROUNDED | {"steps": 4, "precision": "float32"})), tmp_path, TEXT).train()
    run = resumed(tmp_path, steps=8, precision="bfloat16")
    for p in run.model.parameters():
        p.data[...] = np.nan
        p.bump_version()
    with pytest.raises(AnomalyError):
        run.train()
    assert failed_run(tmp_path).config.precision == "bfloat16"


def test_a_classifier_is_trained_in_its_precision() -> None:
    part = prepare_split(load_labelled("uci-sentences"), 0)._replace(train_texts=[np.arange(3, 9)] * 32, train_labels=np.arange(32) % 2)
    found = []
    for precision in ("float32", "bfloat16", "bfloat16"):
        config = ClassifierConfig(model="lstm", members=1, width=8, hidden=8, epochs=1, folds=0, precision=precision)
        model = start_classifier(config, part)
        train_classifier(model, config, part)
        found.append(logits_of(model, part.train_texts[:2]))
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_allclose(found[0], found[1], atol=0.02)


# ---------------------------------------------------------------- on the command line


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision") / "run"
    Run(small("gpt", **ROUNDED), folder, TEXT).train()
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("score.py", "the lazy dog"),
        ("evaluate.py", "--data", "tinyshakespeare", "--dry-run"),
        ("explain.py", "backward", "the lazy"),
        ("explain.py", "loss", "the lazy dog", "--json"),
        ("generate.py", "--prompt", "the", "--tokens", "40", "--temperature", "3"),
    ],
)
def test_reading_takes_float32_unless_it_is_told(command: tuple[str, ...], run_folder: Path) -> None:
    """Whatever the run was trained with."""
    name, *arguments = command
    at = 1 if name == "explain.py" else 0
    if "tinyshakespeare" in arguments:
        text = run_folder.parent / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        arguments[arguments.index("tinyshakespeare")] = str(text)

    def shown(*more: str) -> str:
        return ends_well(script_here(name, *arguments[:at], run_folder, *arguments[at:], *more))

    plain = shown()
    assert plain == shown("--precision", "float32")
    assert plain != shown("--precision", "bfloat16") or name == "generate.py"


def test_a_run_with_the_option(tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text(TEXT, encoding="utf-8")
    shape = ["--n-layer", "1", "--n-embd", "8", "--block-size", "8"]
    folder = tmp_path / "run"
    train = "--data", data, "--out", folder, "--steps", 2, "--precision"
    ends_well(script_here("train.py", *train, "bfloat16", *shape))
    assert read_config(folder, small("gpt").__class__)[0].precision == "bfloat16"
    ends_well(script_here("train.py", "--resume", folder, "--steps", 4, "--precision", "float32"))
    fails_with_one_line(script_here("train.py", "--precision", "bfloat17"), "bfloat17")
    ends_well(script_here("train_torch.py", folder, "--dry-run"))


def test_a_page_computes_in_float32(run_folder: Path) -> None:
    result = script_here("explain.py", "page", run_folder, "the", "--precision", "bfloat16")
    fails_with_one_line(result, "--precision bfloat16: a page computes in float32")
