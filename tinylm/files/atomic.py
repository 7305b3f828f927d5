"""Files that are there whole or not at all, whatever ends the process or the power."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tinylm.errors import CheckpointError

PARTIAL = ".partial"  # how the names of temporary files end


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes its place at `path` when the block ends, flushed to the disk, readable by its user alone.

    An exception in the block leaves what was there. Raises OSError for a full disk or a missing permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # so that the new name survives a crash too
    finally:
        os.close(directory)


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Writes the bytes, part after part, to a file that everyone may read, or leaves what was there.

    Raises CheckpointError for a full disk or a missing permission.
    """
    try:
        with atomic_file(path) as file:
            os.fchmod(file.fileno(), 0o644)
            file.writelines(parts)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
