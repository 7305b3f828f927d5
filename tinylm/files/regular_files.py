"""Files as they are found: whether something lies there, and opening nothing but regular files."""

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from tinylm.errors import CheckpointError


def exists(path: Path) -> bool:
    """Returns whether a file or folder of that name is there. Raises CheckpointError if the system does not say, as for a missing
    permission."""
    try:
        return path.exists()
    except OSError as error:
        raise unreadable(path, error) from error


def names_in(folder: Path) -> list[str]:
    """Returns the names in a folder, none for a missing one. Raises CheckpointError if it cannot be read."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def check_regular(path: Path) -> None:
    """Raises CheckpointError for what cannot be opened, and for what is no regular file: a pipe would wait, a device may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"cannot read {path}: it is a folder, expected a file")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"cannot read {path}: expected a regular file, and it is a device, a pipe or a socket")


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading. Raises CheckpointError as `check_regular` does."""
    check_regular(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def cut_after_mapping(mapped: Any) -> str:
    """Returns a sentence about the file of an np.memmap if the file has become shorter since; "" if it is whole.

    Reading a page that is no longer there ends the process with a bus error, so whoever reads asks first. A file that is cut between
    the question and the reading still does that: no check in Python can come closer.
    """
    whole = getattr(mapped, "_mmap", None)  # None: the array is a copy
    if whole is None or (size := whole.size()) >= len(whole):  # the first asks the system, the second is as it was
        return ""
    return f"{mapped.filename} was cut while it was in use: {size:,} bytes, expected {len(whole):,}"


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Returns the error for a file that the system does not let us read."""
    return CheckpointError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")
