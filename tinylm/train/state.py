"""What a run is made of. Snapshots, records, failures and the loop read and write it; it knows none of them."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import device_namespace
from tinylm.engine.products import products
from tinylm.engine.random_keys import Generator
from tinylm.train.averaging import WeightAverage
from tinylm.train.distributed import Ranks
from tinylm.train.metrics import MetricsLog
from tinylm.train.tasks.task import Carried, Task


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    logged_step: int = 0  # of the last training record; the losses since then are summed up in the checkpoint
    train_seconds: float = 0.0
    val_loss: float | None = None  # of the last validation
    best_step: int = -1
    best_val_loss: float = float("inf")
    since_best: int = 0  # validations every eval_every steps since the best one

    @classmethod
    def from_record(cls, record: Any) -> "Progress":
        """Returns what `vars` gave. Raises ValueError naming what does not fit."""
        names = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(record, dict) or set(record) != names:
            raise ValueError(f"its progress is {record!r:.80}, expected {', '.join(sorted(names))}")
        for setting in dataclasses.fields(cls):
            value = record[setting.name]
            whole = setting.type is int
            fits = type(value) in ((int,) if whole else (int, float)) or (value is None and setting.name == "val_loss")
            if not fits or (whole and not setting.default <= value < 1 << 62):
                raise ValueError(f"its progress has {setting.name} {value!r:.40}")
        return cls(**record)


class Clock:
    """The seconds that a run trains; those of records, validations and checkpoints are left out."""

    def __init__(self) -> None:
        self.start(0)

    def start(self, step: int) -> None:
        """Starts the clock at the beginning of training, and after a checkpoint."""
        self.resume(step)
        self.saved = time.monotonic()  # when there was a checkpoint last

    def resume(self, step: int) -> None:
        """Goes on after that step, when something else than training has taken its time."""
        self.mark, self.step = time.perf_counter(), step

    def elapsed(self) -> float:
        """Returns the seconds since training went on."""
        return time.perf_counter() - self.mark

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within it no time passes for the training."""
        began = time.perf_counter()
        yield
        self.mark += time.perf_counter() - began


@dataclass
class RunState:
    """All that a run is made of. Making one moves the model to its device and makes its optimiser."""

    task: Task
    folder: Path
    ranks: Ranks = field(default_factory=Ranks)  # the processes that train together; rank 0 alone writes into the folder
    generator: Generator = field(default_factory=Generator)  # the run's own: of its dropout masks
    log: MetricsLog | None = None  # rank 0's, once the run has its folder
    norm: Any = None  # of the last step's gradients, on the device
    carried: Carried | None = None  # what a recurrent model hands on from batch to batch
    progress: Progress = field(default_factory=Progress)
    clock: Clock = field(default_factory=Clock)
    peaks: list[float] = field(init=False)  # the learning rate that each parameter group was made with
    average: WeightAverage | None = field(init=False)  # of the weights, if config.ema is not 0
    losses: Array = field(init=False)  # the sum of the losses since the last record, on the device

    def __post_init__(self) -> None:
        task, config = self.task, self.task.config
        task.model.to(config.device)
        task.build_updates()
        self.peaks = [group["lr"] for group in task.optimizer.param_groups]
        self.average = WeightAverage(task.model, config.ema) if config.ema else None
        self.losses = device_namespace(config.device).zeros((), np.float32)

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """Within it the model has the weights that are evaluated and saved, their average if there is one, and the products have the
        run's precision."""
        with self.average.swapped() if self.average else contextlib.nullcontext(), products(self.task.config.precision):
            yield
