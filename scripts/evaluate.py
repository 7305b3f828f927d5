"""Prints the loss of language models on a validation part or a whole text: alone, mixed, or still learning."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text
from support import console
from support.json_lines import Write, json_lines
from support.tables import screen
from support.texts import warn_of_changes, warn_of_unlike_parts

from tinylm.data import Corpus, open_corpus
from tinylm.data.encoding import beginning, encoded
from tinylm.data.unknown import Unknown, mean_bytes, same_tokens, unknown_in
from tinylm.engine.products import Precision, products
from tinylm.engine.stored_weights import Weights
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.studies.mixing import mix
from tinylm.train import TrainConfig, load_run
from tinylm.train.tasks.language_model_config import corpus_of
from tinylm.train.tasks.token_losses import token_losses


@dataclass(frozen=True)
class Arguments:
    """Prints the mean loss of each run over the whole validation part of its data, in nats per token and per byte of the text, and the
    perplexity: its own validation file, or the last 10 %. With --whole it is all of the data.
    For several runs with the same tokens it also prints the loss of their mixture, whose weights are learned as the
    text is read, and which is at most (ln(runs) + 0.0011)/tokens worse than the best run. With --dynamic the models keep learning
    from each segment after they have scored it (except n-gram models)."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders that 'train' wrote; with --data also a Hugging Face folder, a GGUF file or smollm2"""
    dynamic: float | None = None
    """the learning rate of dynamic evaluation; 0.1 suits the recurrent presets"""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """read this corpus, file or folder instead of the first run's; several times for several of them"""
    whole: bool = False
    """read all of it, also what a run was trained on, instead of the part that validates"""
    encoding: str | None = None
    """of the text files, by Python's name, by default the first run's: utf-8, latin-1, utf-16, cp1252, ..."""
    weights: Weights = "stored"
    """of a pretrained model: stored, its matrices as its file has them, in little memory; or float32. Both give the same numbers;
    with --dynamic it is float32"""
    json: bool = False
    """print one JSON object per row instead of the table, and everything else on the standard error"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """read the first 2,000 tokens only"""


def main() -> None:
    arguments = console.parse(Arguments)
    if not arguments.runs:
        raise ConfigError("no run folder given: expected at least one")
    if arguments.dynamic is not None and not arguments.dynamic > 0:
        raise ConfigError(f"--dynamic {arguments.dynamic}: expected more than 0")
    with json_lines(arguments.json) as write:
        evaluate(arguments, write)


def evaluate(arguments: Arguments, write: Write | None) -> None:
    """Reads the models, and prints a row for each and for their mixture; with `write` as records."""
    table = Table("model", "nats/byte", "perplexity", "nats/token", "standard error", box=None)
    losses: list[np.ndarray] = []
    notes: list[str] = []  # why a loss is not one that is told elsewhere
    corpus, first = None, None
    for folder in arguments.runs:
        model, tokenizer, config = load_run(folder, arguments.device, "float32" if arguments.dynamic is not None else arguments.weights)
        if corpus is None:
            corpus, tokens, first = opened(arguments, folder, config), tokenizer, config
            part = corpus.whole if arguments.whole else corpus.validation
            text = beginning("".join(part), tokenizer, 2_000 if arguments.dry_run else 0)
            ids = encoded(part, text, tokenizer)
            unknown, size = unknown_in(tokenizer, text, ids, 1), mean_bytes(tokenizer, text, ids)
        elif not same_tokens(tokenizer, tokens):
            raise ConfigError(f"{folder} has other tokens than {arguments.runs[0]}: only models of the same tokens can be mixed")
        if not arguments.data and config is not None and first is not None and texts_of(config) == texts_of(first):
            warn_of_changes(folder, corpus)
        with products(arguments.precision):
            if arguments.dynamic is not None and isinstance(model, LanguageModel):
                losses.append(dynamic_losses(model, ids, arguments.dynamic, device=arguments.device))
                name = f"{folder}, learning as it goes"
            else:
                block = None if config is None else config.block_size  # as the run validates, also if the model could look further back
                losses.append(token_losses(model, ids, arguments.device, block_size=block))
                name = str(folder)
                notes += differences(model, config)
        row(table, write, name, losses[-1], unknown, size)
    if len(losses) > 1:
        mixed, weights = mix(losses)
        row(table, write, f"mixed, {' and '.join(f'{w:.2f}' for w in weights)} at the end", mixed, unknown, size, weights=weights)
    assert corpus is not None
    if write is not None:
        return
    output = screen(100)
    print(part_text(corpus, arguments))
    output.print(table)
    for line in (f"over {unknown.tokens:,} tokens", unknown.note(), *dict.fromkeys(notes)):
        if line:
            output.print(Text(line), soft_wrap=True)


def opened(arguments: Arguments, folder: Path, config: TrainConfig | None) -> Corpus:
    """Returns the texts to read: those of --data, else those of the first run. Warns of a validation part that is unlike the rest."""
    if not arguments.data and config is None:
        raise ConfigError(f"{folder} does not say what it was trained on: give --data")
    if arguments.data:
        corpus = open_corpus(arguments.data, arguments.encoding or ("utf-8" if config is None else config.encoding))
    else:
        corpus = corpus_of(dataclasses.replace(config, encoding=arguments.encoding or config.encoding))
    if not arguments.whole:
        warn_of_unlike_parts(corpus)
    return corpus


def texts_of(config: TrainConfig) -> tuple[object, ...]:
    return config.data, config.valid, config.test


def part_text(corpus: Corpus, arguments: Arguments) -> str:
    """Returns the line that says what is read."""
    if arguments.whole:
        own = " but its own validation part" if corpus.own_validation else ""
        return f"reading all of {corpus.source}{own}, {corpus.whole.characters:,} characters, whatever a run was trained on"
    return f"reading the validation part of {corpus.source}: {corpus.split}; --whole reads all of the text"


def row(table: Table, write: Write | None, name: str, losses: np.ndarray, unknown: Unknown, size: float, **more: Any) -> None:
    """Adds a model's losses; those per byte have the spelling of unknown words.  size: bytes per token."""
    loss, error = float(losses.mean()), losses.std() / np.sqrt(len(losses))
    per_byte, perplexity = (loss + unknown.per_token) / size, math.inf if loss > 709 else math.exp(loss)
    table.add_row(Text(name), f"{per_byte:.4f}", f"{perplexity:,.2f}", f"{loss:.4f}", f"{error:.4f}")
    if write is not None:
        figures = {"nats_per_token": loss, "standard_error": error, "nats_per_byte": per_byte, "perplexity": perplexity}
        write({"model": name, **figures, "tokens": losses.size, "unknown": unknown.unknown, **more})


def differences(model: LanguageModel | NgramLM, config: TrainConfig | None) -> list[str]:
    """Returns lines on why the loss is not the one that is told elsewhere of the same model."""
    lines = []
    if not isinstance(model, NgramLM) and model.block_size is not None:
        length = min(model.block_size, model.block_size if config is None else config.block_size)
        lines.append(f"read in blocks of {length:,} tokens that do not overlap; 'score' reads windows that do, and finds a lower loss")
    if config is not None and config.eval_tokens:
        lines.append(f"a validation of the run itself reads the first {config.eval_tokens:,} tokens at most (eval_tokens)")
    return lines


if __name__ == "__main__":
    console.run(main)
