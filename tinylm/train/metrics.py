"""What a run measures of itself, and its records in metrics.jsonl."""

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

from tinylm.engine.devices import device_namespace, to_numpy
from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import parse_json
from tinylm.files.regular_files import exists, open_regular, unreadable
from tinylm.nn import Module
from tinylm.optim.optimizer import grad_norm
from tinylm.train.run_folder import open_own


def memory_mb(device: str = "cpu") -> dict[str, float]:
    """Returns megabytes: `now` and at its `peak` of the process (resident), and what CuPy holds on the `device` if it is a GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, else KiB
    used = {"peak": peak}
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        used = {"now": pages * resource.getpagesize() / 2**20, "peak": peak}
    except OSError:
        pass  # only Linux has it
    if device != "cpu":
        used["device"] = device_namespace(device).get_default_memory_pool().total_bytes() / 2**20
    return {name: round(megabytes, 1) for name, megabytes in used.items()}


class MetricsLog:
    """metrics.jsonl: one JSON record per line, appended and flushed at once.

    A run with the same settings, data and machine, or resumed at any step, repeats every number to the last bit, except for
    what it measures: tokens_per_second, train_seconds and memory_mb. `loss` is that of the last record with one.
    """

    loss: float | None

    def __init__(self, path: Path, resume_at: int = 0, lines: int | None = None) -> None:
        """Keeps the lines up to step `resume_at` of an earlier part of the run, and no more than `lines`; drops later ones."""
        self.path, self.loss = path, None
        earlier = _lines(path) if resume_at and exists(path) else []
        kept = [(line, record) for line in earlier if (record := _parsed(line)) is not None and record["step"] <= resume_at][:lines]
        write_atomically(path, "".join(line + "\n" for line, _ in kept).encode("utf-8"))
        for _, record in kept:
            self._note(record)

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        try:
            with os.fdopen(open_own(self.path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._note(record)

    def _note(self, record: dict[str, Any]) -> None:
        if isinstance(loss := record.get("loss"), float):
            self.loss = loss


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a metrics.jsonl; a line that a crash cut short is left out. Raises CheckpointError."""
    return [record for record in map(_parsed, _lines(path)) if record is not None]


def _lines(path: Path) -> list[str]:
    try:
        with open_regular(path) as file:
            return [str(line, "utf-8", "replace").removesuffix("\n") for line in file]
    except OSError as error:
        raise unreadable(path, error) from error


def _parsed(line: str) -> dict[str, Any] | None:
    """Returns a record with a step; None for a line that a crash cut short, and for what is no record of ours."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def layer_of(path: str) -> str:
    """Returns the layer that a parameter belongs to, from its path: 'transformer.h.0.attn.c_attn.weight' is of
    'transformer.h.0', 'rnn.weight_ih_l1' of 'rnn.l1', 'decoder.weight' of 'decoder'."""
    numbered = re.match(r"(?:.*?\.)?\d+(?=\.)", path)
    if numbered:
        return numbered[0]
    module, _, name = path.rpartition(".")
    recurrent = re.search(r"_(l\d+(?:_reverse)?)$", name)
    return f"{module}.{recurrent[1]}".lstrip(".") if recurrent else module or name


def gradient_norms(model: Module) -> dict[str, float]:
    """Returns √Σ g² of each layer's gradients as `backward` left them, by layer; without those that have none."""
    grads: dict[str, list[Any]] = {}
    for path, p in model.named_parameters():
        if p.grad is not None:
            grads.setdefault(layer_of(path), []).append(p.grad)
    return {layer: float(to_numpy(grad_norm(of_layer))) for layer, of_layer in grads.items()}
