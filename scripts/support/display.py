"""What the user sees of a training run, and how Ctrl-C stops it."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from tinylm.train import Run
from tinylm.train.tensorboard import TensorBoardLog
from tinylm.train.watching.bars import shown_bar, shown_memory


class Lines:
    """One line per record, at most every five seconds: what is shown where there is no progress bar."""

    def __init__(self, steps: int, start: int) -> None:
        self.steps, self.start, self.began = steps, start, time.monotonic()
        self.printed = 0.0

    def __call__(self, record: dict[str, Any]) -> None:
        if "sample" in record:
            print(f"step {record['step']}/{self.steps}  a sample:\n{record['sample']}\n", flush=True)
            return
        if "val_loss" in record:
            print(f"step {record['step']}/{self.steps}  validation loss {record['val_loss']:.4f}", flush=True)
            return
        now = time.monotonic()
        if now - self.printed > 5 or record["step"] == self.steps:
            self.printed = now
            left = (now - self.began) / (record["step"] - self.start) * (self.steps - record["step"])
            speed, memory = f"{record['tokens_per_second']:,.0f}", shown_memory(record["memory_mb"])
            print(
                f"step {record['step']}/{self.steps}  loss {record['loss']:.4f}  {speed} tokens/s  {left:.0f} s left  {memory}",
                flush=True,
            )


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
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(shown_bar(run.state))
        reports: list[Callable[[dict[str, Any]], None]] = [bar or Lines(run.config.steps, run.progress.step)]
        if tensorboard:
            reports.append(stack.enter_context(TensorBoardLog(run.folder / "tensorboard", run.progress.step)))
        stack.enter_context(stopped_by_signals(run))
        return run.train(lambda record: [report(record) for report in reports] and None)
