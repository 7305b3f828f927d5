"""The backward pass as one HTML page that needs no other file: data, style and script are inside."""

import itertools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy
from tinylm.explain.array_text import cosine, norm
from tinylm.explain.backward import Step, leaves, steps
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import without_nan
from tinylm.nn import Module

_FEW = 24  # the largest array whose elements are all shown


def page(loss: Any, path: str | Path, *, model: Module | None = None, gradient: Any = None) -> None:
    """Writes the backward pass from `loss` to `path`, to be opened in a browser, also without a network.

    The graph runs from the loss down to the leaves. Nodes are folded by the modules of `model`; an opened
    node shows what a `Step` holds, and at the end each leaf's gradient is shown as a sum. `#step-7`
    after the address opens step 7. Like `steps` it changes nothing. Raises what `steps` raises; CheckpointError
    if the file cannot be written.
    """
    walked = list(steps(loss, gradient, model=model))
    number = {step.node: step.number for step in walked}
    found = leaves(walked)
    leaf_number = {leaf.tensor: i for i, leaf in enumerate(found)}
    data = {
        "model": type(model).__name__ if model is not None else "",
        "loss": described(loss.data),
        "steps": [_step(step, number, leaf_number) for step in walked],
        "tree": folded(walked),
        "leaves": [
            {
                "name": leaf.name,
                "gradient": described(leaf.gradient),
                "parts": [
                    {"step": s.number, "argument": c.argument, "norm": norm(c.gradient), "cosine": cosine(c.gradient, leaf.gradient)}
                    for s, c in leaf.parts
                ],
            }
            for leaf in found
        ],
    }
    text = resources.files("tinylm.explain").joinpath("page.html").read_text(encoding="utf-8")
    record = json.dumps(without_nan(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")  # no text ends the script
    write_atomically(Path(path), text.replace('"DATA"', record).encode("utf-8", "backslashreplace"))


def _step(step: Step, number: dict[Any, int], leaf_number: dict[Any, int]) -> dict[str, Any]:
    return {
        **{name: getattr(step, name) for name in ("op", "where", "code", "module", "formula", "inputs")},
        "incoming": [None if g is None else described(g) for g in step.incoming],
        "gives": [
            {
                "argument": c.argument,
                "name": c.name,
                "step": number.get(c.tensor.node),
                "leaf": leaf_number.get(c.tensor),
                "gradient": described(c.gradient),
                "count": c.count,
                "total": described(c.total) if c.count > 1 else None,
            }
            for c in step.received
        ],
    }


def described(array: Array) -> dict[str, Any]:
    """Returns shape, norm, min, max and mean, and the elements of a small array."""
    values = to_numpy(array).astype(np.float64)
    record: dict[str, Any] = {"shape": values.shape, "norm": norm(array)}
    if values.size:
        record |= {"min": float(values.min()), "max": float(values.max()), "mean": float(values.mean())}
    if values.size <= _FEW:
        record["values"] = values.tolist()
    return record


def folded(walked: Sequence[Step]) -> list[Any]:
    """Returns step numbers, and {"path", "items"} for two or more consecutive steps of one module; a group with
    a single item is that item."""
    return _fold([(step.module.split(".") if step.module else [], step.number) for step in walked], "")


def _fold(entries: list[tuple[list[str], int]], above: str) -> list[Any]:
    items: list[Any] = []
    for head, together in itertools.groupby(entries, key=lambda entry: entry[0][:1]):
        run = list(together)
        if not head:
            items += [number for _, number in run]
            continue
        path = f"{above}.{head[0]}" if above else head[0]
        inside = _fold([(parts[1:], number) for parts, number in run], path)
        items.append(inside[0] if len(inside) == 1 else {"path": path, "items": inside})
    return items
