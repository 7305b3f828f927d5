"""Looks inside a trained model: its backward pass, its attention, its gates, its training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from support import console
from support.tables import screen

from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain import reading
from tinylm.explain.attention_maps import strongest
from tinylm.explain.gates import GATES
from tinylm.explain.plots import png
from tinylm.explain.run_report import run_record
from tinylm.explain.terminal import overview, reason
from tinylm.files.atomic import write_atomically
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.train import load_run


@dataclass(frozen=True)
class Reading:
    """A model and a text."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder of 'train', 'translate train' or 'classify train', a Hugging Face folder, a GGUF file, or smollm2"""
    text: Annotated[str, tyro.conf.Positional]
    """the text that the model reads; not longer than its context"""
    target: str | None = None
    """for a translator: the translation to explain; by default the one that it writes"""
    label: str | None = None
    """for a classifier: the label to explain; by default the one that it gives"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """read the first 20 characters only, and write nothing"""


@dataclass(frozen=True)
class Backward(Reading):
    """Prints the backward pass, one line per step, from the loss down. The loss is that of a language model that
    predicts each token of the text from those before it, of a translator that writes the translation, or of a
    classifier that gives the label. --parameter shows why a parameter's gradient is what it is."""

    parameter: str | None = None
    """show where the gradient of this parameter comes from: its parts and the steps that produced them"""
    step: int | None = None
    """show this step in full"""
    page: Path | None = None
    """write the whole pass to this file as an HTML page"""


@dataclass(frozen=True)
class AttentionMaps(Reading):
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


@dataclass(frozen=True)
class GateMaps(Reading):
    """Prints what the gates and states of a recurrent model do while it reads a text, one line per gate, and draws it."""

    out: Path | None = None
    """the picture; by default gates.png in the run folder (for a translator: gates-encoder.png and gates-decoder.png)"""


@dataclass(frozen=True)
class Report:
    """Writes report.html into a run folder: result, training curves, gradient norms, learning rate, settings."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote"""
    ngram: Path | None = None
    """also draw the loss of the n-gram model in this run folder; it must have the same tokens"""
    torch: Path | None = None
    """also draw PyTorch's curves from this run folder, which 'train_torch' wrote"""
    text: str | None = None
    """show the attention or the gates on this text"""
    dry_run: bool = False
    """read the run, and write nothing"""


def show(*parts: RenderableType) -> None:
    screen(140).print(*parts)


def load(arguments: Reading) -> reading.Reading:
    text = arguments.text[:20] if arguments.dry_run else arguments.text
    return reading.read_run(arguments.run, text, arguments.device, target=arguments.target, label=arguments.label)


def picture(arguments: AttentionMaps | GateMaps, name: str, part: str, figure: Figure) -> None:
    path = arguments.out or (arguments.run if find_pretrained(arguments.run) is None else Path()) / name
    path = path.with_stem(f"{path.stem}-{part}") if part else path
    if not arguments.dry_run:
        write_atomically(path, png(figure))
        print(f"written: {path}")


def backward(arguments: Backward) -> None:
    read = load(arguments)
    loss = read.loss()
    if arguments.page is not None and not arguments.dry_run:
        explain.page(loss, arguments.page, model=read.model)
        print(f"written: {arguments.page}")
    steps = list(explain.steps(loss, model=read.model))
    if arguments.parameter is not None:
        leaves = {name: leaf for leaf in explain.leaves(steps) for name in leaf.name.split(" = ")}
        if arguments.parameter not in leaves:
            raise ConfigError(f"no parameter {arguments.parameter!r} took part: expected one of {', '.join(leaves)}")
        show(reason(leaves[arguments.parameter], steps))
    elif arguments.step is not None:
        if not 1 <= arguments.step <= len(steps):
            raise ConfigError(f"step is {arguments.step}: expected 1 to {len(steps)}")
        show(steps[arguments.step - 1])
    else:
        print(f"loss {loss.item():.4f} {read.about}")
        show(overview(steps))


def attention(arguments: AttentionMaps) -> None:
    read = load(arguments)
    layers = explain.attention_weights(read.output(), model=read.model)
    if not layers:
        raise ConfigError(f"the model in {arguments.run} has no attention; 'gates' shows a recurrent one")
    parts = read.parts(layers)
    if arguments.words:
        parts = [by_word(part) for part in parts]
    if arguments.head is None and arguments.layer is None:
        show(heads_table([layer.name for layer in layers], parts))
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
    """Returns a table with one row per head: the mean distance at which it looks, its weight on the token itself, its strongest weight."""
    table = Table("layer", "head", "module", "mean distance", "at itself", "looks most from → at", box=None)
    placed = {layer.name: (part, layer) for part in parts for layer in part.layers}
    for i, name in enumerate(names):
        part, layer = placed[name]
        sources = part.tokens if part.sources is None else part.sources
        distance = np.abs(np.arange(len(part.tokens))[:, None] - np.arange(len(sources)))
        for j, weights in enumerate(layer.weights[0]):
            looks = [(t, *look) for t in range(len(part.tokens)) for look in strongest(weights, t, 1, part.sources is not None)]
            best = max(looks, key=lambda look: look[2], default=None)
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


def gates(arguments: GateMaps) -> None:
    read = load(arguments)
    layers = explain.gate_values(read.output(), model=read.model)
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


def report(arguments: Report) -> None:
    if arguments.dry_run:
        run_record(arguments.run)
        load_run(arguments.run)
        print(f"would write {arguments.run / 'report.html'}")
        return
    print(f"written: {explain.report(arguments.run, ngram=arguments.ngram, torch=arguments.torch, text=arguments.text)}")


SUBCOMMANDS = {
    "backward": ("RUN TEXT [--help]", "the gradients, from the loss down; --parameter says why", console.subcommand(Backward, backward)),
    "attention": ("RUN TEXT [--help]", "which other tokens each head looks at", console.subcommand(AttentionMaps, attention)),
    "gates": ("RUN TEXT [--help]", "the gates of a recurrent model, token by token", console.subcommand(GateMaps, gates)),
    "report": ("RUN [--help]", "the run's curves and settings as one page", console.subcommand(Report, report)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
