"""The texts that a command reads: from its arguments, from a file, or from the standard input as they come."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinylm.data import Corpus
from tinylm.data.corpora import read_text
from tinylm.errors import ConfigError, DataError
from tinylm.train.tasks.data_note import what_changed


def texts_of(given: Sequence[str], file: Path | None) -> Iterator[tuple[str, str]]:
    """Returns (name for error messages, text) of each: the given texts, else the lines of the file, else those of the standard input.

    Raises ConfigError for both texts and a file, DataError for a line that is not UTF-8.
    """
    if given and file is not None:
        raise ConfigError("give texts or --file, not both")
    if given:
        return ((f"text {i}", text) for i, text in enumerate(given, 1))
    if file is not None:
        lines = read_text(file).removesuffix("\n").split("\n")
        return ((f"{file}, line {i}", line) for i, line in enumerate(lines, 1))
    return _lines_typed()


def warn_of_changes(run: Path, corpus: Corpus) -> None:
    """Prints a line on stderr if the corpus is not what the run in the folder was trained on."""
    if problem := what_changed(run, corpus.to_json()):
        print(f"warning: {problem}", file=sys.stderr)


def _lines_typed() -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(iter(sys.stdin.buffer.readline, b""), 1):
        name = f"standard input, line {number}"
        try:
            yield name, raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start}") from error
