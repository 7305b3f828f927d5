"""Prints the probability of texts under a trained language model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text
from support import console
from support.json_lines import json_lines
from support.tables import screen
from support.texts import is_blank_line

from tinylm.data import Tokenizer
from tinylm.data.corpora import read_text
from tinylm.decode import Score, score_text
from tinylm.engine.products import Precision, products
from tinylm.engine.stored_weights import Weights
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM
from tinylm.train import load_run

NOTHING = Score("", [], np.zeros(0), 0, 0)  # of a blank line


@dataclass(frozen=True)
class Arguments:
    """Scores texts with a trained language model: the log-probability of each token and of the whole text, perplexity,
    bits per byte. A text is scored as if it followed a line break, the beginning of a sentence (BOS). A text longer
    than a Transformer's context is read in windows that advance by half a context; each token is scored once. Unknown
    words are scored as <unk> and counted, and bits per byte have their spelling too; an unknown character is an error."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote, a Hugging Face folder, a GGUF file, or smollm2"""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """the texts to score, each by itself"""
    file: Path | None = None
    """instead, score this file as one text"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    sentences: bool = False
    """every text, or every line of the file, is a sentence whose line break (EOS) is also scored; a blank line gives a blank line"""
    tokens: bool = True
    """print each token; --no-tokens prints the totals only"""
    json: bool = False
    """print one JSON object per text instead of the tables, and everything else on the standard error"""
    weights: Weights = "stored"
    """of a pretrained model: stored, its matrices as its file has them, in little memory; or float32. Both give the same numbers"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """score the first 100 characters of each text only"""


def main() -> None:
    arguments = console.parse(Arguments)
    if bool(arguments.texts) == (arguments.file is not None):
        raise ConfigError("give texts to score, or --file, and not both")
    with products(arguments.precision), json_lines(arguments.json) as write:
        model, tokenizer, _ = load_run(arguments.run, arguments.device, arguments.weights)
        each = scores_of(model, tokenizer, arguments)
        if write is not None:
            for score in each:
                write(record(score or NOTHING, arguments.tokens))
            return
        scores = list(each)
    known = [score for score in scores if score is not None]
    output = screen(100)
    if arguments.tokens and arguments.file is None:
        for score in known:
            table = Table("token", "log p", "p", box=None)
            for token, log_p in zip(score.tokens, score.log_probabilities.tolist(), strict=True):
                table.add_row(Text(repr(token)), f"{log_p:.4f}", f"{math.exp(log_p):.4f}")
            output.print(table)
            output.print()
    table = Table("text", "tokens", "unknown", "log p (nats)", "perplexity", "bits/byte", box=None)
    for score in scores:
        if score is None:
            table.add_row()
            continue
        shown = score.text if len(score.text) <= 30 else score.text[:29] + "…"
        row(table, repr(shown), score)
    if len(known) > 1:
        row(table, f"all {len(known)}", total(known))
    output.print(table)
    for line in notes_on(model, known):
        output.print(Text(line), soft_wrap=True)


def scores_of(model: LanguageModel | NgramLM, tokenizer: Tokenizer, arguments: Arguments) -> Iterator[Score | None]:
    """Yields the score of each text, None for a blank line of a file of sentences. Raises DataError naming one that cannot be encoded."""
    for name, text in named_texts(arguments):
        if arguments.sentences and is_blank_line(text, arguments.texts):
            yield None
            continue
        text = text[:100] if arguments.dry_run else text
        try:
            yield score_text(model, tokenizer, text, sentence=arguments.sentences, device=arguments.device)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error


def notes_on(model: LanguageModel | NgramLM, scores: list[Score]) -> list[str]:
    """Returns lines on what the figures count."""
    lines = [total(scores).unknown_words().note()] if scores else []
    block = None if isinstance(model, NgramLM) else model.block_size
    if block is not None and any(len(score.tokens) > block for score in scores):
        least = block - max(block // 2, 1)
        lines.append(
            f"each token is read after at least {least:,} others where the text has them; validations (train, evaluate) read blocks of "
            f"{block:,} tokens that do not overlap, and find a higher loss of the same text"
        )
    return [line for line in lines if line]


def record(score: Score, tokens: bool) -> dict[str, Any]:
    """Returns the figures of a text for JSON; `tokens`: with those of each token."""
    figures = {
        "text": score.text, "tokens": len(score.tokens), "unknown": score.unknown, "bytes": score.bytes,
        "log_probability": score.log_probability, "perplexity": score.perplexity, "bits_per_byte": score.bits_per_byte,
    }  # fmt: skip
    return figures | ({"token_texts": score.tokens, "token_log_probabilities": score.log_probabilities} if tokens else {})


def named_texts(arguments: Arguments) -> list[tuple[str, str]]:
    """Returns (name for error messages, text) of what to score."""
    if arguments.file is None:
        return [(f"text {i}", text) for i, text in enumerate(arguments.texts, 1)]
    text = read_text(arguments.file, arguments.encoding)
    if not arguments.sentences:
        return [(str(arguments.file), text)]
    return [(f"{arguments.file}, line {i}", line) for i, line in enumerate(text.removesuffix("\n").split("\n"), 1)]


def total(scores: list[Score]) -> Score:
    return Score(
        "", [t for s in scores for t in s.tokens], np.concatenate([s.log_probabilities for s in scores]),
        sum(s.unknown for s in scores), sum(s.bytes for s in scores),
        None if any(s.spelling is None for s in scores) else sum(s.spelling or 0.0 for s in scores),
        sum(s.own_unknown for s in scores),
    )  # fmt: skip


def row(table: Table, name: str, score: Score) -> None:
    table.add_row(
        Text(name), f"{len(score.tokens):,}", f"{score.unknown:,}", f"{score.log_probability:.4f}",
        f"{score.perplexity:.4f}", f"{score.bits_per_byte:.4f}",
    )  # fmt: skip


if __name__ == "__main__":
    console.run(main)
