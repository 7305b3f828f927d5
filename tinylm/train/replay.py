"""Repeating a training step that failed."""

from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.json_files import read_json
from tinylm.files.signed_arrays import read_arrays
from tinylm.train.failures import examine
from tinylm.train.loop import Run
from tinylm.train.snapshots import restore
from tinylm.train.tasks.translation import TASK, TranslationRun


class OneBatch:
    """The data of a run that has but one batch, whatever its number."""

    def __init__(self, batch: Any, starts_afresh: bool) -> None:
        self.batch, self.fresh = batch, starts_afresh

    def __getitem__(self, k: int) -> Any:
        return self.batch

    def starts_afresh(self, k: int) -> bool:
        """Whether the batch continues none before it."""
        return self.fresh


def failed_run(folder: Path) -> Run:
    """The run as it was before the step that failed, with that step's batch as its only data: from config.json
    and failure/ alone. It may be examined at will; it is not for training on.

    Errors: CheckpointError when the folder has no failure, or a damaged one.
    """
    path = folder / "failure" / "state.safetensors"
    if not path.exists():
        raise CheckpointError(f"{folder} holds no failed step: there is no {path}")
    arrays, record = read_arrays(path)
    config = read_json(folder / "config.json")
    kind = TranslationRun if isinstance(config, dict) and config.get("task") == TASK else Run
    batch: dict[str, np.ndarray] = {name.removeprefix("batch."): a for name, a in arrays.items() if name.startswith("batch.")}
    rest = {name: a for name, a in arrays.items() if not name.startswith("batch.")}
    try:
        data = OneBatch(kind.batch_of(batch), bool(record["starts_afresh"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has no batch of a {kind.__name__}: it holds {sorted(batch)}") from error
    run = kind.without_data(folder, data)
    restore(run, path, rest, record)
    run.model.train()
    return run


def replay(folder: Path) -> dict[str, Any]:
    """Repeats the step that failed, and returns the report as failure/report.json has it; `explained` makes it a line."""
    run = failed_run(folder)
    return examine(run, run.progress.step)
