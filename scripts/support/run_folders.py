"""Where a command writes: in its folder, or in a dry run in one that is removed afterwards; and what it says of that."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def folder_or_temporary(folder: Path, dry_run: bool) -> Iterator[Path]:
    """Gives the folder itself, or in a dry run a temporary one."""
    if not dry_run:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tinylm-") as temporary:
        yield Path(temporary)


def named(folder: Path, dry_run: bool) -> str:
    """Returns how a line names the run folder; that of a dry run is gone when the command has ended."""
    return "run folder: a temporary one, which this dry run removes" if dry_run else f"run folder {folder}"


def say_if_finished(run: Any, remedy: str = "") -> None:
    """Prints a line if a run that is to be resumed has nothing left to do; remedy: how it could make more steps than it was to make."""
    if run.finished():
        patient = run.progress.step < run.config.steps  # it has stopped early
        more = "; a larger --patience, or 0, trains on" if patient else remedy
        print(f"the run in {run.folder} was finished already, at step {run.progress.step}{more}")
