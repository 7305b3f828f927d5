"""Checks an op on all its samples, as the scripts and the tests do."""

import dataclasses
import itertools
import traceback
from collections.abc import Sequence
from typing import Any

from tinylm import ops
from tinylm.engine.kernels import launches, registry, using
from tinylm.errors import AutogradError, ConfigError
from tinylm.verify.arguments import is_floating, on_device
from tinylm.verify.finite_differences import gradcheck
from tinylm.verify.reports import Report, Row
from tinylm.verify.samples import Sample, samples_of


def op_names(name: str | None = None) -> list[str]:
    """Returns the names of all ops, or the one that is given. Raises ConfigError if no op has it."""
    if name is None:
        return sorted(registry)
    if name not in registry:
        raise ConfigError(f"unknown op {name!r}: expected one of {', '.join(sorted(registry))}")
    return [name]


def flat_arguments(args: Sequence[Any]) -> list[Any]:
    """Returns the arguments, with the members of a list of arrays in its place."""
    return [m for a in args for m in (a if isinstance(a, list) else [a])]


def differentiable(name: str, sample: Sample) -> bool:
    """True when the op gives a gradient for this sample: it has a floating argument, and a vjp."""
    if not any(map(is_floating, flat_arguments(sample.args))):
        return False
    record = registry[name]
    absent = [None] * (record.count - len(sample.args))
    return record.body(*sample.args, *absent, **sample.settings)[1] is not None


def check_op(
    name: str,
    *,
    order: int = 1,
    device: str = "cpu",
    limit: int | None = None,
    implementation: str = "auto",
    seed: int = 0,
    thorough: bool = False,
) -> list[Report]:
    """Runs gradcheck on the op's samples (the first `limit` of them) that have a derivative.

    implementation: "reference" switches the kernels off; "kernel" compares the float32 kernels, on the
    samples that they serve, with differences of the references in float64. seed (of the samples too) and
    thorough are as gradcheck takes them.
    """
    samples = [s for s in samples_of(name, seed) if s.derivative and differentiable(name, s)]
    reports = (checked(getattr(ops, name), s, order, device, implementation, seed=seed, thorough=thorough) for s in samples)
    return list(itertools.islice((report for report in reports if report is not None), limit))


def checked(
    fn: Any, sample: Sample, order: int, device: str, implementation: str, *, seed: int = 0, thorough: bool = False
) -> Report | None:
    """Runs gradcheck on a function and one sample. An error that it raises is a failure of its own; None means that no
    kernel ran although "kernel" is asked for."""
    name = getattr(fn, "__name__", type(fn).__name__)
    taped_in = "float32" if implementation == "kernel" else "float64"
    before = sum(launches.values())
    with using("reference" if implementation == "reference" else "auto"):
        try:
            args = on_device(sample.args, device)
            report = gradcheck(fn, *args, order=order, seed=seed, thorough=thorough, taped_in=taped_in, **sample.settings)
        except ConfigError:
            raise
        except (ArithmeticError, AttributeError, AutogradError, LookupError, TypeError, ValueError) as error:
            if order == 2 and "calls NumPy's own functions" in str(error):
                remark = "second order not checked: an op's body computes with NumPy itself, and not with array_module(x)"
                return Report(f"{name} (order {order}, {sample.note})", 0.0, (), (remark,))
            raised = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
            place = f"{raised.filename}:{raised.lineno}"
            row = Row(type(error).__name__, float("inf"), f"{error} ({place})", "forward or vjp raises")
            report = Report(f"{name} (order {order})", 0.0, (row,))
    if implementation == "kernel" and sum(launches.values()) == before:
        return None
    return dataclasses.replace(report, title=f"{report.title.removesuffix(')')}, {sample.note})")
