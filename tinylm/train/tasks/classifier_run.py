"""Classification: the members of an ensemble, trained one after the other, and runs that train them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.labelled import LabelledTexts, pad_texts
from tinylm.engine.random_keys import Generator, current, drawing_from, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError
from tinylm.models.classifier import Ensemble
from tinylm.optim import AdamW
from tinylm.optim.groups import decay_groups
from tinylm.train.failures import examine, explained
from tinylm.train.loop import Training
from tinylm.train.records import Report
from tinylm.train.run_folder import never_started
from tinylm.train.snapshots import generator_state
from tinylm.train.state import Progress
from tinylm.train.tasks.classification import Split, accuracy, logits_of, naive_bayes_accuracy, prepare_split, start_classifier
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.data_note import DATA_FILE, check_data, data_note, keep_note, source_of
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.resuming import goes_on, settings_to_go_on
from tinylm.train.tasks.settings import LoopSettings
from tinylm.train.tasks.task import Carried, MicroBatch, Stored, Task


@dataclass
class Classification(Task):
    """Labelled texts in batches, an ensemble, and the binary cross-entropy of the member whose turn it is. A `Task`.

    Each member is trained for all its epochs, with an optimiser of its own, before the next one begins. There is no
    validation part; a record and a checkpoint are due after each epoch.
    """

    settings: ClassifierConfig
    model: Ensemble
    part: Split
    data: LabelledTexts | None = None  # where the part is from
    files: dict[str, Any] = field(default_factory=dict)
    validates = False

    def __post_init__(self) -> None:
        self.batches_per_epoch = -(-len(self.part.train_texts) // self.settings.batch_size)
        self.steps_each = self.settings.epochs * self.batches_per_epoch  # of a member
        steps = self.steps_each * len(self.model.members)
        self.config = LoopSettings(
            lr=self.settings.lr, clip=1.0, steps=steps, schedule_steps=steps, log_every=self.batches_per_epoch,
            save_every=self.batches_per_epoch, save_minutes=0.0, keep=2, precision=self.settings.precision,
        )  # fmt: skip
        self.epoch_key, self.total = (0, 0), 0.0  # what ordered the texts of the current epoch, and the sum of its losses
        self._lengths = np.array([len(ids) for ids in self.part.train_texts])
        self._epoch: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None

    def build_updates(self) -> None:
        self.schedule = lambda k: self.settings.lr * (1 - k % self.steps_each / self.steps_each)
        self.begin_member(0)

    def begin_member(self, number: int) -> None:
        """It is this member's turn, counted from 0."""
        self.member = list(self.model.members)[number]
        self.member.train()
        groups = decay_groups(self.member.named_parameters(), self.settings.weight_decay)
        self.optimizer = AdamW(groups, lr=self.settings.lr, betas=(0.9, 0.99))

    def place(self, k: int) -> tuple[int, int, int]:
        """Returns (member, epoch, batch of the epoch) of step k, counted from 0."""
        number, step = divmod(k, self.steps_each)
        return (number, *divmod(step, self.batches_per_epoch))

    def batch(self, column: int) -> dict[str, np.ndarray]:
        """Returns a batch of the current epoch: texts of about one length are together, so that there is less to pad."""
        if self._epoch is None or self._epoch[0] != self.epoch_key:
            random = np.random.Generator(philox(self.epoch_key))
            order = np.argsort(self._lengths + random.uniform(0, 5, self._lengths.size))
            self._epoch = self.epoch_key, order, random.permutation(self.batches_per_epoch)
        _, order, batches = self._epoch
        start = batches[column] * self.settings.batch_size
        rows = order[start : start + self.settings.batch_size]
        ids, lengths = pad_texts([self.part.train_texts[i] for i in rows])
        return {"ids": ids, "lengths": lengths, "labels": self.part.train_labels[rows].astype(np.float32)}

    def micro_batches(self, k: int) -> list[MicroBatch]:
        number, epoch, column = self.place(k)
        if column == 0:
            self.epoch_key, self.total = current.generator.next_key(), 0.0
            if epoch == 0 and number:
                self.begin_member(number)
        return [MicroBatch(self.batch(column), slice(None), 1.0)]

    def loss(self, batch: dict[str, np.ndarray], carried: Carried | None) -> tuple[Tensor, Carried | None]:
        logits = self.member(Tensor(batch["ids"]), batch["lengths"])
        loss = ops.binary_cross_entropy_with_logits(logits, Tensor(batch["labels"]))
        self.total += loss.item() * len(batch["labels"])
        return loss, None

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        return self.batch(self.place(k)[2])

    def about(self) -> tuple[str, str]:
        texts = f"{len(self.part.train_texts):,} texts for training, {len(self.part.test_texts):,} for the test"
        return self.settings.model, f"{source_of(self.files)}{texts}"

    def epoch_record(self, step: int) -> dict[str, Any]:
        number, epoch, _ = self.place(step - 1)
        loss = self.total / len(self.part.train_texts)
        return {"member": number + 1, "step": (epoch + 1) * self.batches_per_epoch, "epoch": epoch + 1, "loss": loss}

    def lines_until(self, step: int) -> int:
        number, epoch, _ = self.place(step)
        return number * self.settings.epochs + epoch

    def results(self, train_seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
        assert self.data is not None
        self.model.eval()
        summary = {
            "accuracy": accuracy(logits_of(self.model, self.part.test_texts), self.part.test_labels),
            "naive_bayes_accuracy": naive_bayes_accuracy(prepare_split(self.data, self.settings.split)),
            "train_texts": len(self.part.train_texts),
            "test_texts": len(self.part.test_texts),
            "skipped_lines": self.data.skipped,
            "parameters": self.model.num_parameters(),
            "train_seconds": train_seconds,
        }
        return summary, {"accuracy": summary["accuracy"]}

    def to_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        progress = record["progress"]
        stored = {"step": progress["step"], "epoch_key": list(self.epoch_key), "total": self.total, "generator": record["generator"]}
        arrays = {name: a for name, a in arrays.items() if name != "losses.sum"}
        return arrays, {**stored, "train_seconds": progress["train_seconds"]}

    def from_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        step, total, steps = record.get("step"), record.get("total"), self.config.steps
        if type(step) is not int or not 0 <= step <= steps or type(total) is not float:
            raise ValueError(f"it is at step {step!r:.40} with losses of {total!r:.40}, expected 0 to {steps} and a sum")
        epoch_key, generator = generator_state(record.get("epoch_key")), record.get("generator")
        self.begin_member(max(step - 1, 0) // self.steps_each)
        self.epoch_key, self.total = epoch_key, total
        progress = {**vars(Progress()), "step": step, "logged_step": step, "train_seconds": record.get("train_seconds")}
        return {**arrays, "losses.sum": np.zeros((), np.float32)}, {"progress": progress, "generator": generator}


class ClassifierRun(Training):
    """A classifier's training on one split in a run folder, made fresh or resumed from its newest whole checkpoint."""

    task: Classification

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


class Unsaved(Training):
    """A training that leaves nothing behind."""

    def save(self) -> None:
        """Writes nothing."""

    def failure(self, k: int) -> AnomalyError:
        """Returns the error of step k, which nothing can repeat later."""
        return AnomalyError(explained(examine(self.state, self.gradients, k)))


def train_classifier(model: Ensemble, config: ClassifierConfig, part: Split, report: Report = lambda record: None) -> None:
    """Trains a model outside any folder and leaves it in evaluation mode; `report` gets one record per epoch and member.
    Random numbers come from the current generator, as those of `start_classifier` do.

    Raises AnomalyError when a loss or gradient is no longer finite.
    """
    training = Unsaved(Classification(config, model, part), Path(), generator=current.generator)
    while training.progress.step < training.config.steps:
        training.advance(report)
    model.eval()
