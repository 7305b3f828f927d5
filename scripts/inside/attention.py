"""explain.py attention: which other tokens each head looks at."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from inside.readings import Pictured, load, picture, show
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain import reading
from tinylm.explain.attention_maps import CHOICE, strongest, strongest_look


@dataclass(frozen=True)
class AttentionMaps(Pictured):
    """Prints where each head looks while the model reads a text, one line per head, and draws it. With --layer and
    --head it prints which other tokens that head looks at, one line per token. A translator's heads look within the
    source, within the translation, or from the translation to the source; each of the three has its own picture."""

    layer: int | None = None
    """the layer, from 0"""
    head: int | None = None
    """the head, from 0"""
    words: bool = False
    """join the tokens of each word, to show which words it looks at"""
    out: Path | None = None
    """the picture of all heads; by default attention.png in the run folder, or in the current folder for a pretrained
    model (for a translator: attention-encoder.png, ...)"""


def attention(arguments: AttentionMaps) -> None:
    read = load(arguments)
    layers = read.attention()
    if not layers:
        raise ConfigError(f"the model in {arguments.run} has no attention; 'gates' shows a recurrent one")
    parts = read.parts(layers)
    if arguments.words:
        parts = [by_word(part) for part in parts]
    if arguments.head is None and arguments.layer is None:
        table = heads_table([layer.name for layer in layers], parts)
        note = f"the strongest look is that among the tokens that see {CHOICE} others or more"
        show(table, *([] if arguments.dry_run else [note]))
    else:
        for name, value, count in (("layer", arguments.layer, len(layers)), ("head", arguments.head, layers[0].weights.shape[1])):
            if value is None or not 0 <= value < count:
                raise ConfigError(f"{name} is {value}: expected 0 to {count - 1}")
        chosen = layers[arguments.layer or 0].name
        part, layer = next((part, layer) for part in parts for layer in part.layers if layer.name == chosen)
        show(head_table(layer.weights[0, arguments.head], part))
    for part in parts:
        picture(arguments, "attention.png", part.name, explain.draw_attention(part.layers, part.tokens, part.sources))


def by_word(part: reading.Part) -> reading.Part:
    joined = [explain.by_word(layer.weights, part.tokens, part.sources) for layer in part.layers]
    layers = [explain.Attention(layer.name, weights) for layer, (weights, _, _) in zip(part.layers, joined, strict=True)]
    _, words, sources = joined[0]
    return reading.Part(part.name, layers, words, None if part.sources is None else sources)


def heads_table(names: list[str], parts: list[reading.Part]) -> Table:
    """Returns a table with one row per head: the mean distance at which it looks, its weight on the token itself, its strongest
    weight from a token that has a choice."""
    table = Table("layer", "head", "module", "mean distance", "at itself", "looks most from → at", box=None)
    placed = {layer.name: (part, layer) for part in parts for layer in part.layers}
    for i, name in enumerate(names):
        part, layer = placed[name]
        sources = part.tokens if part.sources is None else part.sources
        distance = np.abs(np.arange(len(part.tokens))[:, None] - np.arange(len(sources)))
        for j, weights in enumerate(layer.weights[0]):
            best = strongest_look(layer.weights[0], j, part.sources is not None)
            most = "-" if best is None else f"{part.tokens[best[0]]!r} → {sources[best[1]]!r}, {best[2]:.2f}"
            far, own = f"{float((weights * distance).sum(1).mean()):.1f}", f"{float(np.diag(weights).mean()):.2f}"
            cells = (far, own) if part.sources is None else ("-", "-")  # between two texts there is no distance
            table.add_row(str(i), str(j), name, *cells, Text(most))
    return table


def head_table(weights: np.ndarray, part: reading.Part) -> Table:
    """Returns a table with one row per token: which others, or which of the source, one head looks at from there."""
    if part.sources is not None:
        table = Table("position", "from", "at the source, the most first", box=None)
        for t, token in enumerate(part.tokens):
            looks = ",  ".join(f"{part.sources[s]!r}: {w:.2f}" for s, w in strongest(weights, t, crossing=True))
            table.add_row(str(t), Text(repr(token)), Text(looks))
        return table
    table = Table("position", "from", "at itself", "at others, the most first", box=None)
    for t, token in enumerate(part.tokens):
        places = [(s, f"{abs(t - s)} {'back' if s < t else 'on'}", w) for s, w in strongest(weights, t)]
        looks = ",  ".join(f"{part.tokens[s]!r} {place}: {w:.2f}" for s, place, w in places)
        table.add_row(str(t), Text(repr(token)), f"{weights[t, t]:.2f}", Text(looks))
    return table
