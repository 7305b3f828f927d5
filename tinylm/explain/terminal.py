"""The backward pass on a terminal: all its steps as a table, and why a leaf's gradient is what it is (by rich)."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm.explain.array_text import cosine, described, norm
from tinylm.explain.backward import Leaf, Step, givers_of


def overview(walked: Iterable[Step]) -> Table:
    """Returns one row per step: what came in, and what each argument receives."""
    table = Table("", "op", "module", "made at", "incoming |g|", "gives |g|", box=None)
    for step in walked:
        incoming = ", ".join("-" if g is None else f"{norm(g):.3g}" for g in step.incoming)
        gives = ", ".join(f"{c.argument} {norm(c.gradient):.3g}" for c in step.received)
        place = step.where.replace("\\", "/").rpartition("/")[2]  # gpt.py:71 for /home/me/gpt.py:71
        table.add_row(*map(Text, (str(step.number), step.op, step.module, place, incoming, gives)))
    return table


def reason(leaf: Leaf, walked: Sequence[Step]) -> Group:
    """Returns why a leaf's gradient is what it is: its parts, the steps they come from, and where these got theirs."""
    parts = "one contribution" if len(leaf.parts) == 1 else f"the sum of {len(leaf.parts)} contributions"
    head = Text(f"the gradient of {leaf.name}: {described(leaf.gradient)}\n= {parts}", style="bold")
    table = Table("step", "op", "argument", "module", "|g|", "cosine with the sum", box=None)
    for step, c in leaf.parts:
        row = str(step.number), step.op, c.argument, step.module, f"{norm(c.gradient):.4g}", f"{cosine(c.gradient, leaf.gradient):+.3f}"
        table.add_row(*map(Text, row))
    shown: list[Any] = [head, table]
    for step, _ in leaf.parts:
        givers = ", ".join(f"step {s.number} ({s.op}) through its {c.argument} {norm(c.gradient):.4g}" for s, c in givers_of(step, walked))
        shown += [step, Text(f"what came in there is from {givers or 'the loss itself'}")]
    return Group(*shown)
