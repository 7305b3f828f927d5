"""The backward pass as one HTML page that needs no other file: data, style and script are inside."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylm.engine.arrays import Array
from tinylm.explain.array_records import ArrayRecords
from tinylm.explain.array_text import cosine, norm
from tinylm.explain.backward import Step, leaves, steps
from tinylm.explain.naming import short_place
from tinylm.explain.terminal import sentence
from tinylm.explain.time_steps import is_recurrent, time_steps
from tinylm.files.atomic import write_atomically
from tinylm.nn import Module
from tinylm.pages.document import document, resource


def page(loss: Any, path: str | Path, *, model: Module | None = None, gradient: Any = None, about: str = "") -> None:
    """Writes the backward pass from `loss` to `path`, to be opened in a browser, also without a network.

    The graph runs from the loss down to the leaves. Nodes are folded by the modules of `model`; an opened
    node shows what a `Step` holds, values beside gradients, and at the end each leaf's gradient is shown as a sum. `#step-7`
    after the address opens step 7. about: what the loss is, in words that follow its value, such as 'nats per token'. Like
    `steps` it changes nothing. Raises what `steps` raises; CheckpointError if the file cannot be written.
    """
    record = backward_record(loss, model=model, gradient=gradient, about=about)
    body = '<h1>The backward pass</h1>\n<main id="backward"></main>'
    start = 'drawBackward(document.getElementById("backward"), JSON.parse(document.getElementById("data").textContent));'
    text = document("The backward pass", body, styles=[backward_style()], scripts=[backward_script(), start], data=record)
    write_atomically(Path(path), text)


def backward_style() -> str:
    """Returns the CSS that `drawBackward` needs."""
    return resource("tinylm.explain", "backward.css")


def backward_script() -> str:
    """Returns the JavaScript that defines drawBackward(element, record): it fills the element with the pass."""
    return resource("tinylm.explain", "array_view.js") + resource("tinylm.explain", "backward.js")


class BackwardRecord(dict[str, Any]):
    """What `backward_record` returns."""

    def __repr__(self) -> str:
        return f"<the backward pass of {self['sentence']}>"


def backward_record(loss: Any, *, model: Module | None = None, gradient: Any = None, about: str = "") -> BackwardRecord:
    """Returns the backward pass for `drawBackward`: all that `page` shows, as JSON can hold it. Raises what `steps` raises."""
    walked = list(steps(loss, gradient, model=model))
    arrays = ArrayRecords()
    number = {step.node: step.number for step in walked}
    found = leaves(walked)
    leaf_number = {leaf.tensor: i for i, leaf in enumerate(found)}
    return BackwardRecord(
        sentence=sentence(loss, len(walked), model, about),
        steps=[_step(step, number, leaf_number, arrays) for step in walked],
        tree=folded(walked),
        leaves=[
            {
                "name": leaf.name,
                "value": arrays.add(leaf.tensor.data),
                "gradient": arrays.add(leaf.gradient),
                "parts": [
                    {"step": s.number, "argument": c.argument, "norm": norm(c.gradient), "cosine": cosine(c.gradient, leaf.gradient)}
                    for s, c in leaf.parts
                ],
            }
            for leaf in found
        ],
        arrays=arrays.records,
    )


def _step(step: Step, number: dict[Any, int], leaf_number: dict[Any, int], arrays: ArrayRecords) -> dict[str, Any]:
    """rows: values beside gradients, as `Step.rows` has them; to: the step or leaf that receives the gradient."""
    rows = []
    for name, value, g, c in step.rows():
        is_array = hasattr(value, "shape")
        row: dict[str, Any] = {"name": name, "value": arrays.add(value) if is_array else None, "gradient": arrays.add(g)}
        if not is_array and value is not None:
            row["number"] = value
        if c is not None:
            to = {"step": number.get(c.tensor.node), "leaf": leaf_number.get(c.tensor)}
            row |= {"to": to, "count": c.count, "total": arrays.add(c.total) if c.count > 1 else None}
        rows.append(row)
    record = {name: getattr(step, name) for name in ("op", "code", "module", "formula")}
    record |= {"where": short_place(step.where), "outputs": len(step.incoming), "rows": rows}
    return record | ({"times": _times(step, arrays)} if is_recurrent(step) else {})


def _times(step: Step, arrays: ArrayRecords) -> dict[str, Any]:
    """Returns the time steps of a recurrent op: a table, and maps with one row per unit and time from left to right."""
    found = time_steps(step)
    maps = [
        {"name": name, "value": arrays.add(_over_time(value)), "gradient": arrays.add(_over_time(found.gradients[name]))}
        for name, value in found.values.items()
    ]
    return {"order": found.order, "columns": found.table(), "maps": maps}


def _over_time(array: Array) -> Array:
    return array.transpose(1, 2, 0)  # (T, N, H) -> (N, H, T)


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
