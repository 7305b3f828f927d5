"""Estimates what a training run will take, from its first steps: time, memory, and passes over its data."""

import statistics
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data import Corpus, Tokenizer
from tinylm.engine.devices import device_namespace, to_numpy
from tinylm.engine.random_keys import drawing_from
from tinylm.studies.memory import HeldMemory, StepMemory, held_memory, resident_bytes, step_memory
from tinylm.train.loop import rows_of
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.language_modeling import Run
from tinylm.train.tasks.token_losses import VALIDATION_ROWS, validated_tokens

SKIPPED = 3  # the first steps compile kernels and ask the system for memory
REPEATS = 15.39  # R*_D of Muennighoff et al. 2023, arXiv:2305.16264: the number of repeats of the data after which more are worth little
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv:2203.15556, table 3
GOOD_PASSES = 4  # Muennighoff et al. 2023: up to here repeated data is almost as good as new


class _Measured(Run):
    """A run that stops itself after some seconds of steps, and measures how long its parts take."""

    def __init__(self, seconds: float, *run: Any, **settings: Any) -> None:
        super().__init__(*run, **settings)
        self.seconds, self.times, self.saving = seconds, list[float](), list[float]()
        self.memory, self.measuring = StepMemory(0, 0), 0.0  # of a step; seconds that finding it took

    def train_step(self, k: int) -> Any:
        k += self.task.config.dropout_ramp  # where all of the dropout has set in
        start = time.perf_counter()
        loss, norm = super().train_step(k)
        float(to_numpy(loss))  # waits for a GPU
        self.times.append(time.perf_counter() - start)
        if len(self.times) == 1:  # kernels are loaded
            start = time.perf_counter()
            self._measure_memory(k)
            self.measuring = time.perf_counter() - start
        enough = len(self.times) >= 2 * SKIPPED and sum(self.times) >= self.seconds
        self.stop_requested = self.stop_requested or enough
        return loss, norm

    def _measure_memory(self, k: int) -> None:
        """Measures the memory of a step on its largest micro-batch: that of the tape, and on a CPU the most that the allocators
        count in the backward pass, where kernels take workspace that the tape does not show, and recomputed blocks run again."""
        state = self.state
        drawn = state.generator.state
        batch, rows, _ = max(self.task.micro_batches(k), key=lambda part: part.weight)
        tracemalloc.start()
        try:
            with drawing_from(state.generator):
                loss = self.task.loss(batch, rows_of(state.carried, rows))[0]
                forward = tracemalloc.get_traced_memory()[1]
                self.memory = step_memory(loss, self.model)
                if self.config.device == "cpu":
                    tracemalloc.reset_peak()
                    loss.backward()
                    highest = max(forward, tracemalloc.get_traced_memory()[1])
                    self.memory = StepMemory(self.memory.activations, max(0, highest - self.memory.activations))
        finally:
            tracemalloc.stop()
        state.generator.state = drawn

    def save(self) -> None:
        start = time.perf_counter()
        super().save()
        self.saving.append(time.perf_counter() - start)


@dataclass(frozen=True)
class Seconds:
    """The time of each part of a run, without the sample text at its end."""

    start: float
    steps: float
    records: float
    validations: float
    checkpoints: float

    @property
    def total(self) -> float:
        return self.start + self.steps + self.records + self.validations + self.checkpoints


@dataclass(frozen=True)
class Memory:
    """In bytes. start: the peak while the run was prepared; base: interpreter, libraries, text and ids, measured before the
    first step; held, step: of the model and of a step, from shapes; average: of the averaged weights; validation: of its
    arrays alone. peak: measured while steps, a validation and a checkpoint were made."""

    start: int
    base: int
    held: HeldMemory
    average: int
    step: StepMemory
    validation: int
    peak: int

    @property
    def predicted(self) -> int:
        held = self.held.parameters + self.held.gradients + self.held.optimizer + self.average
        passing = max(self.step.activations + self.step.backward, self.validation)
        # a checkpoint is in memory twice, as arrays and as the whole file, which may not fit into what a step has freed
        apart = self.checkpoint if 2 * self.checkpoint > passing else 0
        return max(self.start, self.base + held + passing + apart)

    @property
    def checkpoint(self) -> int:
        """The size of a checkpoint, which is built in memory after a step or a validation has freed its arrays."""
        return self.held.parameters + self.held.optimizer + self.average


@dataclass(frozen=True)
class Estimate:
    """What a run will take.  steps: from the current one to the last.  train_tokens: of the training part."""

    config: TrainConfig
    vocab_size: int
    parameters: int
    train_tokens: int
    steps: int
    step_seconds: float
    seconds: Seconds
    memory: Memory

    @property
    def tokens_per_step(self) -> int:
        return self.config.batch_size * self.config.block_size

    @property
    def passes(self) -> float:
        """The number of passes over the training part that the whole run makes, from its first step."""
        return self.config.steps * self.tokens_per_step / self.train_tokens

    def steps_for(self, tokens: float) -> int:
        """Returns the number of steps that read this many tokens."""
        return max(1, round(tokens / self.tokens_per_step))


