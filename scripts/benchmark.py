"""Measures tinylm: the engine's cost per op, and training steps and generation, alone or against PyTorch.

Every measurement of a workload runs in a fresh process; against PyTorch the sides alternate, and
the ratio is the median over the rounds. On a GPU the steps are timed there, by events between them, and
nothing waits for the host. Run it on a quiet machine.
"""

import dataclasses
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import console
from benchmark_engine import engine_costs, import_seconds, read_bandwidth
from benchmark_profile import as_record, profiled
from benchmark_rounds import SIDES, Found, check_device, machine, median_seconds, rounds
from benchmark_workloads import CARD_WORKLOADS, WORKLOADS, Workload
from rich.console import Console
from rich.table import Table

from tinylm.errors import ConfigError
from tinylm.files.json_files import write_json


@dataclass(frozen=True)
class Arguments:
    """Measures the engine's cost per op, and training steps and generation, each in fresh processes."""

    against: Literal["torch"] | None = None
    """measure PyTorch too, as it is and through torch.compile, in turn with tinylm; print the ratio to the faster of the two"""
    workload: (
        Literal[
            "gpt-small", "gpt-medium", "transformer-lm", "rnn-lm", "lstm-lm", "gru-lm", "decode", "decode-smollm2", "gpt-medium-batch-64",
            "gpt-large",
        ]
        | None
    ) = None  # fmt: skip
    """only this one; without it the first eight, and on a GPU all"""
    pairs: int = 5
    """how many fresh processes a side"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    profile: bool = False
    """instead of all else, where tinylm's time goes: time and bytes by op and by implementation, forward and backward apart"""
    out: Path = Path("runs/benchmark")
    """the folder for benchmark.json, which holds every single measurement, or profile.json"""
    dry_run: bool = False
    """two steps of the small workload, once, nothing compiled and nothing written"""


def summary(work: Workload, found: Found) -> dict[str, Any]:
    """The record of a workload for the table and the file: medians, and the ratio to the faster PyTorch."""
    sides: dict[str, Any] = {}
    for side, results in found.items():
        if isinstance(results, str):
            sides[side] = {"failed": results}
            continue
        sides[side] = {
            "seconds": median_seconds(results),
            "tokens_per_second": work.tokens / median_seconds(results),
            "peak_megabytes": max(m.megabytes for m in results),
            "import_seconds": statistics.median(m.import_seconds for m in results),
            "measured_seconds": [m.seconds for m in results],
        }
    record: dict[str, Any] = {"workload": dataclasses.asdict(work), "sides": sides}
    measured = {side: results for side, results in found.items() if not isinstance(results, str)}
    theirs = {side: results for side, results in measured.items() if side != "tinylm"}
    if theirs:
        record["counted"] = counted = min(theirs, key=lambda side: median_seconds(theirs[side]))
        ratios = [a.seconds / b.seconds for a, b in zip(measured["tinylm"], theirs[counted], strict=True)]
        record |= {"ratio": statistics.median(ratios), "ratios": ratios}
    return record


def add_rows(table: Table, name: str, record: dict[str, Any]) -> None:
    for side, figures in record["sides"].items():
        title = {"torch": "PyTorch", "compiled": "PyTorch, compiled"}.get(side, side)
        if "failed" in figures:
            table.add_row(name, title, "-", "-", "-", "-", f"failed: {figures['failed']}")
            continue
        ratio = "counted" if side == record.get("counted") else ""
        if side == "tinylm" and "ratio" in record:
            ratio = f"{record['ratio']:.2f} ({min(record['ratios']):.2f} to {max(record['ratios']):.2f})"
        table.add_row(
            name, title, f"{figures['seconds'] * 1e3:.1f}", f"{figures['tokens_per_second']:,.0f}",
            f"{figures['peak_megabytes']:.0f}", f"{figures['import_seconds']:.2f}", ratio,
        )  # fmt: skip


def compare(arguments: Arguments) -> dict[str, Any]:
    """Prints what the engine and the workloads cost; the record of it."""
    screen = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    record: dict[str, Any] = {"pairs": arguments.pairs}
    if arguments.device == "cpu":
        costs = Table("engine", "µs", box=None)
        record["engine_microseconds"] = engine_costs(arguments.dry_run)
        for name, value in record["engine_microseconds"].items():
            costs.add_row(name, f"{value:.2f}")
        screen.print(costs)
        record["import_seconds"] = import_seconds()
        screen.print(f"import tinylm, above numpy: {record['import_seconds']:.3f} s")
        record["read_gigabytes_per_second"] = read_bandwidth(arguments.dry_run)
        screen.print(f"reading memory with all threads: {record['read_gigabytes_per_second']:.1f} GB/s\n")
    sides = list(SIDES) if arguments.against else ["tinylm"]
    if arguments.dry_run and arguments.against:
        sides.remove("compiled")  # it would take half a minute
    count = 1 if arguments.dry_run else arguments.pairs
    table = Table("workload", "side", "ms a step", "tokens/s", "peak MB", "import s", "ratio of step times", box=None)
    record["workloads"] = {}
    for name, work in chosen(arguments).items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        record["workloads"][name] = summary(work, rounds(name, work, sides, arguments.device, count))
        add_rows(table, name, record["workloads"][name])
    screen.print(table)
    return record


def profiles(arguments: Arguments) -> dict[str, Any]:
    """Prints a profile of every workload; the record of them."""
    record = {}
    for name, work in chosen(arguments).items():
        profile, steps = profiled(work, arguments.device)
        print(f"{name}, {steps} {'step' if steps == 1 else 'steps'}, {1e3 * profile.seconds / steps:.1f} ms each\n{profile.table()}\n")
        record[name] = as_record(profile, steps)
    return {"workloads": record}


def chosen(arguments: Arguments) -> dict[str, Workload]:
    """The workloads to measure, by name."""
    every = WORKLOADS | CARD_WORKLOADS
    if arguments.workload:
        works = {arguments.workload: every[arguments.workload]}
    elif arguments.dry_run:
        works = {"gpt-small": WORKLOADS["gpt-small"]}
    else:
        works = WORKLOADS if arguments.device == "cpu" else every
    return {name: dataclasses.replace(work, steps=2) for name, work in works.items()} if arguments.dry_run else works


def main() -> None:
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    if arguments.pairs < 1:
        raise ConfigError(f"pairs is {arguments.pairs}: expected at least 1")
    if arguments.profile and arguments.against:
        raise ConfigError("--profile looks into tinylm alone: leave out --against")
    check_device(arguments.device, arguments.against)
    record = profiles(arguments) if arguments.profile else compare(arguments)
    if not arguments.dry_run:
        path = arguments.out / ("profile.json" if arguments.profile else "benchmark.json")
        write_json(path, {"machine": machine(), "device": arguments.device, **record})
        print(f"written: {path}")


if __name__ == "__main__":
    console.run(main)
