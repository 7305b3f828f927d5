"""A user who may not read, search or write what the files of a run are in: each use gives an error of tinylm's own."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, stop_at, tiny_run

from tinylm.data.labelled import LabelledTexts
from tinylm.engine.random_keys import default_generator
from tinylm.errors import CheckpointError
from tinylm.models import GPT
from tinylm.pretrained.model_export import save_pretrained
from tinylm.pretrained.model_loading import find_pretrained, load_model_as, load_tokenizer
from tinylm.train import Run, TrainConfig, load_run
from tinylm.train.metrics import read_metrics
from tinylm.train.replay import replay
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.classifier_config import ClassifierConfig, default_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.fine_tuning import fine_tuning_config
from tinylm.train.tasks.loading import read_config, tokenizer_of
from tinylm.train.tasks.translation import load_translator

NOBODY = 65534
LABELLED = LabelledTexts([f"good {i}" if i % 2 else f"bad {i}" for i in range(40)], np.arange(40) % 2, ("no", "yes"), 0, "")
BAG = dataclasses.replace(default_config("bag"), epochs=2, members=1, buckets=32)


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Within it this process is a user whom permissions bind: root becomes nobody."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.fixture(scope="module")
def runs() -> Iterator[Path]:
    """Returns a folder that everyone may enter with a stopped GPT, a translator, a classifier, and an exported model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for model in ("gpt", "translator"):
            stop_at(run := tiny_run(model, folder / model), 9)
            run.train()
        ClassifierRun(BAG, LABELLED, folder / "classifier").train()
        model, tokenizer, _ = load_run(folder / "gpt")
        assert isinstance(model, GPT)
        save_pretrained(model, folder / "exported", tokenizer)
        yield folder


def resume(folder: Path) -> None:
    config, tokenizer = read_config(folder, TrainConfig)
    Run(config, folder, TEXT, tokenizer, resume=True).train()


def resume_classifier(folder: Path) -> None:
    ClassifierRun(read_config(folder, ClassifierConfig)[0], LABELLED, folder, resume=True).train()


USES: dict[str, dict[str, Callable[[Path], Any]]] = {
    "gpt": {
        "load": load_run, "resume": resume, "replay": replay, "init": lambda folder: fine_tuning_config(str(folder), False),
        "metrics": lambda folder: read_metrics(folder / "metrics.jsonl"),
        "start inside": lambda folder: tiny_run("gpt", folder / "new"), "tokenizer": tokenizer_of,
    },
    "translator": {"load": load_translator, "resume": lambda folder: tiny_run("translator", folder, resume=True).train()},
    "classifier": {"load": load_classifier, "resume": resume_classifier},
    "exported": {
        "load": load_run, "find": find_pretrained, "tokenizer": load_tokenizer, "model": lambda folder: load_model_as(GPT, folder),
        "export": lambda folder: save_pretrained(GPT.from_pretrained(folder), folder / "again", None),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
def test_each_file_and_folder_that_may_not_be_used(name: str, runs: Path) -> None:
    """Each path loses in turn all rights, or those to write. Either the use does not need it, or it is an error that names it."""
    shutil.copytree(runs / name, runs / "first")
    for action in USES[name].values():  # imports what it needs: nobody may not read Python's own files
        with contextlib.suppress(CheckpointError):
            action(runs / "first")
    shutil.rmtree(runs / "first")
    failed = []
    originals = [runs / name, *sorted((runs / name).rglob("*"))]
    for original in originals:
        for mode in (0, 0o555 if original.is_dir() else 0o444):
            for use, action in USES[name].items():
                shutil.rmtree(work := runs / "work", ignore_errors=True)
                shutil.copytree(runs / name, work)
                for path in (work, *work.rglob("*")):
                    path.chmod(0o777)
                taken = work / original.relative_to(runs / name)
                taken.chmod(mode)
                default_generator.seed(0)
                try:
                    with without_rights():
                        action(work)
                except CheckpointError as error:
                    message = str(error)
                    if not ("ermission" in message or "holds no failed step" in message):
                        failed.append((use, taken.relative_to(work), mode, message))
                except Exception as error:
                    failed.append((use, taken.relative_to(work), mode, repr(error)))
                with contextlib.suppress(FileNotFoundError):  # a resumed run deletes old checkpoints
                    taken.chmod(0o777)
    assert not failed, "\n".join(map(str, failed))
