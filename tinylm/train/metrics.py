"""Losses over a whole split, and the record of a run in metrics.jsonl."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import backend, ops
from tinylm.autograd import no_grad
from tinylm.data.batching import consecutive_blocks
from tinylm.errors import CheckpointError
from tinylm.models import LanguageModel
from tinylm.tensor import Tensor


def validation_loss(model: LanguageModel, ids: np.ndarray, device: str, batch_size: int = 32) -> float:
    """Mean -log p of every token but the first, in nats, in blocks that do not overlap.

    Each token sees at most the tokens before it in its own block, so this is an upper bound of
    what a sliding window would give. The model is in evaluation mode meanwhile.
    """
    total, count, training = 0.0, 0, model.training
    model.eval()
    try:
        with no_grad():
            for x, y in consecutive_blocks(ids, model.block_size or len(ids), batch_size):
                logits, _ = model.advance(Tensor(backend.to_device(x, device)))
                total += ops.cross_entropy(logits, Tensor(backend.to_device(y, device)), reduction="sum").item()
                count += y.size
    finally:
        model.train(training)
    return total / count


class MetricsLog:
    """metrics.jsonl: a JSON record a line, appended and flushed at once."""

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        """Keeps the lines up to step `resume_at` of an earlier part of the run, drops later ones."""
        self.path = path
        kept = []
        try:
            if resume_at and path.exists():
                for line in path.read_text(encoding="utf-8").splitlines():
                    record = _parsed(line)
                    if record is not None and record["step"] <= resume_at:
                        kept.append(line)
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error.strerror or error}") from error


def _parsed(line: str) -> dict[str, Any] | None:
    """A record with a step; None for a line that a crash cut short."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None
