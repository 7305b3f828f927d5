"""Makes the first steps of a run of any task, and measures what the whole run will take: its time and memory, part by part."""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.devices import device_namespace, to_numpy
from tinylm.engine.products import products
from tinylm.engine.random_keys import drawing_from
from tinylm.studies.memory import HeldMemory, StepMemory, give_back_freed, held_memory, resident_bytes, step_memory
from tinylm.train.checkpoints import model_arrays
from tinylm.train.loop import Training, rows_of
from tinylm.train.records import Report
from tinylm.train.tasks.settings import LoopSettings

SKIPPED = 3  # the first steps compile kernels and ask the system for memory
TRIED = 200  # batches that are looked at for the largest one
VALIDATING = 3.0  # seconds of training in which as many tokens are read as are validated on here


class Measuring(Training):
    """A run that stops itself after some seconds of steps, and measures how long its parts take. It stands before the class of a
    task's run among the bases of a class: `class MeasuredRun(Measuring, Run)`."""

    def __init__(self, seconds: float, *run: Any, **settings: Any) -> None:
        super().__init__(*run, **settings)
        self.seconds, self.times, self.recording, self.saving = seconds, list[float](), list[float](), list[float]()
        self.memory = StepMemory(0, 0)  # of a step
        self.alike = True  # whether all batches have one size
        self.whole: Any = None  # the validation part, once it is shortened

    # ---- what differs between tasks

    def measured_step(self, k: int) -> int:
        """Returns the step that stands for step k: one that costs what most cost."""
        return k

    def next_batches(self, k: int) -> range:
        """Returns the steps after k whose batches can be looked at."""
        return range(k, k + TRIED)

    def shorten_validation(self, tokens: float) -> float:
        """Leaves about so many tokens of the validation part, or the fewest that can be measured, in rows as long as they are; returns
        how many times as much work the whole part is."""
        return 1.0

    # ---- the steps

    def train_step(self, k: int) -> Any:
        k = self.measured_step(k)
        start = time.perf_counter()
        loss, norm = super().train_step(k)
        float(to_numpy(loss))  # waits for a GPU
        self.times.append(time.perf_counter() - start)
        if len(self.times) == 1:  # kernels are loaded
            self._measure_memory(k)
        self.stop_requested = self.stop_requested or self.enough()
        return loss, norm

    def enough(self) -> bool:
        """Whether the steps so far tell how long one takes: of long ones a few do."""
        spent, made = sum(self.times), len(self.times)
        return (made >= 2 * SKIPPED and spent >= self.seconds) or (made >= SKIPPED and spent >= 2 * self.seconds > 0)

    def step_seconds(self) -> float:
        """Returns the time of a step: the median where all batches are alike, else the mean."""
        settled = self.times[SKIPPED:] if len(self.times) >= 2 * SKIPPED else self.times[1:]
        return (statistics.median if self.alike else statistics.mean)(settled or self.times or [0.0])

    def _measure_memory(self, k: int) -> None:
        """Measures the memory of a step on the largest micro-batch of the largest batch: that of the tape, and on a CPU the most that
        the allocators count in the backward pass, where kernels take workspace that the tape does not show, and recomputed blocks
        run again."""
        state = self.state
        drawn = state.generator.state
        sizes = {n: sum(a.nbytes for a in self.task.batch_arrays(n).values()) for n in self.next_batches(k)}
        self.alike = len(set(sizes.values())) <= 1
        largest = k if self.alike else max(sizes, key=sizes.__getitem__)
        with drawing_from(state.generator):
            batch, rows, _ = max(self.task.micro_batches(largest), key=lambda part: part.weight)
        tracemalloc.start()
        try:
            with drawing_from(state.generator), products(self.config.precision):
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

    def log(self, report: Report) -> None:
        start = time.perf_counter()
        super().log(report)
        self.recording.append(time.perf_counter() - start)

    def save(self) -> None:
        start = time.perf_counter()
        super().save()
        self.saving.append(time.perf_counter() - start)


@dataclass(frozen=True)
class Seconds:
    """The time of each part of a run. end: of what the task does when the training is done, such as a classifier's test; without
    the sample text or the translations that a command shows then."""

    start: float
    steps: float
    records: float
    validations: float
    checkpoints: float
    end: float = 0.0

    @property
    def total(self) -> float:
        return self.start + self.steps + self.records + self.validations + self.checkpoints + self.end


