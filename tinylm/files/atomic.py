"""Files that are there whole or not at all, whatever ends the process or the power."""

import contextlib
import fcntl
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

    An exception in the block leaves what was there; what a killed process leaves, `remove_abandoned` finds. Raises OSError for
    a full disk or a missing permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = _locked_file(path)
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


def _locked_file(path: Path) -> tuple[int, str]:
    """Returns (handle, path) of a new temporary file beside `path`, locked with flock(2), which the kernel undoes however we end."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        with contextlib.suppress(OSError):  # of a file system without locks; there nothing is removed either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(temporary):
            return handle, temporary
        os.close(handle)  # before it was locked, another process took it for abandoned


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files in a folder whose writers were killed; those of living processes are locked, and stay."""
    for path in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


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
