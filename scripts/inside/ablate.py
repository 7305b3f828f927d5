"""explain.py ablate: what the loss is without each head, MLP, layer or unit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inside.readings import Question, answer, load, picture
from tinylm import explain
from tinylm.data.reading import pieces
from tinylm.errors import ConfigError, DataError
from tinylm.explain.questions.ablation import By
from tinylm.explain.questions.asked_texts import asked
from tinylm.explain.reading import LanguageReading, Reading

_MOST_TEXTS = 32  # of a reference


@dataclass(frozen=True)
class Ablate(Question):
    """Prints how much the loss of the text changes when each head, feed-forward (MLP) and layer is switched off, one at a time, and draws
    it. In a recurrent model it is each unit and layer, the most important first."""

    by: By = "zero"
    """what takes the place of what a part gives: zero, its mean over the reference, or its values at random positions of it"""
    reference: Path | None = None
    """for mean and resample: a text file to take the values from, in pieces as long as the text, or of a classifier line by line, 32 at
    most; by default the text itself"""
    draws: int = 5
    """how many times each part is resampled"""
    seed: int = 0
    """of the random positions"""


def ablate(arguments: Ablate) -> None:
    read = load(arguments)
    reference = None
    if arguments.reference is not None:
        if arguments.by == "zero":
            raise ConfigError("--reference is given, but --by is zero: expected mean or resample")
        reference = texts(read, arguments.reference)
    found = explain.ablate(read.model, by=arguments.by, reference=reference, draws=arguments.draws, seed=arguments.seed, **asked(read))
    answer(arguments, found.to_json(), found)
    picture(arguments, "ablate.png", "", explain.draw_ablation(found))


def texts(read: Reading, path: Path) -> list[np.ndarray]:
    """Returns the beginning of a file as texts: of as many tokens as a language model reads, or the lines.

    Raises DataError for a file that is too short."""
    start = next(pieces(path), "")
    if not isinstance(read, LanguageReading):
        return [read.encode(line) for line in start.splitlines() if line.strip()][:_MOST_TEXTS]
    length = len(read.ids)
    try:
        ids = read.tokenizer.encode(start[: 40 * length * _MOST_TEXTS])
    except DataError as error:
        raise DataError(f"the reference {path}: {error}") from error
    if len(ids) < length:
        raise DataError(f"the reference has {len(ids)} tokens: expected at least {length}, as many as the text")
    return [ids[first : first + length] for first in range(0, len(ids) - length + 1, length)][:_MOST_TEXTS]
