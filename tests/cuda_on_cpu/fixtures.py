"""pytest fixtures that replace CuPy by the stand-in, and with it by the emulator, for one test."""

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
    """Returns whether TINYLM_REQUIRE_CUDA is 1: then the tests that need a GPU fail without one, and nothing is emulated."""
    return os.environ.get("TINYLM_REQUIRE_CUDA") == "1"


@functools.cache
def has_gpu() -> bool:
    """Returns whether this machine has the device "cuda"; first asked before any stand-in is in place."""
    try:
        device_namespace("cuda")
    except DeviceError:
        return False
    return True


def sources() -> Iterator[CudaSource]:
    """Yields the kernel files that the bindings have loaded."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tinylm.bindings.cuda."):
            for value in vars(module).values():
                for each in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(each, CudaSource):
                        yield each


def forget_compiled() -> None:
    """Makes every kernel file compile anew at its next launch."""
    for each in sources():
        each._modules.clear()
        each._functions.clear()
        each._parameters.clear()
        vars(each).pop("signatures", None)


def forget_angles() -> None:
    """Frees the tables of rotary positions, which are kept on the device for the next call."""
    rotary_angles._rows.cache_clear()
    rotary_angles._tables.cache_clear()


@pytest.fixture
def emulated_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Provides the stand-in as `cupy`, so that the device "cuda" exists; afterwards everything is as before.

    Skips the test if the emulator cannot run. The value is the module `cupy`; within
    `cupyx.allow_synchronize(False)` every synchronisation is refused.
    """
    if reason := emulator.unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(arrays, "_namespaces", {k: v for k, v in arrays._namespaces.items() if k.__module__ != "cupy"})
    monkeypatch.setattr(engine_ids, "_checks", {})  # checks of ids whose results nobody has read
    if has_gpu():
        forget_compiled()
        forget_angles()
    with stand_in.installed() as cupy:
        yield cupy
    if has_gpu():
        forget_compiled()
        forget_angles()
