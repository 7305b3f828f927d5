"""Looks inside a trained language model: its backward pass, its attention, its gates, its training."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import console
import numpy as np
import tyro
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tinylm import backend, explain
from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import ConfigError
from tinylm.explain.attention_maps import strongest
from tinylm.explain.gates import GATES
from tinylm.explain.plots import png
from tinylm.explain.reading import read, text_ids, token_texts
from tinylm.explain.terminal import overview, reason
from tinylm.models import LanguageModel, pretrained
from tinylm.tensor import Tensor
from tinylm.train import load_run
from tinylm.train.checkpoints import write_atomically


@dataclass(frozen=True)
class Reading:
    """A model and a text."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that scripts/train.py wrote, a Hugging Face folder, a GGUF file, or smollm2"""
    text: Annotated[str, tyro.conf.Positional]
    """what the model reads; not longer than its context"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """the first 20 characters only, and nothing written"""


@dataclass(frozen=True)
class Backward(Reading):
    """The backward pass from the loss of predicting each token of a text from those before it: a line a
    step, from the loss down. --parameter answers why its gradient is what it is."""

    parameter: str | None = None
    """show where the gradient of this parameter comes from: its parts and the steps that gave them"""
    step: int | None = None
    """show all about this step"""
    page: Path | None = None
    """write the whole pass as an HTML page that opens in a browser"""


@dataclass(frozen=True)
class AttentionMaps(Reading):
    """Where each head looks while the model reads a text: a line a head. --layer and --head answer which
    earlier tokens that head looks at, a line a token."""

    layer: int | None = None
    """the layer, from 0"""
    head: int | None = None
    """the head, from 0"""
    words: bool = False
    """join the tokens of a word: which earlier words it looks at"""
    out: Path | None = None
    """the picture of all heads; attention.png in the run folder by default, in this one for a model from elsewhere"""


@dataclass(frozen=True)
class GateMaps(Reading):
    """What the gates and states of a recurrent model do while it reads a text: a line a gate, and a picture."""

    out: Path | None = None
    """the picture; gates.png in the run folder by default"""


@dataclass(frozen=True)
class Report:
    """Writes report.html into a run folder: result, training curves, gradient norms, learning rate, settings."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that scripts/train.py wrote"""
    ngram: Path | None = None
    """the run folder of an n-gram model of the same tokens, to draw its loss beside"""
    text: str | None = None
    """a text to show the attention or the gates on"""
    dry_run: bool = False
    """look at the run, and write nothing"""


def show(*parts: RenderableType) -> None:
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(*parts)


def load(arguments: Reading) -> tuple[LanguageModel, Tokenizer, np.ndarray]:
    """(model, tokenizer, ids of the text)."""
    model, tokenizer, _ = load_run(arguments.run, arguments.device)
    ids = text_ids(model, tokenizer, arguments.text[:20] if arguments.dry_run else arguments.text)
    assert isinstance(model, LanguageModel)
    return model, tokenizer, ids


def picture(arguments: AttentionMaps | GateMaps, name: str, image: bytes) -> None:
    path = arguments.out or (arguments.run if pretrained.find(arguments.run) is None else Path()) / name
    if not arguments.dry_run:
        write_atomically(path, image)
        print(f"written: {path}")


def backward(arguments: Backward) -> None:
    model, _, ids = load(arguments)
    x, y = (Tensor(backend.to_device(part[None], arguments.device)) for part in (ids[:-1], ids[1:]))
    loss, _ = model.loss(x, y)
    if arguments.page is not None and not arguments.dry_run:
        explain.page(loss, arguments.page, model=model)
        print(f"written: {arguments.page}")
    steps = list(explain.steps(loss, model=model))
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
        print(f"loss {loss.item():.4f} nats a token over {len(ids) - 1} tokens")
        show(overview(steps))


