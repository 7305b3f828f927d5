"""Runs that train a classifier, in a folder or without one."""

from pathlib import Path

from tinylm.data.labelled import LabelledTexts
from tinylm.engine.random_keys import Generator, current, drawing_from
from tinylm.errors import AnomalyError
from tinylm.models.classifier import Ensemble
from tinylm.train.failures import examine, explained
from tinylm.train.loop import Training
from tinylm.train.records import Report
from tinylm.train.run_folder import never_started
from tinylm.train.tasks.classification import Split, prepare_split, start_classifier
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_task import Classification
from tinylm.train.tasks.data_note import DATA_FILE, check_data, data_note, keep_note
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.resuming import goes_on, settings_to_go_on


class MemberTraining(Training):
    """A training that is done when the last member is."""

    task: Classification

    def finished(self) -> bool:
        return len(self.task.starts) > len(self.task.model.members)


class ClassifierRun(MemberTraining):
    """A classifier's training on one split in a run folder, made fresh or resumed from its newest whole checkpoint."""

    def __init__(
        self, config: ClassifierConfig, data: LabelledTexts, folder: str | Path, resume: bool = False, accept_new_data: bool = False,
        exist_ok: bool = False,
    ) -> None:  # fmt: skip
        """accept_new_data: resume on texts that are not those the run was trained on, which is otherwise a DataError.
        exist_ok: go on with a run that the folder holds, as that of a language model does, and begin one where there is none.

        Raises CheckpointError when the folder holds a run already, or is in use."""
        folder = Path(folder)
        if exist_ok and not resume and goes_on(folder):
            resume, config = True, settings_to_go_on(folder, config)
        resume = resume and not never_started(folder)
        note = data_note(data, config.data)
        if resume:
            check_data(folder, note, accept_new_data)
        part = prepare_split(data, config.split, config.min_count, read_config(folder, ClassifierConfig)[1] if resume else None)
        generator = Generator()
        with drawing_from(generator):
            model = start_classifier(config, part)  # settings that do not fit are reported before anything is written
        record = {"task": config.task, "train": config.to_json(), "tokenizer": part.tokenizer.to_json(), "labels": list(data.names)}
        task = Classification(config, model, part, data, {DATA_FILE: note, "config.json": record})
        super().__init__(task, folder, generator=generator)
        self.open(resume, take_over=exist_ok)
        if resume:
            keep_note(folder, note, self.progress.step)


class Unsaved(MemberTraining):
    """A training that leaves nothing behind."""

    def save(self) -> None:
        """Writes nothing."""

    def failure(self, k: int) -> AnomalyError:
        """Returns the error of step k, which nothing can repeat later."""
        return AnomalyError(explained(examine(self.state, self.gradients, k)))


def train_classifier(model: Ensemble, config: ClassifierConfig, part: Split, report: Report = lambda record: None) -> None:
    """Trains a model outside any folder, calibrates it and leaves it in evaluation mode; `report` gets one record per epoch and member.
    Random numbers come from the current generator, as those of `start_classifier` do.

    Raises AnomalyError when a loss or gradient is no longer finite.
    """
    training = Unsaved(Classification(config, model, part), Path(), generator=current.generator)
    while not training.finished():
        training.advance(report)
    model.eval()
    training.task.calibrate()
