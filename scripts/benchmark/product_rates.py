"""How fast the products of the workloads are: beside PyTorch's, and beside what the processor can do at most."""

import dataclasses
import json
import statistics
from collections import Counter
from typing import Any

from rich.table import Table

from benchmark.limits import Limits
from benchmark.product_process import Timing
from benchmark.products import Product
from benchmark.rounds import fresh_process
from tinylm.errors import TinylmError


def limits(read: float, dry_run: bool) -> dict[str, float]:
    """Returns what the cores can do at most, all together; read: the GB/s from memory, which is passed on."""
    found = Limits()
    return {
        "gigaflops": found.gigaflops(dry_run),
        "cache_gigabytes_per_second": found.cache_gigabytes(dry_run),
        "memory_gigabytes_per_second": read,
    }


def product_rounds(
    products: list[Product], sides: list[str], precision: str, count: int, dry_run: bool
) -> dict[str, list[list[Timing]]]:  # fmt: skip
    """Returns the timings of each side, in that precision: one list per round, with one timing per product. Each process times all
    products, and the sides take turns. Raises TinylmError if a process fails."""
    listed = json.dumps([dataclasses.asdict(p) for p in products])
    found: dict[str, list[list[Timing]]] = {side: [] for side in sides}
    for _ in range(count):
        for side in sides:
            result, why = fresh_process("benchmark.product_process", side, precision, "dry-run" if dry_run else "whole", listed)
            if result is None:
                raise TinylmError(f"the products of the {side} side failed: {why}")
            found[side].append([Timing(**t) for t in result])
    return found


def product_record(product: Product, times: int, timings: dict[str, list[Timing]]) -> dict[str, Any]:
    """Returns the record of a product: its shape, how many times a step computes it, and for each side the median seconds and the rates.

    A product that takes as long as reading its weights has GB/s; the others have GFLOP/s, 2 m n k operations divided by the seconds.
    """
    sides: dict[str, Any] = {}
    for side, rounds in timings.items():
        seconds = statistics.median(t.seconds for t in rounds)
        sides[side] = {"seconds": seconds, "measured_seconds": [t.seconds for t in rounds]}
        if product.reads_weights:
            from_memory = [t.from_memory for t in rounds if t.from_memory is not None]
            sides[side] |= {
                "cache_gigabytes_per_second": product.weight_bytes / seconds / 1e9,
                "memory_gigabytes_per_second": product.weight_bytes / statistics.median(from_memory) / 1e9,
                "measured_seconds_from_memory": from_memory,
            }
        else:
            sides[side]["gigaflops"] = product.operations / seconds / 1e9
    return {
        **dataclasses.asdict(product),
        "name": product.name,
        "times_per_step": times,
        "reads_weights": product.reads_weights,
        "sides": sides,
    }


def workload_records(every: dict[str, Counter[Product]], found: dict[str, list[list[Timing]]]) -> dict[str, Any]:
    """Returns for each workload its products, and the GFLOP/s of all of them together that have any.

    found: the timings of the distinct products of all workloads, as `distinct` orders them.
    """
    places = {product: i for i, product in enumerate(distinct(every))}
    records = {}
    for name, products in every.items():
        of_each = {p: {side: [timings[places[p]] for timings in rounds] for side, rounds in found.items()} for p in products}
        rows = [product_record(p, times, of_each[p]) for p, times in products.items()]
        many = [row for row in rows if not row["reads_weights"]]
        operations = sum(row["times_per_step"] * 2 * row["m"] * row["n"] * row["k"] for row in many)
        seconds = {side: sum(row["times_per_step"] * row["sides"][side]["seconds"] for row in many) for side in found}
        together = {side: operations / total / 1e9 for side, total in seconds.items() if total}
        records[name] = {"gigaflops": together, "products": rows}
    return records


def distinct(every: dict[str, Counter[Product]]) -> list[Product]:
    """Returns the products of all workloads, each once: they are measured once."""
    return list(dict.fromkeys(product for products in every.values() for product in products))


# ---------------------------------------------------------------- tables


def product_tables(records: dict[str, Any], most: dict[str, float]) -> list[Table]:
    """Returns up to two tables per workload: the GFLOP/s of its products, and the GB/s at which those of few rows read their weights."""
    tables = []
    for name, record in records.items():
        if record["gigaflops"]:
            tables.append(_rates(name, record, most["gigaflops"]))
        few = [row for row in record["products"] if row["reads_weights"]]
        if few:
            tables.append(_readings(name, few))
    return tables


def _rates(name: str, record: dict[str, Any], most: float) -> Table:
    theirs = "torch" in record["gigaflops"]
    columns = ["PyTorch", "ratio of rates"] if theirs else []
    table = Table(f"{name}: product", "m × n × k", "per step", "GFLOP/s", *columns, "of the limit", box=None)
    rows = [row for row in record["products"] if not row["reads_weights"]]
    cells = [(row["name"], _shape(row), str(row["times_per_step"]), {s: f["gigaflops"] for s, f in row["sides"].items()}) for row in rows]
    for title, shape, times, rates in [*cells, ("all together", "", "", record["gigaflops"])]:
        compared = [f"{rates['torch']:.0f}", f"{rates['tinylm'] / rates['torch']:.2f}"] if theirs else []
        table.add_row(title, shape, times, f"{rates['tinylm']:.0f}", *compared, f"{100 * rates['tinylm'] / most:.0f} %")
    return table


def _readings(name: str, rows: list[dict[str, Any]]) -> Table:
    sides = [side for side in ("tinylm", "torch") if side in rows[0]["sides"]]
    titles = [f"{'PyTorch' if side == 'torch' else side}, {place}" for place in ("cache", "memory") for side in sides]
    table = Table(f"{name}: few rows, GB/s", "m × n × k", "per step", *titles, box=None)
    for row in rows:
        rates = [row["sides"][side][f"{place}_gigabytes_per_second"] for place in ("cache", "memory") for side in sides]
        table.add_row(row["name"], _shape(row), str(row["times_per_step"]), *(f"{rate:.0f}" for rate in rates))
    return table


def _shape(row: dict[str, Any]) -> str:
    return f"{row['m']} × {row['n']} × {row['k']}"
