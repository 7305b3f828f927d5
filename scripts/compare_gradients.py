"""Compares values and gradients with PyTorch's, for every op and whole models, or with those in a file."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from support import console, figures
from support.report_files import write_reports
from support.tables import screen

from tinylm import nn, verify
from tinylm.engine.devices import device_namespace
from tinylm.errors import ConfigError
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.verify.compared_arrays import tied_names
from tinylm.verify.models import model_names, model_of
from tinylm.verify.module_checks import model_gradients
from tinylm.verify.op_checks import op_names
from tinylm.verify.reports import Drift, Report
from tinylm.verify.users_functions import load

Twins = tuple[nn.Module, Any, Any]


@dataclass(frozen=True)
class Arguments:
    """Compares tinylm with PyTorch: the values and every gradient of each op on all its samples, second order
    included, and of whole models on one batch, layer by layer. Prints one row per op and model, or for a single
    model one row per layer and parameter; then what is out of tolerance (float64 1e-10, second order 1e-9, float32
    1e-5), beginning with the first divergence. The exit status is 1 if anything is."""

    op: str | None = None
    """compare this op only; by default all ops and all models"""
    model: str | None = None
    """compare this layer or model only; or a Hugging Face folder, a GGUF file or smollm2, with Hugging Face's own model"""
    module: str | None = None
    """instead, compare what path.py:name returns: your own function without arguments, for (tinylm model, PyTorch model, batch)"""
    dtype: Literal["both", "float64", "float32"] = "both"
    """the precision"""
    device: str = "cpu"
    """where tinylm computes: cpu, cuda or cuda:N"""
    steps: int = 0
    """with --model or --module: train both for this many steps and draw how far they drift apart"""
    out: Path = Path("runs/compare_gradients")
    """the folder for what --steps writes: drift.json and drift.png"""
    save: Path | None = None
    """with --model: instead write tinylm's gradients to this safetensors file"""
    against: Path | None = None
    """compare with the gradients in this safetensors file, by name; needs --model or --file"""
    file: Path | None = None
    """the safetensors file with tinylm's gradients, for --against"""
    json_out: Path | None = None
    """write all reports to this file as JSON"""
    html_out: Path | None = None
    """write all reports to this file as one HTML page"""
    dry_run: bool = False
    """compare the first sample of each op only, and one model"""

    @property
    def dtypes(self) -> tuple[str, ...]:
        return ("float64", "float32") if self.dtype == "both" else (self.dtype,)


def comparisons(a: Arguments) -> Iterator[tuple[str, list[Report]]]:
    """Yields (name, its reports) for everything that was asked for."""
    if a.module is not None or a.model is not None:
        ours, theirs, batch = twins(a)
        # The rounding of thirty layers in float32 adds up, in PyTorch as here: SmolLM2's rows differ by up to 4e-5.
        loose = 1e-4 if a.model is not None and find_pretrained(Path(a.model)) is not None else None
        yield (
            a.model or str(a.module),
            [verify.compare(ours, theirs, batch, dtype=dtype, tolerance=loose if dtype == "float32" else None) for dtype in a.dtypes],
        )
        return
    limit = 1 if a.dry_run else None
    for name in op_names(a.op):
        how = [(order, dtype) for dtype in a.dtypes for order in (1, 2) if order == 1 or dtype == "float64"]
        samples = verify.samples_of(name)[:limit]
        yield name, [verify.compare_op(name, s, order=n, device=a.device, dtype=dtype) for s in samples for n, dtype in how]
    for name in model_names()[:limit] if a.op is None else []:
        ours, theirs, batch = verify.twins_of(name)
        yield name, [verify.compare(ours.to(a.device), theirs, batch, dtype=dtype) for dtype in a.dtypes]


def twins(a: Arguments) -> Twins:
    """Returns the pair of --model or --module. Raises ConfigError if the user's function returns something else."""
    if a.model is not None and (place := find_pretrained(Path(a.model))) is not None:
        ours, theirs, batch = verify.twins_of_pretrained(place)
    elif a.module is None:
        ours, theirs, batch = verify.twins_of(model_names(a.model)[0])
    else:
        _, function, _ = load(a.module)
        found = function()
        if not isinstance(found, tuple) or len(found) != 3 or not isinstance(found[0], nn.Module):
            raise ConfigError(f"{a.module} must return (tinylm model, PyTorch model, batch)")
        ours, theirs, batch = found
    return ours.to(a.device), theirs, batch


def largest(reports: list[Report], gradients: bool) -> str:
    errors = [row.error for report in reports for row in report.rows if ("gradient" in row.name) is gradients]
    return f"{np.max(errors):.1e}" if errors else ""


