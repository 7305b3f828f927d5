"""explain.py gates: the gates and states of a recurrent model, token by token."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from inside.readings import Pictured, load, picture, show
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.gates import GATES


@dataclass(frozen=True)
class GateMaps(Pictured):
    """Prints what the gates and states of a recurrent model do while it reads a text, one line per gate, and draws it."""

    out: Path | None = None
    """the picture; by default gates.png in the run folder (for a translator: gates-encoder.png and gates-decoder.png)"""


def gates(arguments: GateMaps) -> None:
    read = load(arguments)
    layers = read.gates()
    if not layers:
        raise ConfigError(f"the model in {arguments.run} is not recurrent; 'attention' shows a Transformer")
    table = Table("layer", "gate or state", "mean", "from", "to", "closed (< 0.1)", "open (> 0.9)", box=None)
    for layer in layers:
        for name, values in layer.values.items():
            shut, wide = (f"{100 * part.mean():.0f} %" for part in (values < 0.1, values > 0.9)) if name in GATES else ("", "")
            table.add_row(layer.name, name, f"{values.mean():+.3f}", f"{values.min():+.3f}", f"{values.max():+.3f}", shut, wide)
    show(table)
    for part in read.parts(layers):
        picture(arguments, "gates.png", part.name, explain.draw_gates(part.layers, part.tokens))
