"""Where tinylm keeps what it can make again: compiled kernels, token files."""

import os
import stat
from collections.abc import Callable
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Returns the folder of that name in $TINYLM_CACHE, else in $XDG_CACHE_HOME/tinylm, else in ~/.cache/tinylm; it need not exist.

    Raises FileNotFoundError for a user without a home.
    """
    if os.environ.get("TINYLM_CACHE"):
        return Path(os.environ["TINYLM_CACHE"]) / name
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinylm" / name
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def trusted(path: Path, kind: Callable[[int], bool]) -> bool:
    """Returns whether the path is of that kind and only this user can have written to it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return kind(found.st_mode) and only_ours(found)


def only_ours(found: os.stat_result) -> bool:
    """Returns whether only this user can write to what has that status."""
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def private_folder(name: str, files: str) -> Path:
    """Returns `cache_folder(name)`, or what it links to, as a folder that only this user can write to; it is made if it is missing.

    If others could write to it until now, they no longer can, and its files are removed, which they may have exchanged.
    files: a pattern for their names. Raises OSError if it belongs to another user, or cannot be made or changed.
    """
    folder = cache_folder(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    link, found = folder.lstat(), folder.stat()
    if found.st_uid != os.getuid() or link.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{folder} belongs to another user")
    if not only_ours(found):
        folder.chmod(0o700)
        for path in folder.glob(files):
            path.unlink()
    return folder
