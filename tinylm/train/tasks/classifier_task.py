"""Classification: the members of an ensemble, trained one after the other, validated and calibrated."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tinylm import ops
from tinylm.data.labelled import LabelledTexts, pad_texts
from tinylm.engine.devices import to_numpy
from tinylm.engine.random_keys import current, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.classifier import Ensemble
from tinylm.optim import AdamW
from tinylm.optim.groups import decay_groups
from tinylm.train.snapshots import compare_arrays, generator_state
from tinylm.train.state import Progress
from tinylm.train.tasks.class_figures import bootstrap_interval, figures_of, fit_temperature, log_probabilities
from tinylm.train.tasks.classification import (
    Split,
    baselines,
    class_weights,
    logits_of,
    prepare_split,
    said,
    validation_parts,
)
from tinylm.train.tasks.classifier_config import ClassifierConfig, calibrates
from tinylm.train.tasks.data_note import source_of
from tinylm.train.tasks.settings import LoopSettings
from tinylm.train.tasks.task import Carried, MicroBatch, Stored, Task


class Outcome(NamedTuple):
    """What a finished run says of its test part. figures: those of `figures_of`, and `against`: {baseline: {accuracy, difference,
    interval}}, the difference in accuracy on the same texts with its 95 % interval.  log_p (N, classes)."""

    figures: dict[str, Any]
    log_p: np.ndarray


@dataclass
class Classification(Task):
    """Labelled texts in batches, an ensemble, and the cross-entropy of the member whose turn it is. A `Task`.

    Each member is trained for its epochs, with an optimiser of its own, before the next one begins. After each epoch a record and a
    checkpoint are due, and the member is validated: it keeps its best weights, those it began with included, and ends after
    `patience` epochs that were no better. Validation compares log losses at the temperature that is best for each, since
    the temperature of the whole model is fitted at the end.
    """

    settings: ClassifierConfig
    model: Ensemble
    part: Split
    data: LabelledTexts | None = None  # where the part is from
    files: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None  # of a finished run
    validates = False  # as the loop does it, for all of the model

    def __post_init__(self) -> None:
        self.held, part = validation_parts(self.settings, self.part), self.part
        self.calibrates = calibrates(self.settings)
        if self.calibrates and not (len(part.valid_texts) or len(self.held[0])):
            raise ConfigError(f"valid is {self.settings.valid!r:.80}, but the data have no validation part: expected those of load_parts")
        self.class_weights = class_weights(self.settings, part.train_labels, part.names).astype(np.float32)
        self.count = len(part.train_texts) - len(self.held[0])  # texts that a member is trained on
        self.batches_per_epoch = -(-self.count // self.settings.batch_size)
        self.steps_each = self.settings.epochs * self.batches_per_epoch  # of a member, at most
        steps = self.steps_each * len(self.model.members)
        self.config = LoopSettings(
            lr=self.settings.lr, clip=1.0, steps=steps, schedule_steps=steps, log_every=self.batches_per_epoch,
            save_every=self.batches_per_epoch, save_minutes=0.0, keep=2, precision=self.settings.precision,
        )  # fmt: skip
        self.epoch_key, self.total = (0, 0), 0.0  # what ordered the texts of the current epoch, and the sum of its losses
        self.starts = [0]  # the step at which each member that has begun did, and after the last member that at which it ended
        self._lengths = np.array([len(ids) for ids in part.train_texts])

    def build_updates(self) -> None:
        self.schedule = lambda k: self.settings.lr * (1 - (k - self.starts[self.place(k)[0]]) / self.steps_each)
        self.begin_member(0)

    def begin_member(self, number: int) -> None:
        """It is this member's turn, counted from 0."""
        self.number, self.member = number, list(self.model.members)[number]
        self.member.train()
        groups = decay_groups(self.member.named_parameters(), self.settings.weight_decay)
        self.optimizer = AdamW(groups, lr=self.settings.lr, betas=(0.9, 0.99))
        self.used = np.delete(np.arange(len(self._lengths)), self.held[number])  # its training texts
        self.best: dict[str, np.ndarray] = {}
        self.best_loss, self.since_best = float("inf"), 0
        self._epoch: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None

    def place(self, k: int) -> tuple[int, int, int]:
        """Returns (member, epoch, batch of the epoch) of step k, counted from 0."""
        number = min(bisect_right(self.starts, k), len(self.model.members)) - 1
        return (number, *divmod(k - self.starts[number], self.batches_per_epoch))

    def batch(self, column: int) -> dict[str, np.ndarray]:
        """Returns a batch of the current epoch: texts of about one length are together, so that there is less to pad."""
        if self._epoch is None or self._epoch[0] != self.epoch_key:
            random = np.random.Generator(philox(self.epoch_key))
            order = self.used[np.argsort(self._lengths[self.used] + random.uniform(0, 5, self.count))]
            self._epoch = self.epoch_key, order, random.permutation(self.batches_per_epoch)
        _, order, batches = self._epoch
        start = batches[column] * self.settings.batch_size
        rows = order[start : start + self.settings.batch_size]
        ids, lengths = pad_texts([self.part.train_texts[i] for i in rows])
        labels = self.part.train_labels[rows]
        return {"ids": ids, "lengths": lengths, "labels": labels.astype(np.float32) if self.part.classes == 2 else labels}

    def micro_batches(self, k: int) -> list[MicroBatch]:
        number, epoch, column = self.place(k)
        if column == 0:
            self.epoch_key, self.total = current.generator.next_key(), 0.0
            if epoch == 0 and number:
                self.begin_member(number)
            if epoch == 0 and self.calibrates:
                self.validate_member()
        return [MicroBatch(self.batch(column), slice(None), 1.0)]

    def loss(self, batch: dict[str, np.ndarray], carried: Carried | None) -> tuple[Tensor, Carried | None]:
        logits, labels = self.member(Tensor(batch["ids"]), batch["lengths"]), batch["labels"]
        weights = self.class_weights
        if self.part.classes > 2:
            loss = ops.cross_entropy(logits, Tensor(labels), weight=None if (weights == 1).all() else weights)
        elif (weights == 1).all():
            loss = ops.binary_cross_entropy_with_logits(logits, Tensor(labels))
        else:
            each = weights[labels.astype(np.int64)]
            loss = (ops.binary_cross_entropy_with_logits(logits, Tensor(labels), reduction="none") * each).sum() / float(each.sum())
        self.total += loss.item() * len(labels)
        return loss, None

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        return self.batch(self.place(k)[2])

    def about(self) -> tuple[str, str]:
        texts = f"{self.count:,} texts for training, {len(self.part.test_texts):,} for the test"
        return self.settings.model, f"{source_of(self.files)}{texts}"

    # ---- validation

    def validate_member(self) -> tuple[float, float]:
        """Keeps the weights of the member if its validation loss is the lowest so far. Returns (that loss, accuracy)."""
        logits, labels = self.validation_logits([self.number])
        each = self.class_weights[labels].astype(np.float64)
        log_p = log_probabilities(logits / fit_temperature(logits, labels, each))
        loss = float(-(each * log_p[np.arange(len(labels)), labels]).sum() / each.sum())
        self.since_best += 1
        if loss < self.best_loss:
            self.best_loss, self.since_best = loss, 0
            self.best = {name: to_numpy(p.data).copy() for name, p in self.member.named_parameters()}
        return loss, float(np.mean(said(logits) == labels))

    def validation_logits(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits and the labels of the texts that these members are validated on, by each member for its own ones; of a
        validation part of its own by the member, or of all members by the whole model."""
        drawn, part = current.generator.state, self.part  # ops with dropout draw keys even in evaluation mode
        every = list(self.model.members)
        if len(part.valid_texts):
            logits = logits_of(every[members[0]] if len(members) == 1 else self.model, part.valid_texts)
            labels = part.valid_labels
        else:
            found = [logits_of(every[m], [part.train_texts[i] for i in self.held[m]]) for m in members]
            logits, labels = np.concatenate(found), part.train_labels[np.concatenate([self.held[m] for m in members])]
        current.generator.state = drawn
        return logits, labels

    def calibrate(self) -> float:
        """Divides the model's logits by the temperature that fits the validation part best, and returns it; 1 without validation."""
        if not self.calibrates:
            return 1.0
        logits, labels = self.validation_logits(list(range(len(self.model.members))))
        temperature = fit_temperature(logits, labels, self.class_weights[labels])
        self.model.divide_logits(temperature)
        return temperature

    # ---- records and results

    def epoch_record(self, step: int) -> dict[str, Any]:
        number, epoch, _ = self.place(step - 1)
        record = {"member": number + 1, "step": (epoch + 1) * self.batches_per_epoch, "epoch": epoch + 1, "loss": self.total / self.count}
        if self.calibrates:
            record["val_loss"], record["val_accuracy"] = self.validate_member()
        if epoch + 1 == self.settings.epochs or 0 < self.settings.patience <= self.since_best:
            self.end_member(step)
        return record

    def end_member(self, step: int) -> None:
        """The member has its best weights, and the next one begins."""
        for name, p in self.member.named_parameters():
            if name in self.best:
                p.data[...] = self.best[name]
                p.bump_version()
        self.starts.append(step)
        self.best = {}

    def lines_until(self, step: int) -> int:
        return step // self.batches_per_epoch

    def results(self, train_seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
        assert self.data is not None
        self.model.eval()
        temperature, part = self.calibrate(), self.part
        log_p = log_probabilities(logits_of(self.model, part.test_texts))
        figures, right = figures_of(log_p, part.test_labels, part.names), log_p.argmax(axis=1) == part.test_labels
        figures["against"] = {
            name: {
                "accuracy": float(theirs.mean()), "difference": float(right.mean() - theirs.mean()),
                "interval": list(bootstrap_interval(right.astype(float) - theirs)),
            } for name, theirs in baselines(prepare_split(self.data, self.settings.split)).items()
        }  # fmt: skip
        self.outcome = Outcome(figures, log_p)
        summary = {
            "accuracy": figures["accuracy"],
            "naive_bayes_accuracy": figures["against"]["naive Bayes"]["accuracy"],
            "tfidf_accuracy": figures["against"]["TF-IDF"]["accuracy"],
            **{name: figures[name] for name in ("majority_accuracy", "macro_f1", "log_loss", "calibration_error")},
            "temperature": temperature,
            "train_texts": len(part.train_texts),
            "valid_texts": len(part.valid_texts) or len(self.held[0]),
            "test_texts": len(part.test_texts),
            "skipped_lines": self.data.skipped,
            "parameters": self.model.num_parameters(),
            "train_seconds": train_seconds,
        }
        return summary, {"accuracy": summary["accuracy"]}

    # ---- checkpoints

    def to_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        progress = record["progress"]
        stored = {"step": progress["step"], "epoch_key": list(self.epoch_key), "total": self.total, "generator": record["generator"]}
        arrays = {name: a for name, a in arrays.items() if name != "losses.sum"}
        if self.calibrates:
            stored |= {"starts": list(self.starts), "since_best": self.since_best}
            stored |= {"best_loss": self.best_loss if self.best else None}
            arrays |= {f"best.{name}": a for name, a in self.best.items()}
        return arrays, {**stored, "train_seconds": progress["train_seconds"]}

    def from_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        step, total, steps = record.get("step"), record.get("total"), self.config.steps
        if type(step) is not int or not 0 <= step <= steps or type(total) is not float:
            raise ValueError(f"it is at step {step!r:.40} with losses of {total!r:.40}, expected 0 to {steps} and a sum")
        epoch_key, generator = generator_state(record.get("epoch_key")), record.get("generator")
        starts = self._stored_starts(record, step)
        best = {name.removeprefix("best."): a for name, a in arrays.items() if name.startswith("best.")}
        arrays = {name: a for name, a in arrays.items() if not name.startswith("best.")}
        self.starts = starts
        self.begin_member(self.place(max(step - 1, 0))[0])
        if best:
            compare_arrays({name: to_numpy(p.data) for name, p in self.member.named_parameters()}, best)
            loss, since = record.get("best_loss"), record.get("since_best")
            if type(loss) is not float or type(since) is not int or since < 0:
                raise ValueError(f"its best loss is {loss!r:.40}, {since!r:.40} epochs ago, expected two numbers")
            self.best, self.best_loss, self.since_best = best, loss, since
        self.epoch_key, self.total = epoch_key, total
        progress = {**vars(Progress()), "step": step, "logged_step": step, "train_seconds": record.get("train_seconds")}
        return {**arrays, "losses.sum": np.zeros((), np.float32)}, {"progress": progress, "generator": generator}

    def _stored_starts(self, record: Mapping[str, Any], step: int) -> list[int]:
        """Returns when the members began. Without validation each is trained for all its epochs."""
        if not self.calibrates:
            return list(range(0, step + 1, self.steps_each))
        starts: Any = record.get("starts")
        usable = isinstance(starts, list) and all(type(start) is int and start % self.batches_per_epoch == 0 for start in starts)
        usable = usable and starts == sorted({*starts}) and starts[:1] == [0] and starts[-1] <= step
        if not usable or len(starts) > len(self.model.members) + 1:
            raise ValueError(f"its members began at the steps {starts!r:.80}, expected rising ones from 0 to {step}, between epochs")
        return list(starts)
