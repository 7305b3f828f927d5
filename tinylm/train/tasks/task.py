"""What the training loop asks of a task: data, a model and a loss."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.optim import Optimizer, Schedule
from tinylm.train.tasks.settings import LoopSettings

Carried = list[Tensor]  # what a recurrent model hands on from batch to batch, each array (layers, rows, hidden)


class MicroBatch(NamedTuple):
    """The part of a batch whose loss is computed at once."""

    arrays: Any  # as the task's loss takes them
    rows: slice  # which of this rank's rows it has
    weight: float  # of its loss in the loss of the batch: the parts' weights add up to 1


class Task(Protocol):
    """A task of one kind, with its settings, its data and its model."""

    @property
    def config(self) -> LoopSettings:
        """Its settings."""

    @property
    def model(self) -> Module:
        """What is trained."""

    @property
    def rows(self) -> slice:
        """Which rows of each batch are this rank's."""

    def build_updates(self) -> tuple[Optimizer, Schedule]:
        """Returns what updates the model's weights, and the learning rate of each step."""

    def micro_batches(self, k: int) -> list[MicroBatch]:
        """Returns this rank's rows of batch k, in the parts whose gradients are added up."""

    def loss(self, batch: Any, carried: Carried | None) -> tuple[Tensor, Carried | None]:
        """Returns (the loss of a micro-batch's arrays, what the next batch starts with); carried: what the batch before gave."""

    def starts_afresh(self, k: int) -> bool:
        """Whether batch k continues none before it."""

    def carried_kinds(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """Returns (dtype, shape) of each array that is carried from batch to batch, of all rows."""

    def validation_loss(self) -> float:
        """Returns the loss over the whole validation part, in nats per token."""

    def tokens_between(self, first: int, stop: int) -> int:
        """Returns how many tokens the steps from `first` up to `stop` train on."""

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        """Returns the arrays of batch k by name, as a failed step keeps them."""

    @property
    def bytes_per_token(self) -> float:
        """How many bytes of the validation part's text a token stands for."""

    def start_files(self) -> dict[str, Any]:
        """Returns the JSON files that a run folder begins with, by name: config.json, and what else the task notes down."""
