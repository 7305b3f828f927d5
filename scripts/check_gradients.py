"""Checks the gradient of every op against finite differences."""

import sys
import time
from dataclasses import dataclass

import console
import numpy as np
from rich.console import Console
from rich.table import Table

from tinylm import backend
from tinylm.verify.op_checks import check_op, op_names


@dataclass(frozen=True)
class Arguments:
    """Checks the gradient of every op against central differences in float64, first and second
    order, on all its samples; prints a row an op. Exit status 1 when one is out of tolerance
    (1e-6, second order 1e-5)."""

    op: str | None = None
    """the one op to check; all by default"""
    device: str = "cpu"
    """cpu, cuda or cuda:N"""
    dry_run: bool = False
    """only the first sample of each op, first order"""


def main() -> int:
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    backend.device_namespace(arguments.device)
    out = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("", "op", "samples", "1st order", "2nd order", title="largest relative error against finite differences", box=None)
    failures, started = [], time.perf_counter()
    for name in op_names(arguments.op):
        orders = (1,) if arguments.dry_run else (1, 2)
        reports = {order: check_op(name, order=order, device=arguments.device, limit=1 if arguments.dry_run else None) for order in orders}
        failed = [report for several in reports.values() for report in several if not report.ok]
        errors = [f"{np.max([r.error for r in reports[order]]):.1e}" if reports.get(order) else "" for order in (1, 2)]
        verdict = "[red]FAILED" if failed else "[green]ok" if reports[1] else "no derivative"
        table.add_row(verdict, name, str(len(reports[1]) or ""), *errors)
        failures += failed
    out.print(table)
    for report in failures:
        out.print(f"\n{report}", style="red", markup=False, highlight=False, soft_wrap=True)
    print(f"{table.row_count} ops, {len(failures)} checks failed, {time.perf_counter() - started:.1f} s on {arguments.device}")
    return 1 if failures else 0


if __name__ == "__main__":
    console.run(main)