def worth_in_passes(passes: float) -> float:
    """Returns how many passes over new data this many passes over the same data are worth: p up to 1, then
    1 + R (1 - exp(-(p - 1) / R)).  Muennighoff et al. 2023, equation 5, R = 15.39."""
    return passes if passes <= 1 else 1 + REPEATS * (1 - float(np.exp(-(passes - 1) / REPEATS)))


def compute_optimal(parameters: int, tokens: float) -> tuple[float, float]:
    """Returns (parameters, tokens) for the same work, which is proportional to their product, with 20 tokens per parameter."""
    best = (parameters * tokens / TOKENS_PER_PARAMETER) ** 0.5
    return best, TOKENS_PER_PARAMETER * best


def estimate(
    config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None, *, resume: bool = False, seconds: float = 8.0
) -> Estimate:
    """Runs the first steps for some seconds in `folder`, a temporary one, then a checkpoint and a part of a validation.
    resume: the folder holds a copy of a run; the estimate is for its remaining steps."""
    began = time.perf_counter()
    run = _Measured(seconds, config, folder, text, tokenizer, resume=resume)
    start = time.perf_counter() - began
    first, held = run.progress.step, held_memory(run.model, run.task.optimizer)
    average = held.gradients if config.ema else 0  # as many as there are weights
    highest, base = resident_bytes("VmHWM"), max(0, resident_bytes() - held.parameters - average)
    model, whole = run.task.model, run.task.val_ids
    longest = 2048 if model.block_size is None else 2 * model.block_size
    run.task.val_ids = whole[: 1 + VALIDATION_ROWS * longest]  # measured are as many and as long rows as the whole has
    reports: list[float] = []

    def noted(record: dict[str, Any]) -> None:
        reports.append(time.perf_counter())

    began = time.perf_counter()
    run.train(noted)
    loop_seconds = time.perf_counter() - began
    validation_bytes = _validation_bytes(run)
    run.save()  # in the order of a real run, which saves after it has validated: freed memory is fragmented then
    began = time.perf_counter()
    with run.state.evaluated():
        run.task.validation_loss()
    measured = validated_tokens(model, len(run.task.val_ids))
    validation = (time.perf_counter() - began) * validated_tokens(model, len(whole)) / measured
    steps = config.steps - first
    step_seconds = statistics.median(run.times[SKIPPED:] or run.times or [0.0])
    record = max(0.0, (loop_seconds - sum(run.times) - sum(run.saving) - run.measuring) / max(1, len(reports))) if run.times else 0.0
    times = event_counts(config, first)
    on_gpu = config.device != "cpu"  # there the peak is what was allocated
    peak = int(device_namespace(config.device).get_default_memory_pool().total_bytes()) if on_gpu else resident_bytes("VmHWM")
    memory = Memory(highest, base, held, average, run.memory, validation_bytes, peak)
    fraction = held.parameters / memory.checkpoint  # of a checkpoint, for the best weights and the last ones
    saves = times["save_every"] + timed_saves(config, steps, step_seconds) + (first == 0)  # one before the first step
    made = Seconds(
        start, steps * step_seconds, times["log_every"] * min(record, step_seconds),
        times["eval_every"] * validation, statistics.median(run.saving or [0.0]) * (saves + fraction * (times["eval_every"] + 1)),
    )  # fmt: skip
    return Estimate(config, model.vocab_size, model.num_parameters(), len(run.task.train_ids), steps, step_seconds, made, memory)


def event_counts(config: TrainConfig, first: int) -> dict[str, int]:
    """Returns how often a run from step `first` records, validates and saves: at its intervals, and at the last step."""
    found = {}
    for name in ("log_every", "eval_every", "save_every"):
        every = vars(config)[name]
        found[name] = config.steps // every - first // every + (config.steps % every != 0 and config.steps > first)
    return found


def timed_saves(config: TrainConfig, steps: int, step_seconds: float) -> int:
    """Returns how often save_minutes pass since the last checkpoint, in this number of steps."""
    if not config.save_minutes:
        return 0
    apart = max(1, min(config.save_every, steps))
    return steps // apart * int(apart * step_seconds / (60 * config.save_minutes))


def _validation_bytes(run: _Measured) -> int:
    """Returns the peak memory of the arrays of a validation, by the count of Python's allocators; 0 on a GPU, which has its own."""
    if run.config.device != "cpu":
        return 0
    tracemalloc.start()
    try:
        with run.state.evaluated():  # with an average, a copy of the weights is made
            run.task.validation_loss()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
