"""The backward pass on a terminal: all its steps as a table, and why a leaf's gradient is what it is (by rich)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tinylm.explain.array_text import cosine, described, norm, shape_text
from tinylm.explain.backward import Leaf, Step, givers_of
from tinylm.explain.naming import short_place


@dataclass(frozen=True)
class PathText:
    """A dotted path that is cut at its left where there is too little room: '…h.0.attn', since its end tells more."""

    path: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self.path), 12), len(self.path))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(cut_left(self.path, options.max_width), no_wrap=True)


def cut_left(path: str, width: int) -> str:
    """Returns the path, or as many of its last parts as fit."""
    if len(path) <= width:
        return path
    parts = path.split(".")
    ends = (".".join(parts[i:]) for i in range(1, len(parts)))
    return next((f"…{end}" for end in ends if len(end) < width), "…" + parts[-1][-(width - 1) :])


@dataclass(frozen=True)
class Overview:
    """One row per step: its output, what came in, and what each argument receives. Below 120 columns without the source lines."""

    walked: Sequence[Step]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= 120
        table = Table(box=None)
        for name in ("", "op", "module", *(["made at"] if wide else []), "output", "|x|", "|g| in", "gives |g|"):
            table.add_column(name, no_wrap=name in ("output", "|x|", "|g| in") or (wide and name != "gives |g|"))
        for step in self.walked:
            norms, incoming = (
                "\n".join("-" if a is None else f"{norm(a):.3g}" for a in arrays) for arrays in (step.outputs, step.incoming)
            )
            shapes = ["-" if a is None else shape_text(a.shape) for a in step.outputs]
            gives = ", ".join(f"{c.argument} {norm(c.gradient):.3g}" for c in step.received)
            place = [Text(short_place(step.where).rpartition("/")[2])] if wide else []  # gpt.py:71
            table.add_row(
                str(step.number), Text(step.op), PathText(step.module), *place, *map(Text, ("\n".join(shapes), norms, incoming, gives))
            )
        yield table


def overview(walked: Iterable[Step]) -> Overview:
    """Returns a table of the steps, for rich.print."""
    return Overview(list(walked))


def sentence(loss: Any, count: int, model: Any = None, about: str = "") -> str:
    """Returns what a pass is about: 'GPT: loss 1.6794 nats per token over 18 tokens. Its backward pass takes 42 steps.'
    about: the words after the value."""
    value = f"loss {loss.item():.4f}" if loss.size == 1 else f"output of shape {shape_text(loss.shape)}"
    head = f"{type(model).__name__}: " if model is not None else ""
    return f"{head}{value}{' ' if about else ''}{about}. Its backward pass takes {count} steps."


def reason(leaf: Leaf, walked: Sequence[Step]) -> Group:
    """Returns why a leaf's gradient is what it is: its parts, the steps they come from, and where these got theirs."""
    parts = "one contribution" if len(leaf.parts) == 1 else f"the sum of {len(leaf.parts)} contributions"
    head = Text(f"the gradient of {leaf.name}: {described(leaf.gradient)}\n= {parts}", style="bold")
    table = Table("step", "op", "argument", "module", "|g|", "cosine with the sum", box=None)
    for step, c in leaf.parts:
        figures = f"{norm(c.gradient):.4g}", f"{cosine(c.gradient, leaf.gradient):+.3f}"
        table.add_row(str(step.number), Text(step.op), Text(c.argument), PathText(step.module), *figures)
    shown: list[Any] = [head, table]
    for step, _ in leaf.parts:
        givers = ", ".join(f"step {s.number} ({s.op}) through its {c.argument} {norm(c.gradient):.4g}" for s, c in givers_of(step, walked))
        shown += [step, Text(f"what came in there is from {givers or 'the loss itself'}")]
    return Group(*shown)
