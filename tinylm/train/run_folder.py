"""A run folder in use: its lock, whether it has a run, and its checkpoints by step, of which the last few are kept."""

import errno
import fcntl
import os
import re
import stat
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinylm.errors import CheckpointError, one_line
from tinylm.files.atomic import PARTIAL
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists, names_in
from tinylm.files.signed_arrays import read_arrays

T = TypeVar("T")
_SUBFOLDERS = ("checkpoints", "failure", "tensorboard")
_BEGINNING = {"lock", "data.json", "config.json", "metrics.jsonl", "checkpoints", "tensorboard"}  # all there is before a checkpoint


def new_folder(kind: str, data: str | Sequence[str], parent: Path = Path("runs")) -> Path:
    """Returns runs/<kind>-<data>, with -2, -3, ... where that exists. Several data are named by the first, and by how many more there
    are."""
    first, *more = [data] if isinstance(data, str) else data
    name = f"{kind}-{Path(first).stem or 'data'}{f'-and-{len(more)}-more' if more else ''}"
    folder, n = parent / name, 2
    while folder.exists():
        folder, n = parent / f"{name}-{n}", n + 1
    return folder


class RunLock:
    """The right to write into a run folder, for one process at a time.

    The file `lock` is locked with flock(2), which the kernel undoes however its holder dies, and holds
    the holder's process id for the message that others get. Raises CheckpointError when another has it,
    when the folder cannot be written, or when links in it lead out of it. As a context it is in use, and nobody takes it over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None
        self._in_use = self._lost = False

    def acquire(self, take_over: bool = False) -> None:
        """Takes the lock, unless it is held already, and removes what a killed process left half written.

        take_over: from another lock of this process that is not in use. That one cannot be taken again: its run knows nothing of what
        the new one writes.
        """
        if self._handle is not None:
            return
        if self._lost:
            raise CheckpointError(f"the run in {self.folder} was opened again later: go on with that object, not with this one")
        other = _taken.get(self.folder.resolve())
        if take_over and other is not None and not other._in_use:
            other._lost = other._handle is not None or other._lost
            other.release()
        path, places = self.folder / "lock", [self.folder / name for name in _SUBFOLDERS]
        try:
            for place in places:
                if place.is_symlink():
                    raise CheckpointError(f"{place} is a symbolic link, expected a folder: a run writes nothing outside of its own folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handle = _locked(path)
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())
            for place in (self.folder, *places):
                for left in place.glob(f".*{PARTIAL}"):
                    if not left.is_dir():
                        left.unlink()
            _taken[self.folder.resolve()] = self
        except BlockingIOError as error:
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
            self.release()
            remedy = "let it end, or stop it, before going on here"
            if holder == str(os.getpid()):
                more = "" if other is not None and other._in_use else "; exist_ok=True takes it over"
                holder, remedy = f"{holder}, this one", f"another run object has the folder until it is trained{more}"
            raise CheckpointError(f"{self.folder} is in use by process {holder}: {remedy}") from error
        except OSError as error:
            self.release()
            raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error

    def release(self) -> None:
        """Gives the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> None:
        self.acquire()
        self._in_use = True

    def __exit__(self, *_: object) -> None:
        self._in_use = False
        self.release()

    def __del__(self) -> None:
        self.release()


_taken: weakref.WeakValueDictionary[Path, RunLock] = weakref.WeakValueDictionary()  # of this process, by folder: the newest lock


def open_own(path: Path, flags: int) -> int:
    """Returns a handle on a file of a run folder that is written in place; it is made if it is missing.

    Raises OSError for a link, which in a folder from elsewhere may lead to any file, and for what is no regular file.
    """
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "it is a symbolic link" if path.is_symlink() else "it is no regular file")
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


