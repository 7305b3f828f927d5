"""@kernel and @update: faster implementations, and which of them runs.

An op or update has one readable reference and any number of kernels, by device and dtype. The
choice is made only here, never in an op, a layer or a model.
"""

import contextlib
import functools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.engine.devices import device_of, make_current
from tinylm.engine.stored_weights import StoredWeights
from tinylm.errors import ConfigError

_NAMES = {np.dtype(name): name for name in ("float16", "float32", "float64")}  # dtype.name itself takes a microsecond

launches: Counter[tuple[str, str]] = Counter()  # (op, "cpu" or "cuda") -> how often its kernel ran
registry: dict[str, Any] = {}  # the Op records of tinylm itself, by name
updates: dict[str, "Update"] = {}


_ON_CPU = (np.ndarray, StoredWeights)


class _Profiling(threading.local):
    active: Any = None  # the Profile that `tinylm.profile` has open


profiling = _Profiling()


_kernels_allowed = os.environ.get("TINYLM_KERNELS", "auto")
if _kernels_allowed not in ("auto", "reference"):
    raise ConfigError(f"TINYLM_KERNELS is {_kernels_allowed!r}: expected 'auto' or 'reference'")


class _Chosen(threading.local):
    which: str | None = None  # by `using`, instead of what TINYLM_KERNELS says


_chosen = _Chosen()


@contextlib.contextmanager
def using(which: str) -> Iterator[None]:
    """Within it, 'reference' switches all kernels off for this thread, and 'auto' switches them on."""
    before, _chosen.which = _chosen.which, which
    try:
        yield
    finally:
        _chosen.which = before


def kernels_on() -> bool:
    """Returns whether kernels may run in this thread."""
    return (_chosen.which or _kernels_allowed) != "reference"


class Kernels:
    """The faster implementations of one op, by (device kind, dtype name)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kernels: dict[tuple[str, str], Callable[..., Any]] = {}
        self.devices: set[str] = set()  # that have kernels
        self.floats_only = False  # its kernels take no integers or booleans
        self.reads_stored = False  # its CPU kernel takes weights as their file has them

    def choose(self, arrays: Sequence[Any]) -> tuple[Callable[..., Any], str] | None:
        """Returns (kernel, device) for these arrays; None without one, or if the floating arrays differ in device or dtype, or if
        there are others and the kernels take floats only."""
        if not self.kernels or (_chosen.which or _kernels_allowed) == "reference":
            return None
        first: Any = None
        dtype: Any = None
        for a in arrays:
            this = getattr(a, "dtype", None)
            if this is None:
                continue
            if this.kind != "f":
                if self.floats_only:
                    return None
                continue
            if first is None:
                first, dtype = a, this
            elif (this is not dtype and this != dtype) or (type(a) is not type(first) and StoredWeights not in (type(a), type(first))):
                return None
        if first is None:
            return None
        device = "cpu" if type(first) in _ON_CPU else device_of(first).partition(":")[0]
        found = self.kernels.get((device, _NAMES.get(dtype) or dtype.name))
        return None if found is None else (found, device)


class Update(Kernels):
    """An in-place update on raw arrays: called like its reference, computed by a kernel if one fits."""

    def __init__(self, body: Callable[..., None]) -> None:
        super().__init__(body.__name__)
        self.body = body
        functools.update_wrapper(self, body)

    def __call__(self, *arrays: Any, **settings: Any) -> None:
        make_current(arrays[0])  # what the update allocates belongs on the same GPU
        if profiling.active is None:
            self.compute(arrays, settings)
        else:
            profiling.active.update(self, arrays, settings)

    def compute(self, arrays: Sequence[Any], settings: dict[str, Any]) -> None:
        """Runs the kernel that fits, or the body."""
        chosen = self.choose(arrays)
        if chosen is not None and chosen[0](*arrays, **settings) is not NotImplemented:
            launches[self.name, chosen[1]] += 1
            return
        self.body(*arrays, **settings)


def update(body: Callable[..., None]) -> Update:
    """Makes an in-place update without gradient (an optimiser's step) from a body on raw arrays,
    so that kernels can be registered for it as for an op."""
    made = Update(body)
    if str(body.__module__).startswith("tinylm."):
        updates[made.name] = made
    return made


def kernel(
    target: str | Any, *, device: str, dtypes: Sequence[str] = ("float32",), floats_only: bool = False, reads_stored: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a faster implementation of an op or update (given by its name, or the op itself).

    It takes the same arguments and keeps the same contract as the body, and may return
    NotImplemented for shapes or layouts it does not serve: then the body runs. Its floating arrays are all of one
    dtype; others may be integers or booleans, unless floats_only says that the body serves such calls.
    reads_stored: it takes `StoredWeights` for a matrix; otherwise they are decoded before it is called.
    TINYLM_KERNELS=reference disables all kernels.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"kernel device {device!r}: expected 'cpu' or 'cuda'")
    holder: Any = (registry.get(target) or updates.get(target)) if isinstance(target, str) else getattr(target, "op", target)
    if holder is None:
        raise ConfigError(f"kernel for an unknown op {target!r}")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for dtype in dtypes:
            if (device, dtype) in holder.kernels:
                raise ConfigError(f"{holder.name} has a kernel for {device} {dtype} already")
            holder.kernels[device, dtype] = function
            holder.devices.add(device)
        holder.floats_only = holder.floats_only or floats_only
        holder.reads_stored = holder.reads_stored or reads_stored
        return function

    return register
