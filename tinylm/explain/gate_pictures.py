"""Pictures of gates and states: one heat map per gate, one line per unit, sorted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize

from tinylm.explain.drawing import Panel, sheet, side_by_side
from tinylm.explain.figures import Picture
from tinylm.explain.gate_units import unit_order
from tinylm.explain.gates import GATES, Gates
from tinylm.explain.token_axes import visible

_WIDE = 30.0  # inches, the most
_HIGH = 3.2  # inches of a panel's cells

_QUESTIONS = {
    "lstm": "Which units keep their cell {whole}, and which reset at {mark}? A unit keeps it while its line in forget stays near 1; "
    "a stripe near 0 in forget is a reset, and c changes there.",
    "gru": "Which units keep their state {whole}, and which take a new one at {mark}? A unit keeps it while its line in update stays near "
    "1; a stripe near 0 in update is a new state, and h changes there.",
    "rnn": "Which units tell {mark} from the rest, and which remember something {whole}? Look for lines of h that change colour there, and "
    "for lines that keep one colour.",
}


def question(layers: Sequence[Gates], tokens: Sequence[str]) -> str:
    """Returns what to ask of the pictures of these layers, and where to look for the answer."""
    letters = sum(len(token) == 1 for token in tokens) > len(tokens) / 2
    whole, mark = ("over a whole word", "a space") if letters else ("over the whole text", "single words")
    return _QUESTIONS[layers[0].kind].format(whole=whole, mark=mark)


def draw_gates(layers: Sequence[Gates], tokens: Sequence[str]) -> Picture:
    """Draws each gate and state for the first text of the batch: the tokens from left to right, one line per unit, sorted
    alike in all panels of a layer. Gates run from 0 (white) to 1 (dark); other values are blue below 0 and orange above."""
    panels = [[gate_panel(layer, name, tokens) for name in layer.values] for layer in layers]
    return sheet([part for row in panels for part in side_by_side(row)], question(layers, tokens))


def draw_gate(layer: Gates, name: str, tokens: Sequence[str], width: float = 2.25) -> Picture:
    """Draws one gate or state, whose cells together are at most `width` inches wide."""
    return sheet([[gate_panel(layer, name, tokens, width)]])


def gate_panel(layer: Gates, name: str, tokens: Sequence[str], width: float = _WIDE) -> Panel:
    order, sorted_by = unit_order(layer)
    values = layer.values[name][:, 0].T[order]
    cell = min(0.16 if len(tokens) > 14 else 0.25, width / len(tokens)), min(0.2, _HIGH / len(order))
    is_gate = name in GATES
    most = max(1.0, float(np.nanmax(np.abs(values))))
    return Panel(
        f"{layer.name}, {name}", values, [int(unit) for unit in order], list(map(visible, tokens)), cell, diverging=not is_gate,
        norm=Normalize(0, 1) if is_gate else Normalize(-most, most),
        bar="gate: 0 closed, 1 open" if is_gate else f"value of {name}", row_label=sorted_by, column_label="tokens, in the order read",
    )  # fmt: skip
