"""What the training loop asks of a task: data, a model and a loss."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

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


class Task(Protocol):
    """A task of one kind, with its settings, its data and its model. `UsualTask` has what most of them have in common."""

    @property
    def config(self) -> LoopSettings:
        """What the loop is set by."""

    @property
    def model(self) -> Module:
        """What is trained."""

    @property
    def optimizer(self) -> Optimizer:
        """What updates the weights."""

    @property
    def schedule(self) -> Schedule:
        """The learning rate of each step."""

    @property
    def rows(self) -> slice:
        """Which rows of each batch are this rank's."""

    @property
    def validates(self) -> bool:
        """Whether there is a validation part."""

    def build_updates(self) -> None:
        """Makes optimizer and schedule, once the model is on its device."""

    # ---- a step

    def micro_batches(self, k: int) -> list[MicroBatch]:
        """Returns this rank's rows of batch k, in the parts whose gradients are added up."""

    def loss(self, batch: Any, carried: Carried | None) -> tuple[Tensor, Carried | None]:
        """Returns (the loss of a micro-batch's arrays, what the next batch starts with); carried: what the batch before gave."""

    def starts_afresh(self, k: int) -> bool:
        """Whether batch k continues none before it."""

    def carried_kinds(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Returns (dtype, shape) of each array that is carried from batch to batch, of all rows."""

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        """Returns the arrays of batch k by name, as a failed step keeps them."""

    # ---- records

    def tokens_between(self, first: int, stop: int) -> int:
        """Returns how many tokens the steps from `first` up to `stop` train on."""

    def epoch_record(self, step: int) -> dict[str, Any] | None:
        """Returns the record of the steps since the last one; None for the usual one."""

    def validation_loss(self) -> float:
        """Returns the loss over the whole validation part, in nats per token."""

    @property
    def bytes_per_token(self) -> float:
        """How many bytes of the validation part's text a token stands for."""

    def results(self, train_seconds: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns (summary.json, what the header of model.safetensors says) of a run at its end; None for the usual ones."""

    # ---- the folder

    def start_files(self) -> dict[str, Any]:
        """Returns the JSON files that a run folder begins with, by name: config.json, and what else the task notes down."""

    def to_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        """Returns a snapshot in the form that the task's checkpoints have."""

    def from_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        """Returns the snapshot that a checkpoint holds. Raises ValueError for a record that does not fit."""

    def lines_until(self, step: int) -> int | None:
        """Returns how many lines metrics.jsonl has up to a step, where the steps of its records do not say it."""


class UsualTask:
    """What most tasks have in common: no batch continues another, there is a validation part, and files have the usual form."""

    validates = True

    def starts_afresh(self, k: int) -> bool:
        return True

    def carried_kinds(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        return []

    def epoch_record(self, step: int) -> dict[str, Any] | None:
        return None

    def results(self, train_seconds: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return None

    def to_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        return arrays, record

    def from_stored(self, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> Stored:
        return arrays, record

    def lines_until(self, step: int) -> int | None:
        return None
