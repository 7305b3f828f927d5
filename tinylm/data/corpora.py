"""Where data come from: a shipped corpus by name, or files and folders of the user's; whole texts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinylm.data.reading import check_encoding, not_a_file, pieces
from tinylm.errors import DataError

Source = str | Path | Sequence[str | Path]  # one, or several

_HERE = Path(__file__).parent

TEXTS = {"tinyshakespeare": _HERE / "lm" / "tinyshakespeare.txt"}
PAIRS = {"web-rv1909": _HERE / "mt" / "web-rv1909.en-es.tsv"}
LABELLED = {"uci-sentences": _HERE / "sentiment" / "uci_sentences.tsv"}


def listed_sources(sources: Source) -> list[str | Path]:
    """Returns one source or several as a list."""
    return [sources] if isinstance(sources, str | Path) else list(sources)


def shown_sources(sources: Source) -> str:
    """Returns one source or several as a message names them."""
    return ", ".join(map(str, listed_sources(sources)))


def find_data(source: str | Path, shipped: Mapping[str, Path], expected: str = "a file") -> Path:
    """Returns the path of a shipped corpus (by name), or of a file or folder. Raises DataError if there is none."""
    path = shipped.get(str(source), Path(source))
    try:
        problem = not_a_file(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise DataError(f"no such data: {str(source)!r:.200} is neither {expected} nor one of {', '.join(shipped)}") from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r:.200}: {error.strerror or error}") from error
    if problem and not path.is_dir():
        raise DataError(f"{path} is {problem}, expected {expected.replace(', ', ' or ')}: data are read more than once")
    return path


def files_below(folder: Path) -> list[Path]:
    """Returns all that is in a folder and those below it, but for these folders, in the order of the paths. Links to folders are not
    followed; they are in the list, and so are hidden folders that cannot be read.

    Raises DataError for another folder that cannot be read.
    """
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        path = Path(error.filename)
        if not is_hidden(path.relative_to(folder)):
            raise DataError(f"cannot read the folder {path}: {error.strerror or error}") from error
        found.append(path)

    for place, folders, names in os.walk(folder, onerror=unreadable):
        found += [Path(place, name) for name in names]
        found += [path for path in (Path(place, name) for name in folders) if path.is_symlink()]
    return sorted(found)


def is_hidden(path: Path) -> bool:
    """Returns whether a part of a relative path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """Returns a text file as one string, newlines as '\\n'.

    Raises DataError for a file that is missing, unreadable, empty or not text, ConfigError for an unknown encoding.
    """
    check_encoding(encoding)
    text = "".join(pieces(Path(path), encoding))
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def load_text(source: str | Path, encoding: str = "utf-8") -> str:
    """Returns the text of a shipped corpus (by name), a file, or all .txt files of a folder in the order of their paths,
    joined by a blank line.

    Raises DataError if there is no such thing or it cannot be used.
    """
    path = find_data(source, TEXTS, "a file, a folder")
    if path.is_dir():
        files = [file for file in files_below(path) if file.match("*.txt")]
        if not files:
            raise DataError(f"the folder {path} holds no .txt files")
        return "\n\n".join(read_text(f, encoding).strip("\n") for f in files) + "\n"
    return read_text(path, encoding)
