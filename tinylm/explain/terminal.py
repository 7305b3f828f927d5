"""The backward pass on a terminal, by rich."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_numpy
from tinylm.explain.backward import Leaf, Step, givers_of

_FEW = 8  # the largest array whose elements are all shown


def norm(array: Array) -> float:
    """The root of the sum of squares, summed in float64."""
    return float(np.linalg.norm(to_numpy(array).astype(np.float64).ravel()))


def described(array: Array | None) -> str:
    """'(2, 3) |g| 0.5', with the elements of a small array."""
    if array is None:
        return "none, counted as zeros"
    values = f"  {np.array2string(to_numpy(array), precision=4, separator=', ')}".replace("\n", "") if array.size <= _FEW else ""
    return f"{_shape(array.shape)} |g| {norm(array):.4g}{values}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else f"({', '.join(map(str, shape))})"


def _place(where: str) -> str:
    """'gpt.py:71' of '/home/me/gpt.py:71'."""
    return where.replace("\\", "/").rpartition("/")[2]


def overview(walked: Iterable[Step]) -> Table:
    """A line a step: what came in, and what each argument gets."""
    table = Table("", "op", "module", "made at", "incoming |g|", "gives |g|", box=None)
    for step in walked:
        incoming = ", ".join("-" if g is None else f"{norm(g):.3g}" for g in step.incoming)
        gives = ", ".join(f"{c.argument} {norm(c.gradient):.3g}" for c in step.received)
        table.add_row(*map(Text, (str(step.number), step.op, step.module, _place(step.where), incoming, gives)))
    return table


def panel(step: Step) -> Panel:
    """All about one step."""
    lines: list[Any] = [Text(f"{step.where}\n    {step.code}", style="dim")]
    lines.append(Text("inputs    " + ",  ".join(f"{name} {_shape(shape)}" for name, shape in step.inputs)))
    for i, g in enumerate(step.incoming):
        which = f" of output {i}" if len(step.incoming) > 1 else ""
        lines.append(Text(f"incoming{which}  {described(g)}", style="bold"))
    lines += [Text(), Text(step.formula, style="italic"), Text()]
    for c in step.received:
        lines.append(Text(f"{c.argument} receives {described(c.gradient)}  → {c.name}", style="bold"))
        if c.count > 1:
            lines.append(Text(f"    contribution {c.count}; with those before it {described(c.total)}"))
    title = f"{step.number}  {step.op}" + (f"  in {step.module}" if step.module else "")
    return Panel(Group(*lines), title=Text(title), title_align="left")


def reason(leaf: Leaf, walked: Sequence[Step]) -> Group:
    """Why a leaf's gradient is what it is: its parts, the steps that gave them, and where these had theirs from."""
    parts = "one contribution" if len(leaf.parts) == 1 else f"the sum of {len(leaf.parts)} contributions"
    head = Text(f"the gradient of {leaf.name}: {described(leaf.gradient)}\n= {parts}", style="bold")
    table = Table("step", "op", "argument", "module", "|g|", "cosine with the sum", box=None)
    for step, c in leaf.parts:
        row = str(step.number), step.op, c.argument, step.module, f"{norm(c.gradient):.4g}", f"{cosine(c.gradient, leaf.gradient):+.3f}"
        table.add_row(*map(Text, row))
    shown: list[Any] = [head, table]
    for step, _ in leaf.parts:
        givers = ", ".join(f"step {s.number} ({s.op}) through its {c.argument} {norm(c.gradient):.4g}" for s, c in givers_of(step, walked))
        shown += [panel(step), Text(f"what came in there is from {givers or 'the loss itself'}")]
    return Group(*shown)


def cosine(a: Array, b: Array) -> float:
    """a · b / (|a| |b|), 0 where one of them is 0: how far a part points where the sum points."""
    size = norm(a) * norm(b)
    return float(np.vdot(to_numpy(a).astype(np.float64), to_numpy(b).astype(np.float64))) / size if size else 0.0
