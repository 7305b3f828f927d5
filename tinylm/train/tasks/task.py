"""What the training loop asks of a task: data, a model and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tinylm.data.unknown import NOT_COUNTED, Unknown
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.optim import Optimizer, Schedule
from tinylm.train.tasks.settings import LoopSettings

Carried = list[Tensor]  # what a recurrent model hands on from batch to batch, each array (layers, rows, hidden)
Stored = tuple[Mapping[str, Any], Mapping[str, Any]]  # the arrays and the record of a checkpoint


class MicroBatch(NamedTuple):
    """The part of a batch whose loss is computed at once."""

    arrays: Any  # as the task's loss takes them
    rows: slice  # which of this rank's rows it has
    weight: float  # of its loss in the loss of the batch: the parts' weights add up to 1


class Task(ABC):
    """A task of one kind, with its settings, its data and its model. What has a body here is what most tasks do."""

    config: LoopSettings
    model: Module
    optimizer: Optimizer
    schedule: Schedule  # the learning rate of each step
    rows: slice = slice(None)  # of each batch, those of this rank
    validates: bool = True  # whether there is a validation part
    bytes_per_token: float = float("nan")  # how many bytes of the validation part's text a token stands for
    unknown: Unknown = NOT_COUNTED  # words of it that the vocabulary lacks; 0 tokens if they are not counted
    files: dict[str, Any]  # the JSON files that a run folder begins with: config.json, and what else the task notes down

    @abstractmethod
    def build_updates(self) -> None:
        """Makes optimizer and schedule, once the model is on its device."""

    @abstractmethod
    def micro_batches(self, k: int) -> list[MicroBatch]:
        """Returns this rank's rows of batch k, in the parts whose gradients are added up."""

    @abstractmethod
    def loss(self, batch: Any, carried: Carried | None) -> tuple[Tensor, Carried | None]:
        """Returns (the loss of a micro-batch's arrays, what the next batch starts with); carried: what the batch before gave."""

    def about(self) -> tuple[str, str]:
        """Returns (the model, the data) in a few words."""
        return type(self.model).__name__, ""

    def starts_afresh(self, k: int) -> bool:
        """Whether batch k continues none before it."""
        return True

    def carried_kinds(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Returns (dtype, shape) of each array that is carried from batch to batch, of all rows."""
        return []

    def validation_loss(self) -> float:
        """Returns the loss over the whole validation part, in nats per token."""
        return float("nan")

    def tokens_between(self, first: int, stop: int) -> int:
        """Returns how many tokens the steps from `first` up to `stop` train on."""
        return 0

    def sample(self, random: np.random.Generator) -> str | None:
        """Returns a text that shows what the model has learned so far; None if there is none to show."""
        return None

    @abstractmethod
    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        """Returns the arrays of batch k by name, as a failed step keeps them."""

    # ---- tasks whose files have a form of their own

    def epoch_record(self, step: int) -> dict[str, Any] | None:
        """Returns the record of the steps since the last one; None for the usual one."""
        return None

    def results(self, train_seconds: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns (summary.json, what the header of model.safetensors says) of a run at its end; None for the usual ones."""
        return None

    def to_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        """Returns a snapshot in the form that the task's checkpoints have."""
        return arrays, record

    def from_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        """Returns the snapshot that a checkpoint holds. Raises ValueError for a record that does not fit."""
        return arrays, record

    def lines_until(self, step: int) -> int | None:
        """Returns how many lines metrics.jsonl has up to a step, where the steps of its records do not say it."""
        return None
