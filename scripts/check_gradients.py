"""Checks gradients against finite differences: of every op, of a model, or of your own function."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from support import console
from support.report_files import write_reports
from support.tables import screen

from tinylm import nn
from tinylm.engine.devices import device_namespace
from tinylm.engine.kernels import using
from tinylm.errors import ConfigError
from tinylm.verify import Report
from tinylm.verify.models import model_names, model_of
from tinylm.verify.module_checks import check_module
from tinylm.verify.op_checks import check_op, checked, op_names
from tinylm.verify.reports import worst_verdict
from tinylm.verify.users_functions import load, samples_in


@dataclass(frozen=True)
class Arguments:
    """Checks gradients against central differences in float64, first and second order, for every op on all its
    samples. Prints one row per op, and for each failure where it differs and the likely cause. Elements at which a
    function has no derivative, or hides it in its own rounding, are left out and named; an argument of which fewer than
    half could be compared is undecided. The exit status is 1 if a gradient is undecided, or out of tolerance (1e-6;
    second order and float32 kernels 1e-5). Products are those of float32 and float64: rounded to bfloat16, as by
    --precision of other commands, they have no derivative that differences could show."""

    op: str | None = None
    """check this op only; by default all"""
    model: str | None = None
    """instead, check a layer or model of tinylm, such as gpt: every parameter and argument; 'all' for all of them"""
    module: str | None = None
    """instead, check path.py:name, your own @tinylm.op, function of tensors or nn.Module. The same file must define
    name_samples(rng), which yields a tuple of arguments (NumPy arrays) for each call to check"""
    device: str = "cpu"
    """cpu, cuda or cuda:N"""
    implementation: Literal["auto", "reference", "kernel"] = "auto"
    """auto: float64, as the dispatcher chooses; reference: without kernels; kernel: the float32 kernels of the
    device, compared with differences of the references in float64"""
    seed: int = 0
    """seed of the samples and of the random directions"""
    json_out: Path | None = None
    """write all reports to this file as JSON"""
    html: Path | None = None
    """write all reports to this file as one HTML page, with a plot of the error at each step size"""
    dry_run: bool = False
    """check the first sample of each op only, first order"""


def checks(a: Arguments) -> Iterator[tuple[str, list[Report]]]:
    """Yields (name, its reports) for everything that was asked for."""
    limit = 1 if a.dry_run else None
    orders = (1,) if a.dry_run or a.implementation == "kernel" else (1, 2)
    if a.module is not None:
        name, function, file = load(a.module)
        samples = samples_in(file, name, a.seed)[:limit]
        if isinstance(function, nn.Module):
            yield name, [r for s in samples for r in of_module(function, s.args, a, orders)]
        else:
            found = [checked(function, s, n, a.device, a.implementation, seed=a.seed, thorough=n == 1) for n in orders for s in samples]
            yield name, [r for r in found if r is not None]
    elif a.model is not None:
        for name in model_names(None if a.model == "all" else a.model)[:limit]:
            yield name, of_module(*model_of(name), a, orders)
    else:
        for name in op_names(a.op):
            how = partial(check_op, name, device=a.device, limit=limit, implementation=a.implementation, seed=a.seed)
            yield name, [r for n in orders for r in how(order=n, thorough=n == 1)]


def of_module(module: nn.Module, batch: Any, a: Arguments, orders: tuple[int, ...]) -> list[Report]:
    """Returns a module's reports, one per order."""
    with using("reference" if a.implementation == "reference" else "auto"):
        taped_in = "float32" if a.implementation == "kernel" else "float64"
        return [check_module(module.to(a.device), batch, order=n, seed=a.seed, thorough=n == 1, taped_in=taped_in) for n in orders]


def cells(reports: list[Report]) -> list[str]:
    """Returns a function's row of the table: verdict, samples, error per order, best step, remarks."""
    by_order = {n: [r for r in reports if f"order {n}" in r.title] for n in (1, 2)}
    if not reports:
        return ["no derivative", *[""] * 5]
    verdict = {"ok": "[green]ok", "undecided": "[yellow]undecided", "wrong": "[red]FAILED"}[worst_verdict(reports)]
    errors = [f"{np.max([r.error for r in by_order[n]]):.1e}" if by_order[n] else "" for n in (1, 2)]
    steps = [r.best_step for r in by_order[1] if r.curve]
    kinks = sum("non-differentiable" in remark for r in reports for remark in r.remarks)
    causes = sorted({row.cause for r in reports for row in r.failures if row.cause})
    note = causes[0] if causes else f"{kinks} arguments with kinks" if kinks else ""
    return [verdict, str(max(map(len, by_order.values()))), *errors, f"{np.median(steps):.0e}" if steps else "", note]


def main() -> int:
    a = console.parse(Arguments, {"--json": "--json-out FILE"})
    if sum(x is not None for x in (a.op, a.model, a.module)) > 1:
        raise ConfigError("--op, --model and --module exclude each other")
    device_namespace(a.device)
    started = time.perf_counter()
    done = list(checks(a))
    if a.implementation == "kernel":
        done = [(name, reports) for name, reports in done if reports]
    if not any(reports for _, reports in done) and (a.op is None or a.implementation == "kernel"):
        raise ConfigError(f"nothing to check: no {a.implementation} implementation on {a.device}")
    table = Table(
        "", "name", "samples", "1st order", "2nd order", "best step", "", title="largest relative error against finite differences"
    )
    table.box = None
    for name, reports in done:
        verdict, *rest = cells(reports)
        table.add_row(verdict, name, *rest)
    screen(140).print(table)
    failures = [r for _, reports in done for r in reports if not r.ok]
    undecided = sum(r.verdict == "undecided" for r in failures)
    for report in failures:
        style = "yellow" if report.verdict == "undecided" else "red"
        Console(width=140).print(f"\n{report}", style=style, markup=False, highlight=False, soft_wrap=True)
    for report in [r for _, reports in done for r in reports if r.ok and r.remarks]:
        print("\n".join([report.title, *(f"  {remark}" for remark in report.remarks)]))
    how = {"device": a.device, "implementation": a.implementation, "seed": a.seed}
    title = f"Gradients against finite differences ({a.device}, {a.implementation}, seed {a.seed})"
    write_reports(done, how, title, a.json_out, a.html)
    count = sum(len(reports) for _, reports in done)
    unsure = f", {undecided} undecided" if undecided else ""
    failed = f"{len(failures) - undecided} failed{unsure}"
    print(f"{len(done)} function{'s' * (len(done) != 1)}, {count} checks, {failed}, {time.perf_counter() - started:.1f} s on {a.device}")
    return 1 if failures else 0


if __name__ == "__main__":
    console.run(main)
