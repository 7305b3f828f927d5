"""long_range.py context: the loss of trained models by how much of the text before they are given."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text
from support import figures
from support.tables import screen
from support.texts import warn_of_changes

import tinylm
from reach.curves import Curve, check, new_figure
from reach.examples import beyond_ngram
from tinylm.data.tokenizers import Tokenizer
from tinylm.data.unknown import same_tokens, unknown_in
from tinylm.decode.context import log_probabilities_given, sample_positions
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM
from tinylm.train import load_run
from tinylm.train.tasks.language_model_config import corpus_of


@dataclass(frozen=True)
class Context:
    """Prints the mean loss on the same validation tokens, with its standard error, by how many of the tokens before them
    the model is given ('-': more than a Transformer's block holds). Recurrent models start from a state of zeros. The
    runs must have been trained on the same data with the same tokenizer. If one of them is an n-gram model, it also prints at how
    many tokens context beyond that of the n-gram model helps the others, and where it helps the best of them most. Writes
    context.json and context.png."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders that 'train' wrote"""
    out: Path = Path("runs/long_range")
    """the folder for the files"""
    contexts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """the numbers of tokens to give"""
    positions: int = 2000
    """number of validation tokens to score, drawn at random"""
    seed: int = 0
    """seed of their choice"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """score 10 positions only; nothing is written"""


class Loaded(NamedTuple):
    """The runs, and what they are scored on."""

    models: dict[str, LanguageModel | NgramLM]  # by folder
    tokenizer: Tokenizer
    ids: np.ndarray  # of the validation part
    note: str  # about unknown words among them


def context(arguments: Context) -> None:
    if not (arguments.runs and arguments.contexts):
        raise ConfigError(f"{'contexts' if arguments.runs else 'runs'}: expected at least one")
    check("positions", 2, arguments.positions)
    check("context", 1, *arguments.contexts)
    tinylm.manual_seed(arguments.seed)  # refuses an invalid seed
    loaded = load_models(arguments.runs, arguments.device)
    count = 10 if arguments.dry_run else arguments.positions
    positions = sample_positions(len(loaded.ids), max(arguments.contexts), count, arguments.seed)
    scores: dict[str, dict[int, np.ndarray]] = {}  # by run and context: log p of each position
    for name, model in loaded.models.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        contexts = [c for c in arguments.contexts if reaches(model, c)]
        scores[name] = {c: log_probabilities_given(model, loaded.ids, positions, c, arguments.device) for c in contexts}
    curves = {name: curve(found) for name, found in scores.items()}
    table = Table("tokens given", box=None)
    for name in curves:
        table.add_column(Text(name))
    for c in arguments.contexts:
        cells = [{x: f"{y:.4f} ± {e:.4f}" for x, y, e in zip(*curve, strict=True)} for curve in curves.values()]
        table.add_row(str(c), *(cell.get(c, "-") for cell in cells))
    screen().print(table)
    print(f"nats/token, mean ± standard error of the same {len(positions):,} validation tokens")
    if loaded.note:
        print(f"validation part: {loaded.note}")
    examples = beyond_ngram(loaded.models, loaded.tokenizer, loaded.ids, positions, scores, arguments.device)
    if not arguments.dry_run:
        runs = {name: {"contexts": c.x, "loss": c.y, "standard_error": c.error} for name, c in curves.items()}
        figure, axes = new_figure("tokens given before", "nats/token", curves)
        axes.set_xscale("log", base=2)
        axes.set_xticks(arguments.contexts, [str(c) for c in arguments.contexts])
        figure.legend(loc="outside right upper")
        record: dict[str, Any] = {"positions": positions.tolist(), "runs": runs, **examples}
        figures.write(arguments.out, "context", record, figure)


def curve(scores: dict[int, np.ndarray]) -> Curve:
    """Returns the mean loss by context, with its standard error."""
    errors = [float(score.std(ddof=1)) / math.sqrt(len(score)) for score in scores.values()]
    return Curve(list(scores), [-float(score.mean()) for score in scores.values()], errors)


def load_models(folders: Sequence[Path], device: str) -> Loaded:
    """Returns the models by folder, their tokenizer, the validation ids, and a note about unknown words among them.

    Raises ConfigError if the ids differ between the models.
    """
    models: dict[str, LanguageModel | NgramLM] = {}
    first: Any = None
    for folder in folders:
        model, tokenizer, config = load_run(folder, device)
        if config is None:
            raise ConfigError(f"{folder} does not say what it was trained on: expected a run folder")
        try:
            corpus = corpus_of(config)
            text = "".join(corpus.validation)
            ids = tokenizer.encode(text)
        except DataError as error:
            raise DataError(f"the data of {folder}: {error}") from error
        warn_of_changes(folder, corpus)
        if first is not None and not (same_tokens(tokenizer, first[0]) and np.array_equal(ids, first[1])):
            raise ConfigError(f"{folders[0]} and {folder} do not validate on the same tokens: expected one data set and one tokenizer")
        first = first or (tokenizer, ids, unknown_in(tokenizer, text, ids, 1).note())
        models[str(folder)] = model
    return Loaded(models, *first)


def reaches(model: LanguageModel | NgramLM, context: int) -> bool:
    return isinstance(model, NgramLM) or model.block_size is None or context <= model.block_size
