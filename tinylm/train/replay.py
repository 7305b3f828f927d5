"""Repeating a training step that failed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.labelled import load_parts
from tinylm.data.pairs import Batch
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.errors import CheckpointError, DataError
from tinylm.files.regular_files import exists
from tinylm.files.signed_arrays import read_arrays
from tinylm.train.failures import examine
from tinylm.train.loop import Training
from tinylm.train.snapshots import restore
from tinylm.train.tasks.classification import prepare_split
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_task import Classification
from tinylm.train.tasks.data_note import data_note, what_changed
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.language_modeling import LanguageModeling
from tinylm.train.tasks.loading import read_config, read_record, task_of, untrained_model
from tinylm.train.tasks.settings import UpdateSettings
from tinylm.train.tasks.task import Task
from tinylm.train.tasks.translation import Translation
from tinylm.train.tasks.translation_config import TranslationConfig, vocabulary_of


@dataclass
class OneBatch:
    """The data of a run that has but one batch, whatever its number."""

    batch: Any
    afresh: bool

    def __getitem__(self, k: int) -> Any:
        return self.batch

    def starts_afresh(self, k: int) -> bool:
        """Whether the batch continues none before it."""
        return self.afresh


def failed_run(folder: Path) -> Training:
    """Returns the run as it was before the step that failed, with that step's batch as its only data: from config.json
    and failure/ alone. It can be examined, but not trained further.

    Raises CheckpointError when the folder has no failure, or a damaged one.
    """
    path = folder / "failure" / "state.safetensors"
    if not exists(path):
        raise CheckpointError(f"{folder} holds no failed step: there is no {path}")
    arrays, record = read_arrays(path)
    batch = {name.removeprefix("batch."): a for name, a in arrays.items() if name.startswith("batch.")}
    generator = Generator()
    try:
        with drawing_from(generator):
            task = task_with_batch(folder, batch, bool(record["starts_afresh"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has no batch for {task_of(read_record(folder))}: it holds {sorted(batch)}") from error
    if "precision" in record:  # of that step: a resume may have changed the run's
        task.config = dataclasses.replace(task.config, precision=record["precision"])
    run = Training(task, folder, generator=generator)
    restore(run.state, path, {name: a for name, a in arrays.items() if not name.startswith("batch.")}, record)
    run.model.train()
    return run


def task_with_batch(folder: Path, batch: dict[str, np.ndarray], afresh: bool) -> Task:
    """Returns the task of a run with this one batch, by the names of `Task.batch_arrays`. Raises KeyError or TypeError for other names."""
    kinds: dict[str, type[UpdateSettings]] = {kind.task: kind for kind in (TranslationConfig, ClassifierConfig)}
    config, tokenizer = read_config(folder, kinds.get(task_of(read_record(folder)), TrainConfig))
    model = untrained_model(folder, config, tokenizer)
    if isinstance(config, TranslationConfig):
        pairs = Batch(**{**batch, "target_tokens": int(batch["target_tokens"])})  # type: ignore[arg-type]
        return Translation(config, model, OneBatch(pairs, afresh), vocabulary_of(folder, config, tokenizer))
    if isinstance(config, ClassifierConfig):  # its batch is one of its texts, which are read again
        data = load_parts(config.data, config.valid, config.test, config.encoding)
        if problem := what_changed(folder, data_note(data, config.data)):
            raise DataError(f"the failed step cannot be repeated: {problem}")
        return Classification(config, model, prepare_split(data, config.split, config.min_count, tokenizer))
    assert isinstance(config, TrainConfig)
    return LanguageModeling(config, model, OneBatch((batch["inputs"], batch["targets"]), afresh), tokenizer)


def replay(folder: Path) -> dict[str, Any]:
    """Repeats the step that failed, and returns the report as failure/report.json has it; `explained` makes it a line."""
    run = failed_run(folder)
    return examine(run.state, run.gradients, run.progress.step)
