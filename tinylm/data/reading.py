"""Text files as a stream of pieces: files larger than memory, any encoding, errors that name the byte."""

import codecs
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tinylm.errors import ConfigError, DataError

BYTES = 1 << 18  # read at once
STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
LONGEST_LINE = 1 << 20  # characters; a longer one is cut, at a space if it has one


def check_encoding(encoding: str) -> None:
    """Raises ConfigError for a name that Python has no text encoding for."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:  # 'undefined' and names with a zero character raise the second
        raise ConfigError(f"encoding {encoding!r:.80}: Python knows no such text encoding (some are utf-8, latin-1, utf-16)") from error


def pieces(path: Path, encoding: str = "utf-8", digest: Any = None) -> Iterator[str]:
    """Yields the text in pieces of about 256 KiB that end with a line, newlines as '\\n', without a byte order mark.

    digest: a hashlib object that is updated with the bytes. Raises DataError, naming the file, if it cannot be read, for
    bytes that are not of the encoding (with their offset), and for a zero character.
    """
    held = ""
    for text in _decoded(path, encoding, digest):
        held += text
        cut = held.rfind("\n") + 1
        if not cut and len(held) > LONGEST_LINE:
            cut = held.rfind(" ") if held.rfind(" ") > 0 else len(held)
        if cut:
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def open_file(path: Path) -> BinaryIO:
    """Opens a file for reading, without waiting for anybody. Raises OSError, and DataError for what is no file, such as a device or
    a named pipe; an open stream by its number, such as /dev/stdin, may be a pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if problem := "" if str(path).startswith(STREAMS) else not_a_file(os.fstat(handle).st_mode):
            raise DataError(f"{path} is {problem}, expected a text file")
        os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def not_a_file(mode: int) -> str:
    """Returns what something of that mode is, if it is not a regular file; "" if it is."""
    kinds = {
        stat.S_IFREG: "", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link that leads nowhere",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "a device")


def _decoded(path: Path, encoding: str, digest: Any) -> Iterator[str]:
    decoder, newlines = codecs.getincrementaldecoder(encoding)(), io.IncrementalNewlineDecoder(None, translate=True)
    position, characters = 0, 0  # of the bytes and characters before this chunk
    try:
        with open_file(path) as file:
            while True:
                raw = file.read(BYTES)
                if digest is not None:
                    digest.update(raw)
                waiting = len(decoder.getstate()[0])  # bytes of a character that the last chunk cut
                try:
                    text = decoder.decode(raw, not raw)
                except UnicodeError as error:
                    why = str(error)  # UTF-16 or UTF-32 without its mark
                    if isinstance(error, UnicodeDecodeError):
                        why = f"byte {error.object[error.start]:#04x} at position {position - waiting + error.start} ({error.reason})"
                    raise DataError(
                        f"{path} is not {encoding.upper()} text: {why}; another encoding can be named (encoding=...)"
                    ) from error
                if "\0" in text:
                    raise DataError(f"{path} is not text: a zero byte at position {characters + text.index(chr(0))} of its characters")
                if characters == 0:
                    text = text.removeprefix("\ufeff")
                position, characters = position + len(raw), characters + len(text)
                yield newlines.decode(text, not raw)
                if not raw:
                    return
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
