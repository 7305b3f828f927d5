"""The training loop: batches, gradients, updates, and what is due after a step."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import to_numpy
from tinylm.engine.products import products
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError
from tinylm.files.json_files import write_json
from tinylm.train.distributed import Ranks, check_same_weights, rank_0_first, separate_draws
from tinylm.train.failures import describe_failure, find_failure
from tinylm.train.metrics import MetricsLog
from tinylm.train.records import Report, log_record, save_checkpoint, summarize, validate, write_sample
from tinylm.train.run_folder import RunLock, checkpoint_path, newest_whole, refuse_used, saved_checkpoints
from tinylm.train.snapshots import restore
from tinylm.train.state import RunState
from tinylm.train.tasks.task import Carried, Task
from tinylm.train.watching.runs import WatchedRun


class Training(WatchedRun):
    """A task in training: `open` takes the run folder, `train` makes the steps.

    After a resume everything is as if the run had never stopped: weights, optimiser, random
    numbers, batches and logged losses, bit for bit on one machine. A run draws its random numbers from a
    generator of its own: several may train in one process, in turn or in threads, and each is what it is alone.
    """

    def __init__(self, task: Task, folder: str | Path, ranks: Ranks | None = None, generator: Generator | None = None) -> None:
        """`generator`: what the model's weights were drawn from; training goes on with it."""
        folder = Path(folder)
        self.task, self.config, self.model, self.folder = task, task.config, task.model, folder
        self.state = RunState(task, folder, ranks or Ranks(), generator or Generator())
        self.lock = RunLock(folder)
        self.stop_requested = False  # set it (from a signal handler, say) to stop after the current step
        self.checks_each_step = task.config.device == "cpu"

    # ---- one step

    def advance(self, report: Report) -> bool:
        """Makes the next step, and writes what is due after it: a record, a validation, a checkpoint.

        Returns whether the run was asked to stop while it made the step.
        """
        state, config = self.state, self.config
        loss, state.norm = self.train_step(state.progress.step)
        state.losses = state.losses + loss  # on the device: nothing is copied until a record is due
        state.progress.step += 1
        done, stopping = state.progress.step, self.asked_to_stop()
        validates = self.task.validates and (done % config.eval_every == 0 or done == config.steps)
        if done % config.log_every == 0 or validates:
            self.log(report)
        if validates:
            self.validate(report)
        if config.sample_every and done % config.sample_every == 0:
            self.sample(report)
        if done == config.steps or self.save_is_due():
            self.save()
        return stopping

    def train_step(self, k: int) -> tuple[Array, Array]:
        """Makes step k; returns (loss, gradient norm) as 0-d arrays on the device.

        Raises AnomalyError if a loss or gradient is found not to be finite, with the step, the parameter and the op;
        nothing is updated then.
        """
        state, task, config = self.state, self.task, self.config
        before = state.generator.state, state.carried
        loss = self.gradients(k)
        if state.ranks.size > 1:
            state.ranks.average([*task.optimizer.gradients(), loss])
        for group, peak in zip(task.optimizer.param_groups, state.peaks, strict=True):
            group["lr"] = task.schedule(k) * (peak / config.lr if config.lr else 1.0)
        try:
            if self.checks_each_step:
                self.check_step(loss)
            norm = task.optimizer.step(max_norm=config.clip)
        except AnomalyError as error:
            state.generator.state, state.carried = before
            raise self.failure(k) from error
        assert norm is not None
        if state.average:
            state.average.update(k + 1)
        return loss, norm

    def gradients(self, k: int) -> Array:
        """Fills the parameters' .grad with the gradients of step k, micro-batch by micro-batch; returns its loss, on the device."""
        state, task = self.state, self.task
        task.optimizer.zero_grad()
        carried = None if task.starts_afresh(k) else state.carried
        total: Any = 0.0
        handed_on = []
        with drawing_from(state.generator), products(self.config.precision):
            for arrays, rows, weight in task.micro_batches(k):
                loss, after = task.loss(arrays, rows_of(carried, rows))
                (loss if weight == 1 else loss * weight).backward()
                total = total + loss.data * weight
                handed_on.append(after)
        state.carried = joined(handed_on)
        return array_module(total).asarray(total)

    # Two checks for values that are not finite. On a CPU each step is checked before its update. On a GPU that would wait for the
    # device at each step: there such a value is found later, when a record or checkpoint is due, and the step that caused it is
    # searched for from the last checkpoint on.

    def check_step(self, loss: Array) -> None:
        """Raises AnomalyError if the loss is not finite; on a GPU also if a gradient is not, which on a CPU the optimiser checks."""
        if not np.isfinite(to_numpy(loss)):
            raise AnomalyError(f"the loss is {float(to_numpy(loss))}")
        if self.config.device != "cpu" and not np.isfinite(norm := to_numpy(self.task.optimizer.grad_norm())):
            raise AnomalyError(f"the gradient norm is {float(norm)}")

    def check_past_steps(self, loss: float, norm: float) -> None:
        """Raises AnomalyError for the first bad step since the last checkpoint if the loss or the norm is not finite."""
        if not (np.isfinite(loss) and np.isfinite(norm)):
            self.checks_each_step = True
            raise find_failure(self.state, self.train_step, loss, norm)

    def failure(self, k: int) -> AnomalyError:
        """Returns the error of step k, with the run as it was before it, and keeps what repeats the step."""
        return describe_failure(self.state, self.gradients, k)

    # ---- all steps

    def train(self, report: Report | None = None) -> dict[str, Any] | None:
        """Trains up to config.steps, or until config.patience is used up. Writes the summary and returns it; the model then has
        the averaged weights, if they are averaged. If it was asked to stop before, writes a checkpoint and returns None.

        `report` gets each record of metrics.jsonl, every log_every steps and at validations. Without it a progress bar is shown.
        Raises AnomalyError if a loss or the gradient norm is not finite, with the step, the parameter and the op;
        failure/ in the run folder then holds what `replay` needs, and the last checkpoint is kept.
        """
        if report is None:
            return self.with_bar(self.train)
        state, progress = self.state, self.progress
        with self.lock if state.ranks.rank == 0 else contextlib.nullcontext():
            state.clock.start(progress.step)
            if not state.ranks.broadcast(saved_checkpoints(self.folder)):
                self.save()
            self.model.train()
            stopping = self.asked_to_stop()
            while not self.finished() and not stopping:
                stopping = self.advance(report)
            if not self.finished():
                self.save()
                return None
            if self.task.validates and progress.val_loss is None:  # no step was made
                self.validate(lambda record: None)
            if not state.ranks.broadcast(checkpoint_path(self.folder, progress.step).exists()):
                self.save()
            return summarize(state)

    def asked_to_stop(self) -> bool:
        """Whether this process, or another one that trains with it, was asked to stop."""
        return self.stop_requested if self.state.ranks.size == 1 else self.state.ranks.any(self.stop_requested)

    def finished(self) -> bool:
        """Whether all steps are made, or config.patience validations in a row were no better than the best."""
        progress = self.state.progress
        return progress.step >= self.config.steps or 0 < self.config.patience <= progress.since_best

    # ---- what is due after a step; as methods, so that a run without a folder, or in PyTorch, can do it differently

    def save_is_due(self) -> bool:
        """Whether a checkpoint is to be written, by steps or by the clock. The results of a run do not depend on when it saves."""
        state, config = self.state, self.config
        minutes = (time.monotonic() - state.clock.saved) / 60
        due = state.progress.step % config.save_every == 0 or 0 < config.save_minutes <= minutes
        return due if state.ranks.size == 1 else state.ranks.broadcast(due)  # clocks differ

    def log(self, report: Report) -> None:
        """Writes a record of the steps since the last one. Raises AnomalyError if a loss or the last norm is not finite."""
        state, progress = self.state, self.progress
        mean = state.losses / (progress.step - progress.logged_step)
        self.check_past_steps(float(to_numpy(mean)), float(to_numpy(state.norm)))
        log_record(state, report)

    def validate(self, report: Report) -> None:
        """Writes a record of the validation loss."""
        validate(self.state, report)

    def sample(self, report: Report) -> None:
        """Writes a record of a text by the model. Raises AnomalyError if a loss since the last record is not finite."""
        self.check_past_steps(float(to_numpy(self.state.losses)), 0.0)
        write_sample(self.state, report)

    def save(self) -> None:
        """Writes a checkpoint. Raises AnomalyError if a loss since the last record is not finite."""
        self.check_past_steps(float(to_numpy(self.state.losses)), 0.0)
        save_checkpoint(self.state)

    # ---- the folder

    def open(self, resume: bool, take_over: bool = False) -> None:
        """Takes the folder: restores the newest checkpoint, or writes the task's files. It is locked until `train` is done.

        A folder whose run was ended before its first checkpoint is opened with `resume` False: the run is begun again.
        take_over: from an object of this process that does not train, such as the one that a notebook's cell made before.
        Raises CheckpointError if another process has it, or if it holds a run already.
        """
        state = self.state
        writes = state.ranks.rank == 0
        with rank_0_first(state.ranks):  # it renames damaged checkpoints, so that the others do not read them
            if writes:
                self.lock.acquire(take_over)
            try:
                if writes and not resume:
                    refuse_used(self.folder)
                if resume:
                    newest_whole(self.folder, lambda path, arrays, record: restore(state, path, arrays, record), set_aside=writes)
                elif writes:
                    for name, record in sorted(self.task.files.items(), key=lambda file: file[0] == "config.json"):
                        write_json(self.folder / name, record)  # config.json is the last: with it the folder holds a run
                if writes:
                    state.log = MetricsLog(self.folder / "metrics.jsonl", state.progress.step, self.task.lines_until(state.progress.step))
            except CheckpointError:
                self.lock.release()
                raise
        separate_draws(state.ranks, state.generator)
        check_same_weights(state.ranks, state.task.model, "at the start")


def rows_of(carried: Carried | None, rows: slice) -> Carried | None:
    """Returns the part of each carried array that belongs to some rows of the batch."""
    if carried is None or rows == slice(None):
        return carried
    return [Tensor(array_module(s.data).ascontiguousarray(s.data[:, rows])) for s in carried]


def joined(parts: Sequence[Carried | None]) -> Carried | None:
    """Returns what the micro-batches of a batch hand on, side by side and without their history: the gradient stops here."""
    if parts[0] is None:
        return None
    together = [[s.data for s in arrays] for arrays in zip(*(part for part in parts if part is not None), strict=True)]
    return [Tensor(a[0] if len(a) == 1 else array_module(a[0]).concatenate(a, axis=1)) for a in together]
