"""What is made of the measurements of a workload: medians, ratios and tables."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable
from typing import Any

from rich.table import Table

from benchmark.process import Measurement
from benchmark.rounds import Found, median_seconds
from benchmark.sides import PRECISIONS, SIDES, Way
from benchmark.workloads import Workload


def summary(work: Workload, found: Found, skipped: dict[str, str]) -> dict[str, Any]:
    """Returns the record of a workload for the tables and the file: medians, and the ratios to the fastest of the others.

    skipped: why sides were not measured.
    """
    sides: dict[str, Any] = {side: {"skipped": why} for side, why in skipped.items()}
    for side, results in found.items():
        if isinstance(results, str):
            sides[side] = {"failed": results}
            continue
        sides[side] = {
            "seconds": median_seconds(results),
            "tokens_per_second": work.tokens / median_seconds(results),
            "peak_megabytes": max(m.megabytes for m in results),
            "import_seconds": statistics.median(m.import_seconds for m in results),
            "load_seconds": statistics.median(m.load_seconds for m in results),
            "measured_seconds": [m.seconds for m in results],
        }
    sides = {side: sides[side] for side in SIDES if side in sides}
    measured = {side: results for side, results in found.items() if not isinstance(results, str)}
    return {"workload": dataclasses.asdict(work), "sides": sides, "comparisons": comparisons(measured)}


def comparisons(measured: dict[str, list[Measurement]]) -> dict[str, Any]:
    """Returns what tinylm is compared with: at each precision, and from stored weights, the fastest of the others; and as "best" the
    fastest with the fastest, whatever their precisions. Empty if tinylm is alone."""

    def compared(*numbers: str) -> dict[str, Any] | None:
        ours = fastest(measured, lambda way: way.library == "tinylm" and way.numbers in numbers)
        theirs = fastest(measured, lambda way: way.library != "tinylm" and way.numbers in numbers)
        if ours is None or theirs is None:
            return None
        ratios = [a.seconds / b.seconds for a, b in zip(measured[ours], measured[theirs], strict=True)]
        record = {"tinylm": ours, "other": theirs, "ratio": statistics.median(ratios), "ratios": ratios}
        if numbers == ("stored",):
            pairs = zip(measured[ours][0].text or (), measured[theirs][0].text or (), strict=False)
            record["same_tokens"] = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return record

    found = {numbers: compared(numbers) for numbers in (*PRECISIONS, "stored")}
    found["best"] = compared(*PRECISIONS) if all(found[precision] for precision in PRECISIONS) else None
    return {name: record for name, record in found.items() if record}


def fastest(measured: dict[str, list[Measurement]], among: Callable[[Way], bool]) -> str | None:
    """Returns the fastest side of those that were measured in every round; None if there is none."""
    most = max(map(len, measured.values()), default=0)
    every = [side for side, results in measured.items() if among(SIDES[side]) and len(results) == most]
    return min(every, key=lambda side: median_seconds(measured[side]), default=None)


# ---------------------------------------------------------------- tables


def ratio_of(comparison: dict[str, Any]) -> str:
    return f"{comparison['ratio']:.2f} ({min(comparison['ratios']):.2f}–{max(comparison['ratios']):.2f})"


def without_times(figures: dict[str, Any]) -> str | None:
    """Returns why a side has no times; None if it has."""
    return next((f"{word}: {figures[word]}" for word in ("failed", "skipped") if word in figures), None)


def side_table(records: dict[str, Any], pairs: int) -> Table:
    """Returns what every side took, those with stored weights excepted."""
    table = Table("workload", "side", "ms per step", "tokens/s", "peak MB", "import s", "", box=None)
    for name, record in records.items():
        counted = {comparison["other"] for comparison in record["comparisons"].values()}
        for side, figures in record["sides"].items():
            if SIDES[side].numbers == "stored":
                continue
            if why := without_times(figures):
                table.add_row(name, SIDES[side].title, "-", "-", "-", "-", why)
                continue
            rounds = len(figures["measured_seconds"])
            note = "counted" if side in counted else "" if rounds == pairs else "slower: measured once"
            table.add_row(
                name, SIDES[side].title, f"{figures['seconds'] * 1e3:.1f}", f"{figures['tokens_per_second']:,.0f}",
                f"{figures['peak_megabytes']:.0f}", f"{figures['import_seconds']:.2f}", note,
            )  # fmt: skip
    return table


def comparison_table(records: dict[str, Any]) -> Table | None:
    """Returns for each workload the step times of tinylm and of the fastest PyTorch at each precision, and their ratios; None if tinylm
    was measured alone."""
    shown = [key for key in (*PRECISIONS, "best") if any(key in record["comparisons"] for record in records.values())]
    if not shown:
        return None
    precisions = [key for key in shown if key != "best"]
    titles = [*(f"{who},\n{p}" for who in ("tinylm", "PyTorch") for p in precisions), *(f"ratio,\n{key}" for key in shown)]
    table = Table("ms per step", *titles, box=None)
    for name, record in records.items():
        of = record["comparisons"]
        times = [
            f"{record['sides'][of[p][who]]['seconds'] * 1e3:.1f}" if p in of else "-" for who in ("tinylm", "other") for p in precisions
        ]
        table.add_row(name, *times, *(ratio_of(of[key]) if key in of else "-" for key in shown))
    return table


def stored_table(records: dict[str, Any]) -> Table | None:
    """Returns what generating from stored weights takes; None if no workload has any."""
    table = Table("stored weights", "side", "tokens/s", "load s", "peak MB", "ratio of step times", box=None)
    for name, record in records.items():
        comparison = record["comparisons"].get("stored")
        for side, figures in record["sides"].items():
            if SIDES[side].numbers != "stored":
                continue
            if why := without_times(figures):
                table.add_row(name, SIDES[side].title, "-", "-", "-", why)
                continue
            note = ""
            if comparison and side == comparison["tinylm"]:
                work = record["workload"]
                count = work["block_size"] - work["prompt"]
                note = f"{ratio_of(comparison)}; the first {comparison['same_tokens']} of {count} tokens are the same"
            table.add_row(
                name, SIDES[side].title, f"{figures['tokens_per_second']:.1f}", f"{figures['load_seconds']:.2f}",
                f"{figures['peak_megabytes']:.0f}", note,
            )  # fmt: skip
    return table if table.row_count else None
