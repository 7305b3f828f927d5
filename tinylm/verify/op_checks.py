"""The checks of one op over all its samples, as the scripts and the tests run them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm import backend, ops
from tinylm.errors import ConfigError
from tinylm.kernel_registry import registry
from tinylm.verify.finite_differences import gradcheck
from tinylm.verify.reports import Report
from tinylm.verify.samples import Sample, samples_of


def op_names(name: str | None = None) -> list[str]:
    """Every op, or the one of that name. Errors: ConfigError for a name that is none."""
    if name is None:
        return sorted(registry)
    if name not in registry:
        raise ConfigError(f"unknown op {name!r}: expected one of {', '.join(sorted(registry))}")
    return [name]


def members(args: Sequence[Any]) -> list[Any]:
    """The arguments, with the members of a sequence of arrays in its place."""
    return [m for a in args for m in (a if isinstance(a, list) else [a])]


def is_floating(x: Any) -> bool:
    """True for a floating NumPy array."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def differentiable(name: str, sample: Sample) -> bool:
    """True when the op gives a gradient for this sample: it has a floating argument, and a vjp."""
    if not any(map(is_floating, members(sample.args))):
        return False
    record = registry[name]
    absent = [None] * (record.count - len(sample.args))
    return record.body(*sample.args, *absent, **sample.settings)[1] is not None


def on_device(x: Any, device: str, dtype: Any = None) -> Any:
    """Arrays, also those inside lists and tuples, on the device, floating ones in the dtype."""
    if isinstance(x, (list, tuple)):
        return type(x)(on_device(m, device, dtype) for m in x)
    if not isinstance(x, np.ndarray):
        return x
    return backend.to_device(x.astype(dtype) if dtype is not None and x.dtype.kind == "f" else x, device)


def check_op(name: str, *, order: int = 1, device: str = "cpu", limit: int | None = None) -> list[Report]:
    """gradcheck on the op's samples (the first `limit` of them) that have a derivative."""
    samples = [s for s in samples_of(name) if s.derivative and differentiable(name, s)]
    return [gradcheck(getattr(ops, name), *on_device(s.args, device), order=order, **s.settings) for s in samples[:limit]]
