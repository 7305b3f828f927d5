"""The user's texts: which files are read, which part validates, and what was found."""

import collections
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinylm.data.corpora import TEXTS, files_below, find_data, is_hidden
from tinylm.data.overlap import Overlap, find_overlap
from tinylm.data.reading import check_encoding, not_a_file, pieces
from tinylm.errors import DataError

SUFFIXES = (".txt", ".text", ".md")
VALIDATION = 0.1  # the part of the text that validates
MOST_VALIDATION = 5_000_000  # characters: more would only take longer


@dataclass(frozen=True)
class TextFile:
    """A file of the corpus and what it holds."""

    path: Path
    name: str  # relative to the folder
    bytes: int
    characters: int
    digest: str  # SHA-256 of the bytes


@dataclass(frozen=True)
class Part:
    """The training or the validation part: whole files, or an excerpt of one. Iterating yields pieces of text that end with
    a line, except for the last one; a blank line separates files. At the end of each file it raises DataError if the file is not
    what it was when the corpus was opened."""

    files: tuple[TextFile, ...]
    encoding: str
    start: int = 0
    stop: int | None = None  # characters of a single file

    def __iter__(self) -> Iterator[str]:
        if self.stop is not None:
            parts = unchanged(self.files[0], self.encoding)
            yield from excerpt(parts, self.start, self.stop)
            collections.deque(parts, maxlen=0)  # up to the end of the file, which may have changed too
            return
        for i, file in enumerate(self.files):
            if i:
                yield "\n"
            yield from _stripped(unchanged(file, self.encoding))
            yield "\n"

    @property
    def characters(self) -> int:
        """How many characters the part has."""
        return sum(f.characters for f in self.files) if self.stop is None else self.stop - self.start

    @property
    def digest(self) -> str:
        """Identifies the contents: the files' own digests, and what is taken of them."""
        text = repr(([f.digest for f in self.files], self.encoding, self.start, self.stop))
        return hashlib.sha256(text.encode()).hexdigest()


def unchanged(file: TextFile, encoding: str) -> Iterator[str]:
    """Yields the text of a file in pieces. Raises DataError at its end if its bytes have changed."""
    digest = hashlib.sha256()
    yield from pieces(file.path, encoding, digest)
    if digest.hexdigest() != file.digest:
        raise DataError(f"{file.path} was changed while it was being read: start again when it stays as it is")


def excerpt(parts: Iterator[str], start: int, stop: int) -> Iterator[str]:
    """Yields the characters from start up to stop of a text in pieces."""
    at = 0
    for piece in parts:
        if at >= stop:
            return
        cut = piece[max(0, start - at) : stop - at]
        at += len(piece)
        if cut:
            yield cut


def _stripped(parts: Iterator[str]) -> Iterator[str]:
    """Yields a text in pieces without newlines at its start and end."""
    waiting, begun = "", False
    for piece in parts:
        text = waiting + (piece if begun else piece.lstrip("\n"))
        body = text.rstrip("\n")
        waiting = text[len(body) :]
        if body:
            begun = True
            yield body


@dataclass(frozen=True)
class Corpus:
    """The training and the validation part, and a note about what was read."""

    source: str
    encoding: str
    train: Part
    validation: Part
    skipped: tuple[tuple[str, str], ...] = ()  # (file, why)
    split: str = ""
    overlap: Overlap = field(default_factory=Overlap)

    @property
    def files(self) -> tuple[TextFile, ...]:
        """The files of both parts, those of the training part first."""
        return self.train.files if self.train.files == self.validation.files else self.train.files + self.validation.files

    def beginning(self, characters: int) -> str:
        """Returns the first characters of the training part, for a trial."""
        return "".join(excerpt(iter(self.train), 0, characters))

    def to_json(self) -> dict[str, Any]:
        """Returns the note as data.json holds it."""
        return {
            "source": self.source, "encoding": self.encoding, "files": len(self.files), "bytes": sum(f.bytes for f in self.files),
            "characters": sum(f.characters for f in self.files), "split": self.split,
            "train_characters": self.train.characters, "validation_characters": self.validation.characters,
            "validation_files": [f.name for f in self.validation.files], "overlap": self.overlap.to_json(),
            "skipped": [{"file": name, "why": why} for name, why in self.skipped],
            "digests": {f.name: f.digest for f in self.files},
        }  # fmt: skip

    def summary(self) -> str:
        """Returns the note in a few lines."""
        note = self.to_json()
        lines = [f"{note['files']:,} files, {note['bytes']:,} bytes, {note['characters']:,} characters ({self.encoding}); {self.split}"]
        lines += [f"skipped {name}: {why}" for name, why in self.skipped[:5]]
        if len(self.skipped) > 5:
            lines.append(f"and {len(self.skipped) - 5:,} more, which data.json lists")
        return "\n".join([*lines, *self.overlap.lines()])


