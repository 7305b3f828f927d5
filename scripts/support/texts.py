"""The texts that a command reads: from its arguments, from a file, or from the standard input as they come."""

import codecs
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.wording import in_options
from tinylm.data import Corpus
from tinylm.data.corpora import read_text
from tinylm.data.reading import check_encoding
from tinylm.errors import ConfigError, DataError, one_line
from tinylm.train.tasks.data_note import what_changed


def texts_of(given: Sequence[str], file: Path | None, encoding: str = "utf-8") -> Iterator[tuple[str, str]]:
    """Returns (name for error messages, text) of each: the given texts, else the lines of the file, else those of the standard input.

    Raises ConfigError for both texts and a file, DataError for a line that is not of the encoding.
    """
    check_encoding(encoding)
    if given and file is not None:
        raise ConfigError("give texts or --file, not both")
    if given:
        return ((f"text {i}", text) for i, text in enumerate(given, 1))
    if file is not None:
        lines = read_text(file, encoding).removesuffix("\n").split("\n")
        return ((f"{file}, line {i}", line) for i, line in enumerate(lines, 1))
    return _lines_typed(encoding)


def is_blank_line(text: str, given: Sequence[str]) -> bool:
    """Returns whether a text is a line of white space in a file or on the standard input, which gives a blank line; a text that was
    given as an argument is not, and if it is blank, that is an error."""
    return not given and not text.strip()


def say_what_was_read(source: str, notes: Sequence[str], skipped: str, unread: str) -> None:
    """Prints on stderr how the files of a source were read (notes), what could not be used (skipped), and of which lines only the
    beginning is read (unread); "" for what there is not."""
    for line in (*notes, skipped, unread and f"{source}: {unread}"):
        if line:
            print(one_line(line), file=sys.stderr)


def warn_of_changes(run: Path, corpus: Corpus) -> None:
    """Prints a line on stderr if the corpus is not what the run in the folder was trained on."""
    if problem := what_changed(run, corpus.to_json()):
        print(f"warning: {one_line(problem)}", file=sys.stderr)


def warn_of_unlike_parts(corpus: Corpus) -> None:
    """Prints on stderr why the validation loss will say little about the model, if the validation part is unlike the training part."""
    if doubt := corpus.doubt():
        print(f"warning: {in_options(doubt)}", file=sys.stderr)


def _lines_typed(encoding: str) -> Iterator[tuple[str, str]]:
    """Yields (name, line) of each line as soon as its end is there."""
    decoder, held, number, problem = codecs.getincrementaldecoder(encoding)(), "", 0, ""
    while not problem:
        raw, state = sys.stdin.buffer.read1(), decoder.getstate()
        try:
            held += decoder.decode(raw, not raw)
        except UnicodeError as error:
            problem = str(error)
            if isinstance(error, UnicodeDecodeError):
                decoder.setstate(state)
                held += decoder.decode(raw[: max(error.start - len(state[0]), 0)])  # what came before
                at = len(held.rpartition("\n")[2].encode(encoding)) - len("".encode(encoding))
                problem = f"byte {error.object[error.start]:#04x} at position {at}"
        *lines, held = held.split("\n")
        if not (raw or problem) and held:
            lines.append(held)
        for line in lines:
            number += 1
            yield f"standard input, line {number}", line.removeprefix("\ufeff" if number == 1 else "").rstrip("\r")
        if not raw:
            break
    if problem:
        raise DataError(f"standard input, line {number + 1} is not {encoding.upper()}: {problem}")
