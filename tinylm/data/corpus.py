"""The user's texts: which files are read, which part validates, and what was found."""

import collections
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinylm.data.corpora import Source, shown_sources
from tinylm.data.likeness import Likeness, find_likeness
from tinylm.data.overlap import Overlap, find_overlap
from tinylm.data.reading import check_encoding, pieces
from tinylm.data.text_files import TextFile, survey
from tinylm.errors import DataError, printable

VALIDATION = 0.1  # the part of the text that validates
MOST_VALIDATION = 5_000_000  # characters: more would only take longer


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
    """The training and the validation part, a test part if there is one, and a note about what was read."""

    source: str
    encoding: str
    train: Part
    validation: Part
    skipped: tuple[tuple[str, str], ...] = ()  # (file, why)
    split: str = ""
    overlap: Overlap = field(default_factory=Overlap)
    test: Part | None = None
    test_overlap: Overlap = field(default_factory=Overlap)
    likeness: Likeness = field(default_factory=Likeness)
    own_validation: bool = False  # whether it comes from files of its own, which are none of the source's

    @property
    def files(self) -> tuple[TextFile, ...]:
        """The files of all parts, those of the training part first."""
        both = self.train.files if self.train.files == self.validation.files else self.train.files + self.validation.files
        return both + (self.test.files if self.test else ())

    @property
    def whole(self) -> Part:
        """All of the source, the training part included."""
        if self.own_validation:
            return self.train
        if self.train.files == self.validation.files:
            return Part(self.train.files, self.encoding, 0, self.validation.stop)
        return Part(tuple(sorted(self.train.files + self.validation.files, key=lambda file: file.path)), self.encoding)

    def beginning(self, characters: int) -> str:
        """Returns the first characters of the training part, for a trial."""
        return "".join(excerpt(iter(self.train), 0, characters))

    def to_json(self) -> dict[str, Any]:
        """Returns the note as data.json holds it."""
        note = {
            "source": self.source, "encoding": self.encoding, "files": len(self.files), "bytes": sum(f.bytes for f in self.files),
            "characters": sum(f.characters for f in self.files), "split": self.split,
            "train_characters": self.train.characters, "validation_characters": self.validation.characters,
            "validation_files": [f.name for f in self.validation.files], "overlap": self.overlap.to_json(),
            "likeness": self.likeness.to_json(), "skipped": [{"file": name, "why": why} for name, why in self.skipped],
            "digests": {f.name: f.digest for f in self.files},
        }  # fmt: skip
        if self.test:
            test = {"test_characters": self.test.characters, "test_files": [f.name for f in self.test.files]}
            note |= test | {"test_overlap": self.test_overlap.to_json()}
        return note

    def summary(self) -> str:
        """Returns the note in a few lines."""
        note = self.to_json()
        lines = [f"{note['files']:,} files, {note['bytes']:,} bytes, {note['characters']:,} characters ({self.encoding}); {self.split}"]
        lines += [f"skipped {name}: {why}" for name, why in self.skipped[:5]]
        if len(self.skipped) > 5:
            lines.append(f"and {len(self.skipped) - 5:,} more, which data.json lists")
        return "\n".join([*lines, *self.overlap.lines(), *self.test_overlap.lines("test")])

    def doubt(self) -> str:
        """Returns why the validation loss will say little about the model, and what to do; "" if the parts are alike."""
        like = self.likeness
        if not like.unlike:
            return ""
        files = [] if self.validation.files == self.train.files else [printable(f.name, 60) for f in self.validation.files]
        more = f" and {len(files) - 2:,} more files" if len(files) > 2 else ""
        where = f" ({', '.join(files[:2])}{more})" if files else ""
        lacking = (
            f"; {like.unseen:.1%} of its characters, such as {like.examples!r}, do not occur in training" if like.unseen >= 0.005 else ""
        )
        return (
            f"the validation part{where} is unlike the training part: counts of pairs of characters give it {like.validation:.2f} nats per "
            f"character, where stretches of the training part have {like.mean:.2f}{lacking}. Its loss says more about this than about the "
            "model: name a file that is like the training text (valid=FILE), or put more such files into the data"
        )


def open_corpus(sources: Source, encoding: str = "utf-8", valid: str | Path = "", test: str | Path = "") -> Corpus:
    """Opens a shipped corpus by name, a text file, the text files of a folder and those below it in the order of their paths, or several
    of these.

    Every file is read once, in pieces. valid, test: a file or folder of its own for this part; files of the source with the same
    contents are left out of training. Without valid, the last tenth of a single file's characters validates; of several files, whole
    ones do, chosen by a hash of their names until they are a tenth; at most 5 million characters. Raises DataError if there is no
    such thing or it cannot be used, ConfigError for an unknown encoding.
    """
    check_encoding(encoding)
    own = {what: survey(source, encoding, part=f"{what}: ") for what, source in (("valid", valid), ("test", test)) if str(source)}
    taken = {file.digest: file.name for files, _ in own.values() for file in files}
    if len(taken) < sum(len(files) for files, _ in own.values()):
        raise DataError(f"valid {valid} and test {test} have a file in common: a test is of texts that have chosen nothing")
    found, skipped = survey(sources, encoding, taken)
    skipped += [each for _, others in own.values() for each in others]
    tested = _whole(own["test"][0], encoding) if "test" in own else None
    if "valid" in own:
        train, validation = _whole(found, encoding), _whole(own["valid"][0], encoding)
        split = f"{validation.characters:,} characters of {valid} validate"
    elif len(found) == 1:
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
    if tested is not None:
        split += f", {tested.characters:,} of {test} are the test"
    return Corpus(
        shown_sources(sources), encoding, train, validation, tuple(skipped), split, find_overlap(train, validation),
        tested, find_overlap(train, tested) if tested else Overlap(),
        find_likeness(train, train.characters, validation, validation.characters), "valid" in own,
    )  # fmt: skip


def _whole(files: list[TextFile], encoding: str) -> Part:
    """Returns a part of these files; a single one is taken as it stands, to the last character."""
    return Part(tuple(files), encoding, 0, files[0].characters) if len(files) == 1 else Part(tuple(files), encoding)


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