def open_corpus(source: str | Path, encoding: str = "utf-8") -> Corpus:
    """Opens a shipped corpus by name, a text file, or the text files of a folder and those below it in the order of their paths.

    Every file is read once, in pieces. The last tenth of a single file's characters validates; of several files, whole ones
    do, chosen by a hash of their names until they are a tenth; at most 5 million characters. Raises DataError if there is no
    such thing or it cannot be used, ConfigError for an unknown encoding.
    """
    check_encoding(encoding)
    path = find_data(source, TEXTS, "a file, a folder")
    found, skipped = _survey(path, encoding)
    if len(found) == 1:
        total = found[0].characters
        cut = max(int(total * (1 - VALIDATION)), total - MOST_VALIDATION)
        train, validation = Part(tuple(found), encoding, 0, cut), Part(tuple(found), encoding, cut, total)
        split = f"the last {total - cut:,} characters validate"
    else:
        chosen = _validating(found)
        train = Part(tuple(f for f in found if f not in chosen), encoding)
        validation = Part(tuple(f for f in found if f in chosen), encoding)
        if validation.characters > MOST_VALIDATION and len(chosen) == 1:
            validation = Part(validation.files, encoding, 0, MOST_VALIDATION)  # the rest of that file is not used
        split = f"{len(chosen):,} whole files with {validation.characters:,} characters validate, chosen by a hash of their names"
    return Corpus(str(source), encoding, train, validation, tuple(skipped), split, find_overlap(train, validation))


def _survey(path: Path, encoding: str) -> tuple[list[TextFile], list[tuple[str, str]]]:
    """Returns (the files to use, those skipped and why)."""
    paths = files_below(path) if path.is_dir() else [path]
    found: list[TextFile] = []
    skipped: list[tuple[str, str]] = []
    first: dict[str, str] = {}  # the first file of each contents
    for p in paths:
        name = p.relative_to(path).as_posix() if path.is_dir() else p.name
        if path.is_dir() and (why := _not_text(p, name)):
            skipped.append((name, why))
            continue
        digest, characters, blank = hashlib.sha256(), 0, True
        for piece in pieces(p, encoding, digest):
            characters += len(piece)
            blank = blank and piece.isspace()
        same = first.setdefault(digest.hexdigest(), name)
        if blank:
            skipped.append((name, "empty"))
        elif same != name:
            skipped.append((name, f"the same bytes as {same}"))
        else:
            found.append(TextFile(p, name, p.stat().st_size, characters, digest.hexdigest()))
    if not found:
        nothing = f"the folder {path} holds no text: expected files {', '.join(SUFFIXES)} ({len(skipped)} others were skipped)"
        raise DataError(nothing if path.is_dir() else f"{path} is empty")
    return found, skipped


def _not_text(path: Path, name: str) -> str:
    """Returns why what was found in a folder is not a text of the corpus; "" if it is. Raises DataError if that cannot be told."""
    if is_hidden(Path(name)):
        return "hidden"
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except OSError:
        mode = path.lstat().st_mode  # of a link to nothing, or to itself
    if path.is_symlink() and stat.S_ISDIR(mode):
        return "a link to a folder"
    return not_a_file(mode) or ("" if path.suffix.lower() in SUFFIXES else f"not {', '.join(SUFFIXES)}")


def _validating(files: list[TextFile]) -> set[TextFile]:
    """Returns whole files for validation: in the order of a hash of their names, those that fit into a tenth of the
    characters; if none fits, the smallest one. Most files stay in their part when others are added."""
    left = min(VALIDATION * sum(f.characters for f in files), MOST_VALIDATION)
    chosen: set[TextFile] = set()
    for file in sorted(files, key=lambda f: hashlib.sha256(f.name.encode("utf-8", "surrogateescape")).digest()):
        if file.characters <= left:
            chosen.add(file)
            left -= file.characters
    return chosen or {min(files, key=lambda f: (f.characters, f.name))}
