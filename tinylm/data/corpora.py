"""Where data come from: a shipped corpus by name, or a file or folder of the user's; whole texts, and tables with a column for each tab."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinylm.data.reading import check_encoding, not_a_file, pieces
from tinylm.errors import DataError

_HERE = Path(__file__).parent

TEXTS = {"tinyshakespeare": _HERE / "lm" / "tinyshakespeare.txt"}
PAIRS = {"web-rv1909": _HERE / "mt" / "web-rv1909.en-es.tsv"}
LABELLED = {"uci-sentences": _HERE / "sentiment" / "uci_sentences.tsv"}


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


def read_table(path: Path, encoding: str = "utf-8") -> list[list[str]]:
    """Returns the fields of each line, without the spaces around them. Raises DataError as `read_text` does."""
    lines = read_text(path, encoding).removesuffix("\n").split("\n")
    return [[field.strip() for field in line.split("\t")] for line in lines]


def unread_fields(rows: Sequence[list[str]], columns: int) -> str:
    """Returns a sentence about the rows with more than so many fields, the rest of which is not read; "" if there are none."""
    found = [number for number, row in enumerate(rows, 1) if any(row[columns:])]
    if not found:
        return ""
    first = f"line {found[0]}: {' '.join(rows[found[0] - 1][columns:])!r:.60}"
    return f"what follows the second tab is not read, in {len(found):,} of {len(rows):,} lines, the first being {first}"


def usable_rows(
    path: Path, rows: Sequence[list[str]], problem: Callable[[list[str]], str], expected: str
) -> tuple[list[list[str]], list[str]]:
    """Returns (the rows that can be used, why each of the others cannot). problem(row): why, "" if it can.

    Raises DataError if none can be used, or if more than 1 % of them cannot.
    """
    found = [(row, number, problem(row)) for number, row in enumerate(rows, 1)]
    kept = [row for row, _, why in found if not why]
    problems = [f"line {number} {why}" for _, number, why in found if why]
    if not kept:
        raise DataError(f"{path} has no line that can be used, expected {expected!r}: {problems[0]}")
    if len(problems) > 0.01 * len(rows):
        raise DataError(f"{len(problems)} of the {len(rows)} lines of {path} cannot be used, more than 1 %: {problems[0]}")
    return kept, problems
