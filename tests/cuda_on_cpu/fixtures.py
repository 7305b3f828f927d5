"""pytest fixtures that put the stand-in for CuPy, and with it the emulator, in place for a test."""

import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine import arrays
from tinylm.engine import ids as engine_ids
from tinylm.engine.devices import device_namespace
from tinylm.errors import DeviceError
from tinylm.ops import rotary_angles

from . import emulator, stand_in


def gpu_required() -> bool:
    """TINYLM_REQUIRE_CUDA=1: a missing GPU fails the tests that need one, and nothing is emulated in its place."""
    return os.environ.get("TINYLM_REQUIRE_CUDA") == "1"


@functools.cache
def has_gpu() -> bool:
    """Whether the device "cuda" is to be had on this machine; asked before any stand-in is in place."""
    try:
        device_namespace("cuda")
    except DeviceError:
        return False
    return True


def sources() -> Iterator[CudaSource]:
    """The kernel files that the bindings have loaded."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tinylm.bindings.cuda."):
            for value in vars(module).values():
                for each in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(each, CudaSource):
                        yield each


def forget_compiled() -> None:
    """Makes every kernel file be compiled anew when it is next launched."""
    for each in sources():
        each._modules.clear()
        each._functions.clear()
        vars(each).pop("signatures", None)


def forget_angles() -> None:
    """Gives back the rotary positions' tables, which are kept on the device for the next call."""
    rotary_angles._rows.cache_clear()
    rotary_angles._tables.cache_clear()


@pytest.fixture
def emulated_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in as `cupy`, so that the device "cuda" exists; everything is as before afterwards.

    Skips where the emulator does not run. The value is the module `cupy`; `cupyx.allow_synchronize(False)`
    refuses every synchronisation within it.
    """
    if reason := emulator.unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(arrays, "_namespaces", {k: v for k, v in arrays._namespaces.items() if k.__module__ != "cupy"})
    monkeypatch.setattr(engine_ids, "_largest", {})  # checks of ids that nobody has asked for
    if has_gpu():
        forget_compiled()
        forget_angles()
    with stand_in.installed() as cupy:
        yield cupy
    if has_gpu():
        forget_compiled()
        forget_angles()