def attention(arguments: AttentionMaps) -> None:
    model, tokenizer, ids = load(arguments)
    layers = explain.attention_weights(read(model, ids, arguments.device), model=model)
    if not layers:
        raise ConfigError(f"the model in {arguments.run} has no attention; 'gates' shows a recurrent one")
    tokens = token_texts(tokenizer, ids)
    if arguments.words:
        joined = [explain.by_word(layer.weights, tokens) for layer in layers]
        layers = [explain.Attention(layer.name, weights) for layer, (weights, _) in zip(layers, joined, strict=True)]
        tokens = joined[0][1]
    if arguments.head is None and arguments.layer is None:
        show(heads_table(layers, tokens))
    else:
        show(head_table(layers, tokens, arguments))
    picture(arguments, "attention.png", png(explain.draw_attention(layers, tokens)))


def heads_table(layers: list[explain.Attention], tokens: list[str]) -> Table:
    """How far back each head looks, how much at the token itself, and its strongest look."""
    table = Table("layer", "head", "module", "mean distance", "at itself", "looks most from → at", box=None)
    positions = np.arange(len(tokens))
    distance = positions[:, None] - positions
    for i, layer in enumerate(layers):
        for j, weights in enumerate(layer.weights[0]):
            best = max(((t, *strongest(weights, t, 1)[0]) for t in positions[1:]), key=lambda look: look[2], default=None)
            most = "-" if best is None else f"{tokens[best[0]]!r} → {tokens[best[1]]!r}, {best[2]:.2f}"
            far, own = float((weights * distance).sum(1).mean()), float(np.diag(weights).mean())
            table.add_row(str(i), str(j), layer.name, f"{far:.1f}", f"{own:.2f}", Text(most))
    return table


def head_table(layers: list[explain.Attention], tokens: list[str], arguments: AttentionMaps) -> Table:
    """Which earlier tokens one head looks at from each."""
    for name, value, count in (
        ("layer", arguments.layer, len(layers)),
        ("head", arguments.head, layers[0].weights.shape[1]),
    ):
        if value is None or not 0 <= value < count:
            raise ConfigError(f"{name} is {value}: expected 0 to {count - 1}")
    assert arguments.layer is not None
    weights = layers[arguments.layer].weights[0, arguments.head]
    table = Table("position", "from", "at itself", "at earlier ones, the most first", box=None)
    for t, token in enumerate(tokens):
        looks = ",  ".join(f"{tokens[s]!r} {t - s} back: {w:.2f}" for s, w in strongest(weights, t))
        table.add_row(str(t), Text(repr(token)), f"{weights[t, t]:.2f}", Text(looks))
    return table


def gates(arguments: GateMaps) -> None:
    model, tokenizer, ids = load(arguments)
    layers = explain.gate_values(read(model, ids, arguments.device), model=model)
    if not layers:
        raise ConfigError(f"the model in {arguments.run} is not recurrent; 'attention' shows a Transformer")
    table = Table("layer", "gate or state", "mean", "from", "to", "closed (< 0.1)", "open (> 0.9)", box=None)
    for layer in layers:
        for name, values in layer.values.items():
            shut, wide = (f"{100 * part.mean():.0f} %" for part in (values < 0.1, values > 0.9)) if name in GATES else ("", "")
            table.add_row(layer.name, name, f"{values.mean():+.3f}", f"{values.min():+.3f}", f"{values.max():+.3f}", shut, wide)
    show(table)
    picture(arguments, "gates.png", png(explain.draw_gates(layers, token_texts(tokenizer, ids))))


def report(arguments: Report) -> None:
    if arguments.dry_run:
        load_run(arguments.run)
        print(f"would write {arguments.run / 'report.html'}")
        return
    print(f"written: {explain.report(arguments.run, ngram=arguments.ngram, text=arguments.text)}")


COMMANDS = {
    "backward": console.command(Backward, backward),
    "attention": console.command(AttentionMaps, attention),
    "gates": console.command(GateMaps, gates),
    "report": console.command(Report, report),
}
USAGE = f"""{__doc__}

usage: explain.py backward RUN TEXT [--help]     the gradients, from the loss down; --parameter NAME says why
       explain.py attention RUN TEXT [--help]    which earlier tokens each head looks at
       explain.py gates RUN TEXT [--help]        the gates of a recurrent model, token by token
       explain.py report RUN [--help]            the run's curves and settings as one page"""


if __name__ == "__main__":
    console.run(lambda: console.run_command(COMMANDS, USAGE, ", ".join(map(repr, COMMANDS))))
