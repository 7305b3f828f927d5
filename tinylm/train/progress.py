"""Where a run stands, and the summary it ends with."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.files.json_files import write_json
from tinylm.models import LanguageModel, NgramLM
from tinylm.nn import Module
from tinylm.train.checkpoints import save_arrays


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
        """What `vars` gave. Errors: ValueError naming what does not fit."""
        names = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(record, dict) or set(record) != names:
            raise ValueError(f"its progress is {record!r:.80}, expected {', '.join(sorted(names))}")
        for field in dataclasses.fields(cls):
            value = record[field.name]
            whole = field.type is int
            fits = type(value) in ((int,) if whole else (int, float)) or (value is None and field.name == "val_loss")
            if not fits or (whole and value < field.default):
                raise ValueError(f"its progress has {field.name} {value!r:.40}")
        return cls(**record)


def finish(
    folder: Path,
    model: LanguageModel | NgramLM | Module,
    arrays: dict[str, Any],
    progress: Progress,
    bytes_per_token: float,
    tokens: int,
    stopped_early: bool = False,
) -> dict[str, Any]:
    """Writes model.safetensors and summary.json and returns the summary."""
    loss: Any = progress.val_loss
    summary = {
        "val_loss": loss,
        "val_nats_per_byte": loss / bytes_per_token,
        "best_val_loss": progress.best_val_loss,
        "best_step": progress.best_step,
        "steps": progress.step,
        "stopped_early": stopped_early,
        "parameters": model.num_parameters(),
        "train_seconds": progress.train_seconds,
        "tokens_per_second": tokens / progress.train_seconds if progress.train_seconds else 0.0,
    }
    save_arrays(folder / "model.safetensors", arrays, {"step": progress.step, "val_loss": loss})
    write_json(folder / "summary.json", summary)
    return summary
