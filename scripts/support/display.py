"""What the user sees of a training run, and how Ctrl-C stops it."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tinylm.train import Run
from tinylm.train.tensorboard import TensorBoardLog


class Display:
    """A live bar on a terminal; elsewhere one line per record."""

    def __init__(self, steps: int, start: int) -> None:
        columns = (
            TextColumn("step"), MofNCompleteColumn(), BarColumn(),
            TextColumn("loss {task.fields[loss]}  val {task.fields[val]}  {task.fields[speed]} tokens/s  {task.fields[memory]}  left"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self.live = sys.stdout.isatty()
        self.bar = Progress(*columns, disable=not self.live)
        self.task = self.bar.add_task("", total=steps, completed=start, loss="-", val="-", speed="-", memory="-")
        self.steps, self.start, self.began = steps, start, time.monotonic()
        self.printed = 0.0

    def __call__(self, record: dict[str, Any]) -> None:
        if "sample" in record:
            title = f"step {record['step']}/{self.steps}  a sample:"
            if self.live:
                self.bar.console.print(f"{title}\n{record['sample']}\n", markup=False, highlight=False, emoji=False)
            else:
                print(f"{title}\n{record['sample']}\n", flush=True)
            return
        if "val_loss" in record:
            self.bar.update(self.task, val=f"{record['val_loss']:.4f}")
            if not self.live:
                print(f"step {record['step']}/{self.steps}  validation loss {record['val_loss']:.4f}", flush=True)
            return
        memory, speed = shown_memory(record["memory_mb"]), f"{record['tokens_per_second']:,.0f}"
        self.bar.update(self.task, completed=record["step"], loss=f"{record['loss']:.4f}", speed=speed, memory=memory)
        now = time.monotonic()
        if not self.live and (now - self.printed > 5 or record["step"] == self.steps):
            self.printed = now
            left = (now - self.began) / (record["step"] - self.start) * (self.steps - record["step"])
            print(
                f"step {record['step']}/{self.steps}  loss {record['loss']:.4f}  {speed} tokens/s  {left:.0f} s left  {memory}",
                flush=True,
            )


def shown_memory(megabytes: dict[str, float]) -> str:
    """Returns '412 MB (peak 633)' of the process, with the device's memory on a GPU."""
    process = f"{megabytes['now']:.0f} MB (peak {megabytes['peak']:.0f})" if "now" in megabytes else f"{megabytes['peak']:.0f} MB at most"
    return process + (f", GPU {megabytes['device']:.0f} MB" if "device" in megabytes else "")


@contextlib.contextmanager
def stopped_by_signals(run: Any) -> Iterator[None]:
    """Within it the first SIGINT or SIGTERM asks the run to stop after the current step; a second one interrupts it at once."""

    def stop(signum: int, frame: Any) -> None:
        run.stop_requested = True
        signal.signal(signum, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_watched(run: Run, tensorboard: bool = False) -> dict[str, Any] | None:
    """Trains, shows the progress, and returns the summary; None if SIGINT or SIGTERM stopped the run."""

    display = Display(run.config.steps, run.progress.step)
    with contextlib.ExitStack() as stack:
        reports = [display]
        if tensorboard:
            reports.append(stack.enter_context(TensorBoardLog(run.folder / "tensorboard", run.progress.step)))
        stack.enter_context(stopped_by_signals(run))
        stack.enter_context(display.bar)
        return run.train(lambda record: [report(record) for report in reports] and None)
