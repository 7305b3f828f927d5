"""Devices: where an array is, and moving it."""

from typing import Any

import numpy as np

from tinylm.engine.array_functions import Array, Namespace
from tinylm.engine.arrays import array_module, cuda_namespace
from tinylm.engine.ids import raise_found
from tinylm.errors import DeviceError


def parse_device(device: str) -> tuple[str, int]:
    """("cpu", 0) or ("cuda", index) from "cpu", "cuda" or "cuda:1"; DeviceError for anything else."""
    kind, _, index = str(device).partition(":")
    if device == "cpu" or (kind == "cuda" and (index.isdigit() or device == "cuda")):
        return kind, int(index or 0)
    raise DeviceError(f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:N'")


def device_of(array: Array) -> str:
    """ "cpu" or "cuda:N"."""
    return "cpu" if isinstance(array, (np.ndarray, np.generic)) else f"cuda:{array.device.id}"


def device_namespace(device: str) -> Any:
    """The namespace that makes arrays on `device`; DeviceError when it is not to be had.

    CuPy makes arrays, and computes, on its current GPU: a GPU that is asked for becomes the current one.
    """
    kind, index = parse_device(device)
    if kind == "cpu":
        return array_module()
    space = cuda_namespace()
    runtime = space.cuda.runtime
    count = runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device {device!r} does not exist: this machine has {count} (cuda:0 to cuda:{count - 1})")
    if runtime.getDevice() != index:
        space.cuda.Device(index).use()
    return space


def make_current(array: Array) -> None:
    """Has CuPy compute on the GPU where the array is."""
    if not isinstance(array, (np.ndarray, np.generic)):
        device = array.device
        if device.id != array_module(array).cuda.runtime.getDevice():
            device.use()


def to_device(array: Array, device: str) -> Array:
    """The same values on `device`; the array itself when it is there already.

    From the host to a GPU nothing is waited for: CuPy copies the values to pinned memory at once, so
    that `array` may be overwritten, and queues the transfer from there before what is computed next.
    The other way waits for the GPU, and then raises what `check_ids` found there.
    """
    space = device_namespace(device)
    if space is not array_module():
        return space.asarray(array)
    if isinstance(array, (np.ndarray, np.generic)):
        return array
    values = array.get()
    raise_found()
    return values


def to_numpy(array: Array) -> np.ndarray:
    """A NumPy array with the values (the array itself when it is one)."""
    return array if isinstance(array, np.ndarray) else np.asarray(to_device(array, "cpu"))


Namespace.to_device = staticmethod(to_device)  # for the body of the op of that name