@dataclass(frozen=True)
class Memory:
    """In bytes. start: the peak while the run was prepared; base: interpreter, libraries, text and ids, measured before the
    first step; held, step: of the model and of a step, from shapes; average: of the averaged weights; validation, end: of the arrays
    of a validation and of the task's end alone; frozen: of the parameters that are not trained, which no checkpoint has. peak:
    measured while steps, a validation and a checkpoint were made; reached: the same of this process, 0 where the device is another:
    memory that the allocators hold back after many steps of different sizes is in no shape."""

    start: int
    base: int
    held: HeldMemory
    average: int
    step: StepMemory
    validation: int
    peak: int
    end: int = 0
    frozen: int = 0
    reached: int = 0

    @property
    def predicted(self) -> int:
        held = self.held.parameters + self.held.gradients + self.held.optimizer + self.average
        passing = max(self.step.activations + self.step.backward, self.validation, self.end)
        # a checkpoint is in memory twice, as arrays and as the whole file, which may not fit into what a step has freed
        apart = self.checkpoint if 2 * self.checkpoint > passing else 0
        return max(self.start, self.reached, self.base + held + passing + apart)

    @property
    def checkpoint(self) -> int:
        """The size of a checkpoint, which is built in memory after a step or a validation has freed its arrays."""
        return self.held.parameters - self.frozen + self.held.optimizer + self.average


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take.  trained: those of the parameters that are.  steps: from the current one to the last."""

    config: LoopSettings
    parameters: int
    trained: int
    steps: int
    step_seconds: float
    tokens_per_step: float  # 0 where a task does not count them
    seconds: Seconds
    memory: Memory


def measured(make: Callable[[], Measuring]) -> tuple[RunEstimate, Any]:
    """Makes the run, in a temporary folder, and its first steps, then a checkpoint, a part of a validation, and the end of its task.
    Returns (the estimate, the run)."""
    began = time.perf_counter()
    run = make()
    start = time.perf_counter() - began
    task, config, first = run.task, run.task.config, run.progress.step
    held = held_memory(run.model, task.optimizer)
    average = held.gradients if config.ema else 0  # as many as there are trained weights
    give_back_freed()  # a step will use it
    highest, base = resident_bytes("VmHWM"), max(0, resident_bytes() - held.parameters - average)
    run.shorten_validation(0)
    run.train(lambda record: None)
    validation_bytes = traced_bytes(run, task.validation_loss) if task.validates else 0
    run.save()  # in the order of a real run, which saves after it has validated: freed memory is fragmented then
    step_seconds, steps = run.step_seconds(), config.steps - first
    per_step = task.tokens_between(first, first + min(TRIED, max(1, steps))) / min(TRIED, max(1, steps))
    validation = 0.0
    if task.validates:
        ratio = run.shorten_validation(VALIDATING * per_step / step_seconds if step_seconds else 0)
        validation = ratio * seconds_of(run, task.validation_loss)
    end = seconds_of(run, lambda: task.results(0.0))
    record = statistics.median(run.recording or [0.0])
    times = event_counts(config, first)
    validations = times["eval_every"] if task.validates else 0
    on_gpu = config.device != "cpu"  # there the peak is what was allocated
    reached = 0 if on_gpu else resident_bytes("VmHWM")
    peak = int(device_namespace(config.device).get_default_memory_pool().total_bytes()) if on_gpu else reached
    end_bytes = traced_bytes(run, lambda: task.results(0.0)) if 0.01 < end < 20 else 0
    frozen = held.parameters - sum({id(a): a.nbytes for a in model_arrays(run.model).values()}.values())
    memory = Memory(highest, base, held, average, run.memory, validation_bytes, peak, end_bytes, frozen, reached)
    fraction = (held.parameters - frozen) / max(1, memory.checkpoint)  # of a checkpoint, for the best weights and the last ones
    saves = times["save_every"] + timed_saves(config, steps, step_seconds) + (first == 0)  # one before the first step
    seconds = Seconds(
        start, steps * step_seconds, times["log_every"] * record, validations * validation,
        statistics.median(run.saving or [0.0]) * (saves + fraction * (validations + 1)), end,
    )  # fmt: skip
    trained = sum(p.size for p in run.model.parameters() if p.requires_grad)
    return RunEstimate(config, run.model.num_parameters(), trained, steps, step_seconds, per_step, seconds, memory), run


def event_counts(config: LoopSettings, first: int) -> dict[str, int]:
    """Returns how often a run from step `first` records, validates and saves: at its intervals, and at the last step."""
    found = {}
    for name in ("log_every", "eval_every", "save_every"):
        every = vars(config)[name]
        found[name] = config.steps // every - first // every + (config.steps % every != 0 and config.steps > first)
    return found


def timed_saves(config: LoopSettings, steps: int, step_seconds: float) -> int:
    """Returns how often save_minutes pass since the last checkpoint, in this number of steps."""
    if not config.save_minutes:
        return 0
    apart = max(1, min(config.save_every, steps))
    return steps // apart * int(apart * step_seconds / (60 * config.save_minutes))


def seconds_of(run: Training, function: Callable[[], Any]) -> float:
    """Returns how long something takes with the weights and products that the run evaluates with."""
    began = time.perf_counter()
    with run.state.evaluated(), drawing_from(run.state.generator):
        function()
    return time.perf_counter() - began


def traced_bytes(run: Training, function: Callable[[], Any]) -> int:
    """Returns the peak memory of the arrays that something makes, by the count of Python's allocators; 0 on a GPU, which has its own."""
    if run.config.device != "cpu":
        return 0
    tracemalloc.start()
    try:
        seconds_of(run, function)  # with an average, a copy of the weights is made
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most so many of the numbers from 0 to count - 1, evenly spread, the last one among them."""
    return np.unique(np.linspace(count - 1, 0, min(count, max(most, 1))).round().astype(int))
