"""pytest fixtures that put the stand-in for CuPy, and with it the emulator, in place for a test."""

from collections.abc import Iterator
from typing import Any

import pytest

from tinylm import backend

from . import emulator, stand_in


@pytest.fixture
def emulated_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in as `cupy`, so that the device "cuda" exists; everything is as before afterwards.

    Skips where the emulator does not run. The value is the module `cupy`; `cupyx.allow_synchronize(False)`
    refuses every synchronisation within it.
    """
    if reason := emulator.unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(backend, "_namespaces", {k: v for k, v in backend._namespaces.items() if k.__module__ != "cupy"})
    with stand_in.installed() as cupy:
        yield cupy
