"""What the subcommands of explain.py that read a text have in common: their options, loading, and where pictures go."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure
from rich.console import RenderableType
from support.json_lines import plain
from support.tables import screen

from tinylm.engine.products import Precision
from tinylm.engine.stored_weights import Weights
from tinylm.errors import ConfigError
from tinylm.explain import reading
from tinylm.explain.figures import png
from tinylm.files.atomic import write_atomically
from tinylm.pretrained.model_loading import find_pretrained


@dataclass(frozen=True)
class Reading:
    """A model and a text."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder of 'train', 'translate train' or 'classify train', a Hugging Face folder, a GGUF file, or smollm2"""
    text: Annotated[str, tyro.conf.Positional]
    """the text that the model reads, not longer than its context"""
    target: str | None = None
    """for a translator: the translation to explain; by default the one that it writes"""
    label: str | None = None
    """for a classifier: the label to explain; by default the one that it gives"""
    weights: Weights = "stored"
    """of a pretrained model: stored, its matrices as its file has them, in little memory; or float32. Both give the same numbers"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """read the first 20 characters only, and write nothing"""


@dataclass(frozen=True)
class Pictured(Reading):
    """A reading that is drawn."""

    out: Path | None = None
    """the picture; by default it lies in the run folder, or in the current folder for a pretrained model"""


@dataclass(frozen=True)
class Question(Pictured):
    """A question whose answer is a table and a picture."""

    json: bool = False
    """print one JSON object instead of the table"""


def refuse_other_tasks(arguments: Question, *options: str) -> None:
    """Raises ConfigError if these options, which are for translators or classifiers, are given where only a language model is asked."""
    for name in options:
        if (value := getattr(arguments, name)) is not None:
            raise ConfigError(f"{name} {value!r:.80}: only a language model is asked here, which has no {name}")


def answer(arguments: Question, record: Mapping[str, Any], *parts: RenderableType) -> None:
    """Prints the parts, or with --json the record; dataclasses and arrays in it become objects and lists, NaN null."""
    if arguments.json:
        print(json.dumps(plain(record), ensure_ascii=False))
    else:
        for part in parts:
            show(part)


def show(*parts: RenderableType) -> None:
    screen(140).print(*parts)


def load(arguments: Reading) -> reading.Reading:
    text = arguments.text[:20] if arguments.dry_run else arguments.text
    return reading.read_run(
        arguments.run, text, arguments.device, target=arguments.target, label=arguments.label, weights=arguments.weights
    )


def picture(arguments: Pictured, name: str, part: str, figure: Figure) -> None:
    path = arguments.out or (arguments.run if find_pretrained(arguments.run) is None else Path()) / name
    path = path.with_stem(f"{path.stem}-{part}") if part else path
    if not arguments.dry_run:
        write_atomically(path, png(figure))
        if not (isinstance(arguments, Question) and arguments.json):
            print(f"written: {path}")
