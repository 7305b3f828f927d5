"""A progress bar of a run: in a terminal, in a notebook, and none where the output is neither, such as a file."""

import contextlib
import importlib
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from html import escape
from typing import Any, Self

from tinylm.train.state import RunState

_REDRAWN = 0.2  # seconds between two drawings in a notebook
_one = threading.Lock()  # two bars at a time would overwrite each other


class Bar(ABC):
    """How far a run is, and its newest numbers. It takes the records that metrics.jsonl gets."""

    def __init__(self, state: RunState) -> None:
        self.state, self.start = state, state.progress.step
        self.began = time.monotonic()
        self.numbers: dict[str, str] = {}

    @property
    def step(self) -> int:
        """How many steps of all the run has made; a classifier's records count those of a member."""
        return self.state.progress.step

    @property
    def steps(self) -> int:
        """The step that the run stops at."""
        return self.state.task.config.steps

    def __call__(self, record: dict[str, Any]) -> None:
        if "sample" in record:
            self.write(f"step {record['step']}/{self.steps}  a sample:\n{record['sample']}\n")
            return
        self.numbers |= numbers_of(record)
        self.draw()

    def text(self) -> str:
        """Returns the newest numbers in words."""
        return "  ".join(self.numbers[name] for name in ("loss", "val", "speed", "memory") if name in self.numbers)

    def seconds_left(self) -> float | None:
        """Returns how long the remaining steps will take if they take what those since the start took; None before there were any."""
        made = self.step - self.start
        return (time.monotonic() - self.began) / made * (self.steps - self.step) if made > 0 else None

    def write(self, text: str) -> None:
        """Prints a text beside the bar."""
        print(text, flush=True)

    @abstractmethod
    def draw(self) -> None:
        """Shows how far the run is now."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...


def numbers_of(record: dict[str, Any]) -> dict[str, str]:
    """Returns the numbers of a record in words, by name."""
    shown = {"loss": f"loss {record['loss']:.4f}"} if "loss" in record else {}
    if "val_loss" in record:
        shown["val"] = f"val {record['val_loss']:.4f}"
    if "tokens_per_second" in record:
        shown["speed"] = f"{record['tokens_per_second']:,.0f} tokens/s"
    if "memory_mb" in record:
        shown["memory"] = shown_memory(record["memory_mb"])
    return shown


def shown_memory(megabytes: dict[str, float]) -> str:
    """Returns '412 MB (peak 633)' of the process, with the device's memory on a GPU."""
    process = f"{megabytes['now']:.0f} MB (peak {megabytes['peak']:.0f})" if "now" in megabytes else f"{megabytes['peak']:.0f} MB at most"
    return process + (f", GPU {megabytes['device']:.0f} MB" if "device" in megabytes else "")


class TerminalBar(Bar):
    """A bar that rich draws."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[numbers]}  left", markup=False),
            TimeRemainingColumn(),
        )  # fmt: skip
        self.progress = Progress(*columns, console=Console())
        self.row = self.progress.add_task("", total=self.steps, completed=self.start, numbers="")
        self.progress.start()
        return self

    def draw(self) -> None:
        self.progress.update(self.row, completed=self.step, numbers=self.text())

    def write(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self.draw()
        self.progress.stop()


class NotebookBar(Bar):
    """A bar below a notebook's cell, one output that is drawn anew: whatever shows notebooks shows it, without widgets."""

    def __enter__(self) -> Self:
        self.drawn = time.monotonic()
        self.output = importlib.import_module("IPython.display").display(self, display_id=True)
        return self

    def draw(self) -> None:
        if time.monotonic() - self.drawn > _REDRAWN:
            self.drawn = time.monotonic()
            self.output.update(self)

    def __exit__(self, *_: object) -> None:
        self.output.update(self)

    def __repr__(self) -> str:
        left = self.seconds_left()
        remaining = [f"{left:.0f} s left"] if left is not None and self.step < self.steps else []
        return "  ".join([f"step {self.step:,}/{self.steps:,}", *([self.text()] if self.numbers else []), *remaining])

    def _repr_html_(self) -> str:
        whole = max(self.steps, 1)
        bar = f'<progress value="{self.step if self.steps else whole}" max="{whole}" style="vertical-align: middle"></progress>'
        return f'{bar} <span style="white-space: pre-wrap">{escape(repr(self))}</span>'


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which is asked only where IPython is there already."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextlib.contextmanager
def shown_bar(state: RunState) -> Iterator[Bar | None]:
    """Gives the bar of a run, which is shown meanwhile; None where the output is no terminal and no notebook, where another bar is
    shown, and for all but the first of several processes."""
    kind = NotebookBar if in_notebook() else TerminalBar if sys.stdout.isatty() else None
    if kind is None or state.ranks.rank or not _one.acquire(blocking=False):
        yield None
        return
    try:
        with kind(state) as bar:
            yield bar
    finally:
        _one.release()
