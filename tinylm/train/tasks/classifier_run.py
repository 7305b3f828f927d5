"""Training a classifier in a run folder: config.json, metrics.jsonl, summary.json, model.safetensors, checkpoints/."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.labelled import LabelledTexts, pad_texts
from tinylm.engine.random_keys import default_generator, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError
from tinylm.files.json_files import write_json
from tinylm.models.classifier import Ensemble
from tinylm.optim import AdamW
from tinylm.train.checkpoints import model_arrays, save_arrays
from tinylm.train.metrics import MetricsLog
from tinylm.train.run_folder import RunLock, checkpoint_path, keep_newest, newest_whole, refuse_used
from tinylm.train.snapshots import compare_arrays, generator_state
from tinylm.train.tasks.classification import (
    TASK,
    Report,
    Split,
    accuracy,
    logits_of,
    naive_bayes_accuracy,
    prepare_split,
    start_classifier,
)
from tinylm.train.tasks.classifier_config import ClassifierConfig

KEEP = 2  # checkpoints


class ClassifierTraining:
    """The members of an ensemble, trained one after the other on the binary cross-entropy, a step at a time.

    Where it stands is the number of steps, the key that ordered the texts of the epoch under way, the sum of that
    epoch's losses and the optimiser of the member under way.
    """

    def __init__(self, model: Ensemble, config: ClassifierConfig, part: Split) -> None:
        self.model, self.config, self.part = model, config, part
        self.batches_per_epoch = -(-len(part.train_texts) // config.batch_size)
        self.steps_each = config.epochs * self.batches_per_epoch
        self.steps = self.steps_each * len(model.members)
        self.step, self.epoch_key, self.total = 0, (0, 0), 0.0
        self._lengths = np.array([len(ids) for ids in part.train_texts])
        self._epoch: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None
        self._begin_member(0)

    def _begin_member(self, number: int) -> None:
        self.member = list(self.model.members)[number]
        self.member.train()
        groups = [
            {"params": [p for p in self.member.parameters() if p.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in self.member.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = AdamW([g for g in groups if g["params"]], lr=self.config.lr, betas=(0.9, 0.99))

    def place(self) -> tuple[int, int, int]:
        """(member, epoch, batch of the epoch) of the next step, counted from 0."""
        number, step = divmod(self.step, self.steps_each)
        return (number, *divmod(step, self.batches_per_epoch))

    def _rows(self, column: int) -> np.ndarray:
        """The texts of a batch: those of about one length share one, so that there is less to pad."""
        if self._epoch is None or self._epoch[0] != self.epoch_key:
            random = np.random.Generator(philox(self.epoch_key))
            order = np.argsort(self._lengths + random.uniform(0, 5, self._lengths.size))
            self._epoch = self.epoch_key, order, random.permutation(self.batches_per_epoch)
        _, order, batches = self._epoch
        start = batches[column] * self.config.batch_size
        return order[start : start + self.config.batch_size]

    def advance(self) -> dict[str, Any] | None:
        """Makes a step; the record of the epoch that it ends, else None.

        Errors: AnomalyError when a loss or gradient is not finite.
        """
        number, epoch, column = self.place()
        if column == 0:
            self.epoch_key, self.total = default_generator.next_key(), 0.0
            if epoch == 0 and number:
                self._begin_member(number)
        rows, part = self._rows(column), self.part
        ids, real = pad_texts([part.train_texts[i] for i in rows])
        labels = Tensor(part.train_labels[rows].astype(np.float32))
        loss = ops.binary_cross_entropy_with_logits(self.member(Tensor(ids), real), labels)
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * (1 - self.step % self.steps_each / self.steps_each)
        self.optimizer.step(max_norm=1.0)
        self.total += loss.item() * len(rows)
        if not np.isfinite(self.total):
            raise AnomalyError(f"the training loss is {self.total} in epoch {epoch + 1} of model {number + 1}: try a lower learning rate")
        self.step += 1
        if column + 1 < self.batches_per_epoch:
            return None
        return {
            "member": number + 1,
            "step": (epoch + 1) * self.batches_per_epoch,
            "epoch": epoch + 1,
            "loss": self.total / len(part.train_texts),
        }

    # ---- checkpoints

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, record) of where it stands."""
        arrays = {f"model.{name}": a for name, a in model_arrays(self.model).items()}
        arrays |= {f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()}
        record = {"step": self.step, "epoch_key": list(self.epoch_key), "total": self.total, "generator": list(default_generator.state)}
        return arrays, record

    def restore(self, path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Goes on from a snapshot. Errors: CheckpointError for one that does not fit."""
        try:
            step, total = record.get("step"), record.get("total")
            if type(step) is not int or not 0 <= step <= self.steps or type(total) is not float:
                raise ValueError(f"it is at step {step!r:.40} with losses of {total!r:.40}, expected 0 to {self.steps} and a sum")
            epoch_key, generator = generator_state(record.get("epoch_key")), generator_state(record.get("generator"))
            self._begin_member(max(step - 1, 0) // self.steps_each)
            compare_arrays(self.snapshot()[0], arrays)
        except ValueError as error:
            raise CheckpointError(f"{path} does not fit the run that config.json describes: {error}") from error
        self.model.load_state_dict({n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")})
        self.optimizer.load_state_dict({n.removeprefix("optimizer."): a for n, a in arrays.items() if n.startswith("optimizer.")})
        self.step, self.total, self.epoch_key, default_generator.state = step, total, epoch_key, generator


class ClassifierRun:
    """A classifier's training on one split in a run folder, made fresh or resumed from its newest whole checkpoint.

    As with a language model's, a run that was stopped and resumed is the uninterrupted one, bit for bit. There is a
    checkpoint after each epoch and where it is stopped.
    Errors: CheckpointError when the folder holds a run already, or is in use.
    """

    def __init__(self, config: ClassifierConfig, data: LabelledTexts, folder: Path, resume: bool = False) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.part = prepare_split(data, config.split, config.min_count)
        if not resume:
            refuse_used(folder)
        self.model = start_classifier(config, self.part)  # settings that do not fit are reported before anything is written
        self.training = ClassifierTraining(self.model, config, self.part)
        self.seconds = 0.0
        self.stop_requested = False  # set it to stop after the step under way
        self.lock = RunLock(folder)
        self.lock.acquire()
        try:
            if resume:
                newest_whole(folder, self._restore, set_aside=True)
            else:
                tokenizer, labels = self.part.tokenizer.to_json(), list(data.names)
                record = {"task": TASK, "train": dataclasses.asdict(config), "tokenizer": tokenizer, "labels": labels}
                write_json(folder / "config.json", record)
            number, epoch, _ = self.training.place()
            self.log = MetricsLog(folder / "metrics.jsonl", self.training.step, lines=number * config.epochs + epoch)
        except CheckpointError:
            self.lock.release()
            raise

    def train(self, report: Report = lambda record: None) -> dict[str, Any] | None:
        """Trains, and returns the summary: accuracy on the test part and more; None when it was asked to stop before.

        Errors: those of `ClassifierTraining.advance`; CheckpointError when a file cannot be written.
        """
        with self.lock:
            training, began = self.training, time.perf_counter() - self.seconds
            while training.step < training.steps:
                if self.stop_requested:
                    self.save()
                    return None
                line = training.advance()
                self.seconds = time.perf_counter() - began
                if line is not None:
                    self.log.write(line)
                    report(line)
                    self.save()
            self.model.eval()
            return self._finish()

    def save(self) -> None:
        """Writes checkpoints/step-N.safetensors."""
        arrays, record = self.training.snapshot()
        save_arrays(checkpoint_path(self.folder, self.training.step), arrays, {**record, "train_seconds": self.seconds})
        keep_newest(self.folder, KEEP)

    def _restore(self, path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        self.training.restore(path, arrays, record)
        self.seconds = float(record["train_seconds"])

    def _finish(self) -> dict[str, Any]:
        summary = {
            "accuracy": accuracy(logits_of(self.model, self.part.test_texts), self.part.test_labels),
            "naive_bayes_accuracy": naive_bayes_accuracy(prepare_split(self.data, self.config.split)),
            "train_texts": len(self.part.train_texts),
            "test_texts": len(self.part.test_texts),
            "skipped_lines": self.data.skipped,
            "parameters": self.model.num_parameters(),
            "train_seconds": self.seconds,
        }
        save_arrays(self.folder / "model.safetensors", model_arrays(self.model), {"accuracy": summary["accuracy"]})
        write_json(self.folder / "summary.json", summary)
        return summary


def train_classifier(model: Ensemble, config: ClassifierConfig, part: Split, report: Report = lambda record: None) -> None:
    """Trains a model outside any folder and leaves it in evaluation mode; `report` gets a record an epoch and member.

    Errors: AnomalyError when a loss or gradient is no longer finite.
    """
    training = ClassifierTraining(model, config, part)
    while training.step < training.steps:
        if line := training.advance():
            report(line)
    model.eval()
