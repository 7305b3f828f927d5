"""A text and a tokenizer for tests of files that change, and what runs a task as another user."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.data import CharTokenizer

TEXT = "".join(f"Line {i}, the quick brown fox jumps over {i * i} dogs;\n" for i in range(400))
TOKENIZER = CharTokenizer(TEXT + "Q")
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")


class Watched:
    """A tokenizer that does something before it encodes its n-th piece."""

    def __init__(self, number: int, then: Callable[[], Any]) -> None:
        self.left, self.then = number, then

    def __getattr__(self, name: str) -> Any:
        return getattr(TOKENIZER, name)

    def encode(self, piece: str) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            self.then()
        return TOKENIZER.encode(piece)


def as_nobody(task: Callable[[], Any], *reachable: Path) -> str:
    """Runs a task as another user; returns the error's type and message, or "". The parents of these paths are opened for it."""
    for path in reachable:
        for parent in (path, *path.parents):
            if parent != Path("/tmp") and Path("/tmp") in parent.parents and parent.is_dir():
                parent.chmod(parent.stat().st_mode | 0o055)
    reading_end, writing_end = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            task()
        except BaseException as error:
            os.write(writing_end, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing_end)
    os.waitpid(child, 0)
    with os.fdopen(reading_end, "rb") as file:
        return file.read().decode()
