"""Folders to work in that are removed afterwards: by this process, or if it is killed, by the next one that needs one of that name."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tinylm.errors import CheckpointError

_YOUNG = 60  # seconds in which a folder may not be locked yet


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Gives a new folder PREFIX... in the parent, and first removes those of that prefix whose processes were killed.

    A folder in use is locked with flock(2), which the kernel undoes however its process ends. Raises OSError.
    """
    _remove_abandoned(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):  # of a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(handle)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for path in [path for path in parent.iterdir() if path.name.startswith(prefix)]:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(handle)
                if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and found.st_mtime < time.time() - _YOUNG:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(handle)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder beside a new or empty one, whose place it takes when the block ends: it is there whole or not at all.

    Raises CheckpointError if no folder can be made there, OSError if it cannot take its place.
    """
    named, folder = folder, folder.resolve()
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            inside = stack.enter_context(temporary_folder(folder.parent, f".{folder.name}.partial-")) / "whole"
            inside.mkdir()  # with the permissions that any new folder has
        except OSError as error:
            raise CheckpointError(f"cannot write {named}: {error.strerror or error}") from error
        yield inside
        try:
            inside.rename(folder)
        except OSError:  # an empty folder that is a mount point cannot be replaced
            for path in sorted(inside.iterdir(), key=lambda path: path.name == "config.json"):
                shutil.move(path, folder / path.name)
