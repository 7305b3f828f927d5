"""Training texts: the shipped corpora by name, or a reader's own file or folder."""

from pathlib import Path

from tinylm.data.reading import pieces
from tinylm.errors import DataError

_HERE = Path(__file__).parent

TEXTS = {"tinyshakespeare": _HERE / "lm" / "tinyshakespeare.txt"}
PAIRS = {"web-rv1909": _HERE / "mt" / "web-rv1909.en-es.tsv"}
LABELLED = {"uci-sentences": _HERE / "sentiment" / "uci_sentences.tsv"}


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """A text file as one string, newlines as '\\n'.

    Errors: DataError for a file that is missing, unreadable, empty or not text.
    """
    text = "".join(pieces(Path(path), encoding))
    if not text.strip():
        raise DataError(f"{path} is empty")
    return text


def load_text(source: str | Path) -> str:
    """The text of a shipped corpus (by name), a file, or all .txt files of a folder in order of
    their paths, joined by a blank line.

    Errors: DataError when there is no such thing or it cannot be used.
    """
    if str(source) in TEXTS:
        return read_text(TEXTS[str(source)])
    path = Path(source)
    if path.is_dir():
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise DataError(f"the folder {path} holds no .txt files")
        return "\n\n".join(read_text(f).strip("\n") for f in files) + "\n"
    if not path.exists():
        raise DataError(f"no such data: {str(source)!r} is neither a file, a folder nor one of {', '.join(TEXTS)}")
    return read_text(path)
