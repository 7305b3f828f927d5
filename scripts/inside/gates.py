"""explain.py gates: the gates and states of a recurrent model, token by token."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from inside.readings import Pictured, load, picture, show
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.gate_pictures import question
from tinylm.explain.gate_units import at_spaces, extreme_units
from tinylm.explain.gates import GATES

LEGEND = (
    "< 0.1: how often the gate is closed; > 0.9: open; low, high: the units with the lowest and the highest mean; "
    "at spaces: the unit that follows best whether a token is white space, and its correlation"
)


@dataclass(frozen=True)
class GateMaps(Pictured):
    """Prints what the gates and states of a recurrent model do while it reads a text, one line per gate, and draws it.
    The last columns name single units: those with the lowest and the highest mean, and the one that follows best whether a
    token is white space, with its correlation."""

    out: Path | None = None
    """the picture; by default gates.png in the run folder (for a translator: gates-encoder.png and gates-decoder.png)"""


def gates(arguments: GateMaps) -> None:
    read = load(arguments)
    layers = read.gates()
    if not layers:
        raise ConfigError(f"the model in {arguments.run} is not recurrent; 'attention' shows a Transformer")
    parts = read.parts(layers)
    tokens = {layer.name: part.tokens for part in parts for layer in part.layers}
    table = Table("layer", "gate or state", "mean", "from", "to", "< 0.1", "> 0.9", "low, high", "at spaces", box=None)
    for layer in layers:
        for name, values in layer.values.items():
            shut, wide = (f"{100 * part.mean():.0f} %" for part in (values < 0.1, values > 0.9)) if name in GATES else ("", "")
            of_units = units(values[:, 0], tokens[layer.name])
            table.add_row(layer.name, name, *(f"{x:+.3f}" for x in (values.mean(), values.min(), values.max())), shut, wide, *of_units)
    show(table)
    for part in parts:
        picture(arguments, "gates.png", part.name, explain.draw_gates(part.layers, part.tokens))
    if not arguments.dry_run:
        show(LEGEND)
        show(f"what to ask of the picture: {question(layers, parts[0].tokens)}")


def units(values: np.ndarray, tokens: list[str]) -> tuple[str, str]:
    """Returns the units with the lowest and highest mean, and the one that follows spaces, as cells of the table."""
    low, high = extreme_units(values)
    found = at_spaces(values, tokens)
    return f"{low}, {high}", "-" if found is None else f"{found[0]} {found[1]:+.2f}"
