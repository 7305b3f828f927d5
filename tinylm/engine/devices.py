"""Devices: where an array is, and moving it."""

from typing import Any

import numpy as np

from tinylm.engine.array_functions import Array
from tinylm.engine.arrays import array_module, cuda_namespace
from tinylm.engine.ids import to_host
from tinylm.engine.stored_weights import StoredWeights
from tinylm.errors import DeviceError

_ON_CPU = (np.ndarray, np.generic, StoredWeights)


def parse_device(device: str) -> tuple[str, int]:
    """Returns ("cpu", 0) or ("cuda", index) for "cpu", "cuda" or "cuda:1". Raises DeviceError for anything else."""
    kind, _, index = str(device).partition(":")
    if device == "cpu" or (kind == "cuda" and (index.isdigit() or device == "cuda")):
        return kind, int(index or 0)
    raise DeviceError(f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:N'")


def device_of(array: Array) -> str:
    """Returns "cpu" or "cuda:N"."""
    return "cpu" if isinstance(array, _ON_CPU) else f"cuda:{array.device.id}"


def device_namespace(device: str) -> Any:
    """Returns the namespace that makes arrays on `device`. Raises DeviceError if the device is not available.

    CuPy makes arrays, and computes, on its current GPU: the GPU asked for becomes the current one.
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
    """Makes the GPU where the array is the one that CuPy computes on."""
    if not isinstance(array, _ON_CPU):
        device = array.device
        if device.id != array_module(array).cuda.runtime.getDevice():
            device.use()


def to_device(array: Array, device: str) -> Array:
    """Returns the same values on `device`; the array itself if it is there already.

    A copy from the host to a GPU does not wait: CuPy copies the values to pinned memory at once, so that
    `array` may be overwritten, and queues the transfer from there before the next computation.
    A copy from a GPU to the host waits for the GPU, and then raises the error that `check_ids` found there.
    """
    space = device_namespace(device)
    if space is not array_module():
        return space.asarray(array.decoded() if isinstance(array, StoredWeights) else array)
    if isinstance(array, _ON_CPU):
        return array
    return to_host(array)


def to_numpy(array: Array) -> np.ndarray:
    """Returns a NumPy array with the values (the array itself if it is one)."""
    return array if isinstance(array, np.ndarray) else np.asarray(to_device(array, "cpu"))
