"""Pictures of attention: one heat map per head."""

import math
from collections.abc import Sequence

from matplotlib.colors import PowerNorm

from tinylm.explain.attention_maps import Attention
from tinylm.explain.drawing import Panel, sheet
from tinylm.explain.figures import Picture
from tinylm.explain.token_axes import visible

EXPLANATION = (
    "Each row is a token that looks, each column a token that it looks at; the weights of a row sum to 1. "
    "The colour shows the square root of the weight, so that small weights show."
)
_WIDEST = 12.5  # inches of heads side by side
_LARGEST = 1600.0  # square inches of cells in one picture
_WITH_VALUES = 14  # tokens for which there is space to write the weights


def draw_attention(layers: Sequence[Attention], tokens: Sequence[str], sources: Sequence[str] | None = None) -> Picture:
    """Draws each head for the first text of the batch: the tokens at the left look at those below. The heads of a layer
    stand side by side, in several rows if they are many. The colour shows the square root of the weight; up to 14
    tokens, the weights are written into the cells. sources: the tokens looked at, if they are not `tokens`."""
    sources = tokens if sources is None else sources
    longest = max(len(tokens), len(sources))
    count = sum(layer.weights.shape[1] for layer in layers)
    cell = 0.3 if longest <= _WITH_VALUES else min(0.16, math.sqrt(_LARGEST / count) / longest)
    panels = [[_panel(layer, head, tokens, sources, cell) for head in range(layer.weights.shape[1])] for layer in layers]
    side = max(sum(panel.margins[:3:2]) + panel.inside[0] for row in panels for panel in row)
    across = max(1, int(_WIDEST / side))
    return sheet([row[start : start + across] for row in panels for start in range(0, len(row), across)], EXPLANATION)


def draw_head(layer: Attention, head: int, tokens: Sequence[str], sources: Sequence[str] | None = None, width: float = 2.7) -> Picture:
    """Draws one head, whose cells together are at most `width` inches wide."""
    sources = tokens if sources is None else sources
    longest = max(len(tokens), len(sources))
    return sheet([[_panel(layer, head, tokens, sources, min(0.3 if longest <= _WITH_VALUES else 0.16, width / longest))]])


def _panel(layer: Attention, head: int, tokens: Sequence[str], sources: Sequence[str], cell: float) -> Panel:
    return Panel(
        f"{layer.name}, head {head}", layer.weights[0, head], list(map(visible, tokens)), list(map(visible, sources)), (cell, cell),
        norm=PowerNorm(0.5, 0, 1), bar="weight", write=cell >= 0.29,
    )  # fmt: skip
