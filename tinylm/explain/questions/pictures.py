"""Pictures of the lens, of ablations and of patching."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from tinylm.explain.drawing import Panel, bars, cell_size, sheet
from tinylm.explain.figures import Picture, cold_and_hot, color_map, ink_on
from tinylm.explain.questions.ablation import Ablation
from tinylm.explain.questions.lens import Lens
from tinylm.explain.questions.patching import Patching
from tinylm.explain.token_axes import text_width, visible

_LONGEST = 9  # characters of a token in a cell
_POINTS = 7
_WORST = 8.0  # nats: a loss from which on all look alike
_MOST_BARS = 30


def draw_lens(found: Lens) -> Picture:
    """Draws what each layer says at each position, dark where it is sure, with a frame where it decides; and the right token's loss."""
    said = [[_short(found.answer(token)) for token in row] for row in found.top[:, :, 0]]
    wide = max(text_width(text, _POINTS) for row in said for text in row)
    cell = min(0.8, max(0.2, wide + 0.06)), 0.2
    reads = [visible(token) for token in found.tokens]
    sure = found.probabilities[:, :, 0]
    panels = [Panel("what each layer says", sure, found.layers, reads, cell, norm=Normalize(0, 1), bar="probability")]
    if (found.targets >= 0).any():
        right = [visible(found.answer(token)) for token in found.targets]
        worst = min(_WORST, float(np.nanmax(found.loss)))
        scale, label = Normalize(0, worst), "nats" + (f", {_WORST:.0f} and more alike" if worst == _WORST else "")
        panels.append(Panel("loss of the right token, which is below", found.loss, found.layers, right, cell, norm=scale, bar=label))
    figure = sheet([[panel] for panel in panels], "Logit lens. A frame: from this layer on the model says what it says in the end.")
    _write(figure.axes[0], panels[0], said)
    for t, layer in enumerate(found.decided):
        frame = Rectangle((t - 0.5, layer - 0.5), 1, 1, fill=False, edgecolor=cold_and_hot()[1], linewidth=1.6)
        figure.axes[0].add_patch(frame)
    return figure


def _write(axes: Any, panel: Panel, texts: Sequence[Sequence[str]]) -> None:
    """Writes a text into each cell of a panel, which is drawn in these axes."""
    assert panel.norm is not None
    shades = color_map(panel.diverging)(panel.norm(panel.values))
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            color = ink_on(shades[i, j, :3])
            axes.text(j, i, text, ha="center", va="center", fontsize=_POINTS, color=color, parse_math=False, gid="value")


def _short(token: str) -> str:
    shown = visible(token)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def draw_ablation(found: Ablation) -> Picture:
    """Draws the change of the loss for each head, and beside it for MLPs and whole layers; of many parts the most important as bars."""
    title = f"Change of the loss, {found.loss:.3f}, when a part becomes {found.instead}"
    if found.many:
        parts, layers = found.ranked()[:_MOST_BARS], found.ranked(layers=True)
        if len(layers) <= 4:
            title += f"; whole layers: {', '.join(f'{name} {change:+.2f}' for name, change, _ in layers)}"
        names = [name.removeprefix("members.") for name, _, _ in parts]  # which leaves the number of the ensemble's member
        return bars([change for _, change, _ in parts], names, title=title, axis_label="nats per token")
    heads = sum(column[-1].isdigit() for column in found.columns)
    groups = [("heads", slice(heads)), ("MLPs and layers", slice(heads, None))]
    panels = [_numbers(name, found.change[:, part], found.layers, found.columns[part], "nats per token") for name, part in groups]
    return _with_numbers(panels, title)


def draw_patching(found: Patching) -> Picture:
    """Draws the recovery by layer and position, or by layer and head."""
    title = f"{found.metric}: {found.in_other:.4g} for the other text, {found.in_text:.4g} for the text"
    columns = found.columns
    if found.what != "heads":
        columns = [visible(ours if ours == theirs else f"{theirs}→{ours}") for ours, theirs in zip(columns, found.others, strict=True)]
    return _with_numbers([_numbers("what a patch recovers", found.recovery, found.rows, columns, "recovery")], title)


def _numbers(title: str, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], label: str) -> Panel:
    return Panel(title, values, rows, columns, cell_size(len(rows), len(columns), _space(values)), diverging=True, bar=label)


def _with_numbers(panels: Sequence[Panel], title: str) -> Picture:
    """Draws panels side by side, with each value in its cell if there is space, except those that round to nothing."""
    figure = sheet([panels], title)
    for panel, axes in zip(panels, figure.axes[::2], strict=True):
        if _space(panel.values):
            _write(axes, panel, [[f"{x:.2f}".replace("-", "−") if abs(x) >= 0.005 else "" for x in row] for row in panel.values])
    return figure


def _space(values: np.ndarray) -> bool:
    return values.shape[0] <= 40 and values.shape[1] <= 16
