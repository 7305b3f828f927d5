"""The text files of a corpus: those of one or several sources, each read once to be counted, and what was passed over."""

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.data.corpora import TEXTS, Source, files_below, find_data, is_hidden, listed_sources
from tinylm.data.reading import not_a_file, pieces
from tinylm.errors import DataError

SUFFIXES = (".txt", ".text", ".md")


@dataclass(frozen=True)
class TextFile:
    """A file of the corpus and what it holds."""

    path: Path
    name: str  # relative to the folder; of several sources, after the name of the source
    bytes: int
    characters: int
    digest: str  # SHA-256 of the bytes


Skipped = list[tuple[str, str]]  # (file, why)
_TWICE, _COPY = "named twice", "the same bytes as"


def survey(sources: Source, encoding: str, taken: Mapping[str, str] | None = None, part: str = "") -> tuple[list[TextFile], Skipped]:
    """Returns (the files to use, those skipped and why) of a shipped corpus by name, a file, a folder, or several of these.

    taken: by the digest of a file's contents, the name of the same one in another part, which is skipped here. part: stands before
    each name, so that the files of two parts have different names.
    Raises DataError if a source is missing or cannot be read, or if no text is left.
    """
    places = [find_data(source, TEXTS, "a file, a folder") for source in listed_sources(sources)]
    prefixes = _prefixes(places, part)
    found: list[TextFile] = []
    skipped: Skipped = []
    first: dict[str, str] = dict(taken or {})  # the first file of each contents
    seen: set[Path] = set()
    for place, prefix in zip(places, prefixes, strict=True):
        before, others = len(found), len(skipped)
        for path in files_below(place) if place.is_dir() else [place]:
            relative = path.relative_to(place).as_posix() if place.is_dir() else path.name
            name = prefix + relative
            if place.is_dir() and (why := _not_text(path, relative)):
                skipped.append((name, why))
            elif path.resolve() in seen and len(places) > 1:
                skipped.append((name, _TWICE))
            else:
                seen.add(path.resolve())
                _read_once(path, name, encoding, first, found, skipped)
        here = [why for _, why in skipped[others:]]
        copies = [why for why in here if why.startswith((_TWICE, _COPY))]
        if len(found) == before and not (found and copies):  # a source without any text is a mistake, a copy of another is none
            empty = f"{place} is empty" if "empty" in here else f"{place} has {copies[0]}" if copies else ""
            nothing = f"the folder {place} holds no text: expected files {', '.join(SUFFIXES)} ({len(here)} others were skipped)"
            raise DataError(nothing if place.is_dir() else empty)
    return found, skipped


def _read_once(path: Path, name: str, encoding: str, first: dict[str, str], found: list[TextFile], skipped: Skipped) -> None:
    """Reads a file in pieces, and adds it to those found or to those skipped."""
    digest, characters, blank = hashlib.sha256(), 0, True
    for piece in pieces(path, encoding, digest):
        characters += len(piece)
        blank = blank and piece.isspace()
    same = first.setdefault(digest.hexdigest(), name)
    if blank:
        skipped.append((name, "empty"))
    elif same != name:
        skipped.append((name, f"{_COPY} {same}"))
    else:
        found.append(TextFile(path, name, path.stat().st_size, characters, digest.hexdigest()))


def _prefixes(places: Sequence[Path], part: str) -> list[str]:
    """Returns what stands before the names of each source's files: nothing for a single source, else the name of a folder. If two
    sources have the same name, each has its whole path."""
    if len(places) == 1:
        return [part]
    names = [place.resolve().name for place in places]
    if len(set(names)) < len(names):
        names = [place.as_posix() for place in places]
        return [
            f"{part}{name}/" if place.is_dir() else f"{part}{place.parent.as_posix()}/" for name, place in zip(names, places, strict=True)
        ]
    return [f"{part}{name}/" if place.is_dir() else part for name, place in zip(names, places, strict=True)]


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