def _locked(path: Path) -> int:
    """Returns a handle on the file, locked. If the file has a second name, which may lie outside, it is replaced by a new one.

    Raises OSError, which is BlockingIOError if another process has the lock.
    """
    while True:
        handle = open_own(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = os.fstat(handle).st_nlink  # 0: another process has just replaced it
            if names > 1:
                path.unlink()
        except OSError:
            os.close(handle)
            raise
        if names == 1:
            return handle
        os.close(handle)


def never_started(folder: Path) -> bool:
    """Returns whether the folder holds a run that was ended before its first checkpoint, and nothing else: nothing that could be lost.

    Such a run is begun again, by a new run in it as by a resume.
    """
    names = {name for name in names_in(folder) if not name.endswith(PARTIAL)}
    if "config.json" not in names or not names <= _BEGINNING:
        return False
    metrics, saved = folder / "metrics.jsonl", names_in(folder / "checkpoints")
    if (exists(metrics) and metrics.stat().st_size) or not all(name.endswith(PARTIAL) for name in saved):
        return False
    try:
        record = read_json(folder / "config.json")
    except CheckpointError:
        return False
    return isinstance(record, dict) and {"train", "tokenizer"} <= set(record)


def refuse_used(folder: Path) -> None:
    """Raises CheckpointError as `refuse_run` does. If the folder holds a run that was ended before its first checkpoint, it is begun again,
    and a line on stderr says so."""
    refuse_run(folder)
    if exists(folder / "config.json"):
        say_begun_again(folder)


def refuse_run(folder: Path) -> None:
    """Raises CheckpointError when the folder holds a run already, other than one that was ended before its first checkpoint."""
    if exists(folder / "config.json") and not never_started(folder):
        raise CheckpointError(f"{folder} holds a run already: continue it with resume=True or exist_ok=True, or choose another folder")


def remove_run(folder: Path) -> None:
    """Deletes the files that a run has written into its folder, but for config.json and the lock, which the caller has.

    Raises CheckpointError for a folder whose config.json is not that of a run, and when a file cannot be deleted.
    """
    record = read_json(folder / "config.json")
    if not (isinstance(record, dict) and "train" in record):
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run: nothing is deleted")
    files = [folder / name for name in ("data.json", "metrics.jsonl", "summary.json", "model.safetensors")]
    files += [folder / part / name for part in _SUBFOLDERS for name in names_in(folder / part)]
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot delete {path}: {error.strerror or error}") from error


def say_begun_again(folder: Path) -> None:
    """Prints on stderr that the run in the folder is begun again."""
    print(f"the run in {folder} was ended before it had saved anything: it is begun again", file=sys.stderr)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns where the checkpoint of a step lies."""
    return folder / "checkpoints" / f"step-{step:08d}.safetensors"


def saved_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints to resume from, the newest first; up to format 1 a run had a single one, last.safetensors."""
    names = names_in(folder / "checkpoints")
    found = [(int(match[1]), match[0]) for match in map(re.compile(r"step-(\d{1,18})\.safetensors").fullmatch, names) if match]
    chosen = [name for _, name in sorted(found, reverse=True)] + [name for name in names if name == "last.safetensors"]
    return [folder / "checkpoints" / name for name in chosen]


def keep_newest(folder: Path, keep: int) -> None:
    """Deletes all but the last `keep` checkpoints. Raises CheckpointError when that fails."""
    for path in saved_checkpoints(folder)[keep:]:
        try:
            path.unlink()
        except OSError as error:
            raise CheckpointError(f"cannot delete {path}: {error.strerror or error}") from error


def _set_aside(path: Path) -> None:
    try:
        path.rename(path.with_name(f"{path.name}.damaged"))
    except OSError as error:
        raise CheckpointError(f"cannot rename {path}: {error.strerror or error}") from error


def newest_whole(folder: Path, use: Callable[[Path, dict[str, np.ndarray], dict[str, Any]], T], set_aside: bool = False) -> T:
    """Returns use(path, arrays, record) of the newest checkpoint that is whole and that `use` takes.

    One that is not is named in a line on stderr, and with `set_aside` renamed to *.damaged; then it is the
    turn of the one before. Raises CheckpointError, the newest one's, when there is no other left.
    """
    paths = saved_checkpoints(folder)
    if not paths:
        raise CheckpointError(f"cannot read {folder / 'checkpoints'}: it holds no checkpoint step-*.safetensors")
    damaged: list[tuple[Path, CheckpointError]] = []
    for path in paths:
        try:
            result = use(path, *read_arrays(path))
        except CheckpointError as error:
            damaged.append((path, error))
            continue
        for bad, problem in damaged:
            print(f"warning: {one_line(f'{problem}; going on with {path.name}')}", file=sys.stderr)
            if set_aside:
                _set_aside(bad)
        return result
    raise damaged[0][1]
