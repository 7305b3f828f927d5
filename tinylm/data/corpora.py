"""Where data come from: a shipped corpus by name, or a file or folder of the user's; whole texts, and tables with a column for each tab."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinylm.data.reading import pieces
from tinylm.errors import DataError

_HERE = Path(__file__).parent

TEXTS = {"tinyshakespeare": _HERE / "lm" / "tinyshakespeare.txt"}
PAIRS = {"web-rv1909": _HERE / "mt" / "web-rv1909.en-es.tsv"}
LABELLED = {"uci-sentences": _HERE / "sentiment" / "uci_sentences.tsv"}


def find_data(source: str | Path, shipped: Mapping[str, Path], expected: str = "a file") -> Path:
    """Returns the path of a shipped corpus (by name), or of what else is there. Raises DataError if nothing is."""
    path = shipped.get(str(source), Path(source))
    if not path.exists():
        raise DataError(f"no such data: {str(source)!r:.200} is neither {expected} nor one of {', '.join(shipped)}")
    return path


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """Returns a text file as one string, newlines as '\\n'.

    Raises DataError for a file that is missing, unreadable, empty or not text.
    """
    text = "".join(pieces(Path(path), encoding))
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def load_text(source: str | Path) -> str:
    """Returns the text of a shipped corpus (by name), a file, or all .txt files of a folder in the order of their paths,
    joined by a blank line.

    Raises DataError if there is no such thing or it cannot be used.
    """
    path = find_data(source, TEXTS, "a file, a folder")
    if path.is_dir():
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise DataError(f"the folder {path} holds no .txt files")
        return "\n\n".join(read_text(f).strip("\n") for f in files) + "\n"
    return read_text(path)


def read_table(path: Path) -> list[list[str]]:
    """Returns the fields of each line, without the spaces around them. Raises DataError as `read_text` does."""
    lines = read_text(path).removesuffix("\n").split("\n")
    return [[field.strip() for field in line.split("\t")] for line in lines]


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
