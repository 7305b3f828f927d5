"""The classes of cupy.cuda: there is one device, and everything on it happens at once."""

import time
from typing import Any

from .synchronisation import synchronise


class CUDARuntimeError(RuntimeError):
    """What the real functions raise; the stand-in raises none."""


class Device:
    """cupy.cuda.Device: there is one device."""

    def __init__(self, device: int | None = None) -> None:
        self.id = int(device or 0)
        if self.id != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.compute_capability = "75"

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def use(self) -> None:
        pass

    def synchronize(self) -> None:
        synchronise("Device.synchronize()")


class Event:
    """cupy.cuda.Event: everything happens at once, so it is always done."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.done, self.time = True, 0.0

    def record(self, stream: "Stream | None" = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        synchronise("Event.synchronize()")


class Stream:
    """cupy.cuda.Stream: work is done as soon as it is submitted."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None) -> None:
        self.done = True

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def use(self) -> "Stream":
        return self

    def record(self, event: Event | None = None) -> Event:
        return event or Event()

    def wait_event(self, event: Event) -> None:
        pass

    def synchronize(self) -> None:
        synchronise("Stream.synchronize()")


class MemoryPool:
    """cupy.cuda.MemoryPool: the memory is NumPy's, so the pool has none."""

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_bytes(self) -> int:
        return 0

    def malloc(self, size: int) -> Any:
        raise NotImplementedError("the stand-in's arrays have NumPy's memory, which no pool gives")