def overview(done: list[tuple[str, list[Report]]]) -> Table:
    """Returns a table with one row per op or model."""
    table = Table("", "op or model", "comparisons", "values", "gradients", title="largest relative error against PyTorch", box=None)
    for name, reports in done:
        table.add_row(verdict(reports), name, str(len(reports)), largest(reports, gradients=False), largest(reports, gradients=True))
    return table


def verdict(reports: list[Report]) -> str:
    return "[green]ok" if all(r.ok for r in reports) else "[red]FAILED"


def row_by_row(report: Report) -> Table:
    """Returns a table with one row per layer, parameter and argument, in the order of the data flow."""
    table = Table("", "", "relative", "largest |a - b|", "cosine", "ULPs", title=report.title, box=None)
    for row in report.rows:
        m = row.measures
        cells = [f"{m['max_abs']:.1e}", f"{m['cosine']:.12f}", f"{m['ulps']:.0f}"] if m else [""] * 3
        table.add_row("[green]ok" if row.error <= report.tolerance else "[red]FAILED", row.name, f"{row.error:.1e}", *cells)
    return table


def drifts(a: Arguments) -> list[Report]:
    """Trains both models in each precision and writes the series and their plot."""
    ours, theirs, batch = twins(a)
    found = {dtype: verify.drift(ours, theirs, batch, a.steps, dtype=dtype) for dtype in a.dtypes}
    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, distances = figure.subplots(1, 2)
    for dtype, d in found.items():
        draw(losses, distances, dtype, d)
    losses.set(xlabel="step", ylabel="loss", title="both losses")
    distances.set(xlabel="step", ylabel="relative distance of the parameters", yscale="log", title="drift")
    for axes in (losses, distances):
        axes.grid(alpha=0.3)
        axes.legend()
    figures.write(a.out, "drift", {dtype: d.record() for dtype, d in found.items()}, figure)
    return [d.report() for d in found.values()]


def draw(losses: Any, distances: Any, dtype: str, d: Drift) -> None:
    steps = range(1, len(d.losses) + 1)
    losses.plot(steps, d.torch_losses, "-", label=f"PyTorch, {dtype}")
    losses.plot(steps, d.losses, "--", label=f"tinylm, {dtype}")
    (line,) = distances.plot(steps, d.distances, "-", label=f"tinylm from PyTorch, {dtype}")
    distances.plot(steps, d.control, ":", color=line.get_color(), label=f"PyTorch by rounding alone, {dtype}")


def from_files(a: Arguments) -> list[Report] | None:
    """Does what --save and --against ask for, and returns the reports; None if neither is given."""
    if a.save is None and a.against is None:
        return None
    if (a.model is None) is (a.file is None):
        raise ConfigError("--save and --against need --model (or --against --file)")
    ours: Any = a.file
    tied: set[frozenset[str]] = set()
    if a.model is not None:
        model, batch = model_of(model_names(a.model)[0])
        tied = tied_names(model.named_state())
        ours = model_gradients(model.to(a.device), batch, dtype=a.dtypes[0])
    if a.save is not None:
        verify.save_gradients(ours, a.save)
        print(f"written: {a.save}")
    return [] if a.against is None else [verify.compare_gradients(ours, a.against, tied=tied)]


def main() -> int:
    a = console.parse(Arguments)
    if sum(x is not None for x in (a.op, a.model, a.module)) > 1:
        raise ConfigError("--op, --model and --module exclude each other")
    if a.steps < 0 or (a.steps and a.model is None and a.module is None):
        raise ConfigError(f"--steps {a.steps}: expected a positive number, with --model or --module")
    device_namespace(a.device)
    started = time.perf_counter()
    out = screen()
    reports = from_files(a)
    done = [(str(a.against), reports)] if reports else []
    if reports is None:
        torch = console.require_torch()
        torch.set_num_threads(1)  # the arrays are small, and on a busy machine threads wait for each other
        done = [(a.model or str(a.module), drifts(a))] if a.steps else list(comparisons(a))
        reports = [report for _, several in done for report in several]
        if a.model is None and a.module is None:
            out.print(overview(done))
            print(f"{len(done)} rows, ", end="")
    if reports and (a.model is not None or a.module is not None or a.against is not None):
        for report in reports:
            out.print(row_by_row(report))
    failures = [report for report in reports if not report.ok]
    print(f"{len(reports)} comparisons, {len(failures)} comparisons failed, {time.perf_counter() - started:.1f} s on {a.device}")
    for report in failures:
        out.print(f"\n{report}", style="red", markup=False, highlight=False, soft_wrap=True)
    how = {"device": a.device, "dtype": a.dtype}
    title = f"Values and gradients against {a.against or 'PyTorch'} ({a.device}, {' and '.join(a.dtypes)})"
    write_reports(done, how, title, a.json_out, a.html_out)
    return 1 if failures else 0


if __name__ == "__main__":
    console.run(main)
