"""Pictures of gates and states: one heat map per gate, one line per unit, sorted."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize

from tinylm.explain.drawing import Panel, sheet
from tinylm.explain.figures import Picture
from tinylm.explain.gates import GATES, Gates
from tinylm.explain.token_axes import visible

_WIDEST = 12.5  # inches of panels side by side
_HIGH = 3.2  # inches of a panel's cells

_QUESTIONS = {
    "lstm": "Which units keep their cell over a whole word, and which reset at a space? A unit keeps it while its line in forget "
    "stays dark; a bright stripe in forget is a reset, and c changes there.",
    "gru": "Which units keep their state over a whole word, and which take a new one at a space? A unit keeps it while its line in "
    "update stays dark; a bright stripe in update is a new state, and h changes there.",
    "rnn": "Which units tell a space from a letter, and which remember something longer than one token? Look for lines of h that change "
    "colour at each space, and for lines that keep one colour.",
}


def question(layers: Sequence[Gates]) -> str:
    """Returns what to ask of the pictures of these layers, and where to look for the answer."""
    return _QUESTIONS[layers[0].kind]


def unit_order(layer: Gates) -> tuple[np.ndarray, str]:
    """Returns the units of a layer in the order in which they are drawn, and what they are sorted by, for the first text:
    the mean of the gate that keeps the state, the most open first; for a plain RNN, the mean of h."""
    name = {"lstm": "forget", "gru": "update"}.get(layer.kind, "h")
    means = np.nanmean(layer.values[name][:, 0], axis=0)
    return np.argsort(-means, kind="stable"), f"units, the highest mean of {name} first"


def draw_gates(layers: Sequence[Gates], tokens: Sequence[str]) -> Picture:
    """Draws each gate and state for the first text of the batch: the tokens from left to right, one line per unit, sorted
    alike in all panels of a layer. Gates run from 0 (white) to 1 (dark); other values are blue below 0 and orange above."""
    rows = [gate_panels(layer, tokens) for layer in layers]
    side = max(panel.margins[0] + panel.inside[0] + panel.margins[2] for row in rows for panel in row)
    across = max(1, min(3, int(_WIDEST / side)))
    return sheet([row[start : start + across] for row in rows for start in range(0, len(row), across)], question(layers))


def draw_gate(layer: Gates, name: str, tokens: Sequence[str], width: float = 2.6) -> Picture:
    """Draws one gate or state, whose cells together are at most `width` inches wide."""
    return sheet([[gate_panel(layer, name, tokens, width)]])


def gate_panels(layer: Gates, tokens: Sequence[str]) -> list[Panel]:
    return [gate_panel(layer, name, tokens) for name in layer.values]


def gate_panel(layer: Gates, name: str, tokens: Sequence[str], width: float = math.inf) -> Panel:
    order, sorted_by = unit_order(layer)
    values = layer.values[name][:, 0].T[order]
    cell = min(0.16, width / len(tokens)), min(0.2, _HIGH / len(order))
    is_gate = name in GATES
    most = max(1.0, float(np.nanmax(np.abs(values))))
    return Panel(
        f"{layer.name}, {name}", values, [int(unit) for unit in order], list(map(visible, tokens)), cell, diverging=not is_gate,
        norm=Normalize(0, 1) if is_gate else Normalize(-most, most),
        bar="gate: 0 closed, 1 open" if is_gate else f"value of {name}", row_label=sorted_by, column_label="tokens, in the order read",
    )  # fmt: skip
