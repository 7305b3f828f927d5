"""Compares values and gradients with PyTorch, for every op and for whole models."""

import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import console
import numpy as np
from rich.console import Console
from rich.table import Table

from tinylm import backend
from tinylm.errors import ConfigError
from tinylm.verify import Report, compare, compare_op, samples_of
from tinylm.verify.models import model_names, twins_of
from tinylm.verify.op_checks import op_names


@dataclass(frozen=True)
class Arguments:
    """Compares tinylm with PyTorch in float64: the values and every gradient of each op on all its
    samples, second order included, and of whole models on one batch. Prints a row for each, then
    what is out of tolerance (1e-10; second order 1e-9), the first divergence first. Exit status 1
    when something is."""

    op: str | None = None
    """the one op to compare; all ops and all models by default"""
    model: str | None = None
    """the one model to compare"""
    device: str = "cpu"
    """where tinylm computes: cpu, cuda or cuda:N"""
    dry_run: bool = False
    """only the first sample of each op, and one model"""


def comparisons(arguments: Arguments) -> Iterator[tuple[str, list[Report]]]:
    """(name, its reports) for everything that is asked for, one after the other."""
    if arguments.op is not None or arguments.model is None:
        for name in op_names(arguments.op):
            samples = samples_of(name)[: 1 if arguments.dry_run else None]
            yield name, [compare_op(name, s, order=order, device=arguments.device) for s in samples for order in (1, 2)]
    if arguments.model is not None or arguments.op is None:
        for name in model_names(arguments.model)[: 1 if arguments.dry_run else None]:
            ours, theirs, batch = twins_of(name)
            yield name, [compare(ours.to(arguments.device), theirs, batch)]


def largest(reports: list[Report], gradients: bool) -> str:
    errors = [row.error for report in reports for row in report.rows if ("gradient" in row.name) is gradients]
    return f"{np.max(errors):.1e}" if errors else ""


def main() -> int:
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError("PyTorch is not installed: pip install 'tinylm[test]'") from error
    backend.device_namespace(arguments.device)
    out = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("", "op or model", "comparisons", "values", "gradients", title="largest relative error against PyTorch", box=None)
    failures, started = [], time.perf_counter()
    for name, reports in comparisons(arguments):
        failed = [report for report in reports if not report.ok]
        verdict = "[red]FAILED" if failed else "[green]ok"
        table.add_row(verdict, name, str(len(reports)), largest(reports, gradients=False), largest(reports, gradients=True))
        failures += failed
    out.print(table)
    for report in failures:
        out.print(f"\n{report}", style="red", markup=False, highlight=False, soft_wrap=True)
    print(f"{table.row_count} rows, {len(failures)} comparisons failed, {time.perf_counter() - started:.1f} s on {arguments.device}")
    return 1 if failures else 0


if __name__ == "__main__":
    console.run(main)
