"""Measures the cost of an op, of training steps and of generation, alone or compared with PyTorch.

Every measurement of a workload runs in a fresh process. With PyTorch the two sides alternate, and the ratio is the
median over the rounds. On a GPU the steps are timed by events on the device, without waiting for the host.
"""

import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.card import card, described
from benchmark.engine import engine_costs, import_seconds, read_bandwidth
from benchmark.product_rates import distinct, limits, product_rounds, product_tables, workload_records
from benchmark.products import products_of
from benchmark.profile import as_record, profiled
from benchmark.results import comparison_table, side_table, stored_table, summary
from benchmark.rounds import check_device, machine, rounds
from benchmark.sides import SIDES, missing, sides_of
from benchmark.workloads import CARD_WORKLOADS, WORKLOADS, Workload
from rich.console import Console
from rich.table import Table
from support import console
from support.tables import screen

from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.processor import cache_sizes, processor_name, product_instructions
from tinylm.errors import ConfigError
from tinylm.files.json_files import write_json

QUICK = ("gpt-small", "gpt-medium", "transformer-lm", "lstm-lm", "decode", "gpt-medium-batch-64")  # on a CPU without the last one
QUICK_SECONDS = 110


@dataclass(frozen=True)
class Arguments:
    """Measures what the engine adds to each op, how fast the workloads' matrix products are, and the time of training steps
    and of generation, each in fresh processes. Writes benchmark.json. Run it on an idle machine: the two sides take turns, but
    nothing corrects for another program's load."""

    against: Literal["torch"] | None = None
    """also measure PyTorch, with and without torch.compile and in bfloat16 under autocast, in turn with tinylm, and print the ratios to
    the fastest at each precision; beside stored weights llama.cpp, if llama-cpp-python is installed"""
    workload: tuple[
        Literal[
            "gpt-small", "gpt-medium", "transformer-lm", "rnn-lm", "lstm-lm", "gru-lm", "decode", "decode-smollm2", "gpt-medium-batch-64",
            "gpt-large",
        ],
        ...,
    ] = ()  # fmt: skip
    """measure only these workloads; by default the first eight, and on a GPU all"""
    precision: Literal["float32", "bfloat16"] | None = None
    """measure training steps with products of this precision only; by default with both, and with --profile and --products in float32"""
    pairs: int = 5
    """number of fresh processes per side"""
    quick: bool = False
    """a first look that ends in two minutes: one process per side with a quarter of the steps, in float32, without torch.compile; what has
    no time left is said"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    profile: bool = False
    """instead, print where tinylm's time goes: time and bytes per op and implementation, forward and backward apart"""
    products: bool = False
    """measure only the matrix products of each workload on this CPU, beside the most that its cores can do"""
    out: Path = Path("runs/benchmark")
    """the folder for benchmark.json, which holds every measurement, or with --profile for profile.json, with --products for
    products.json"""
    dry_run: bool = False
    """two steps of the small workload, once; nothing is compiled or written"""


def show_processor(output: Console) -> None:
    """Prints what the measurements are made on."""
    caches = ", ".join(f"{name} {size >> 10:,} KB" for name, size in cache_sizes().items())
    output.print(f"processor: {processor_name()}")
    output.print(f"threads: {thread_count()} on {os.cpu_count()} cores; caches: {caches or 'unknown'}")
    output.print(f"products: {product_instructions() or 'by NumPy'}\n")


def products(arguments: Arguments, read: float, output: Console) -> dict[str, Any]:
    """Prints the rates of the products of every workload and what the processor can do at most, and returns the record of it.

    read: the GB/s from memory.
    """
    most = limits(read, arguments.dry_run)
    output.print(f"float32 multiply-adds in registers, with all threads: {most['gigaflops']:.0f} GFLOP/s")
    output.print(f"reading the second cache with all threads: {most['cache_gigabytes_per_second']:.1f} GB/s")
    output.print(f"reading memory with all threads: {read:.1f} GB/s\n")
    print("products ...", file=sys.stderr, flush=True)
    precision = arguments.precision or "float32"
    works = chosen(arguments).items()
    every = {name: products_of(work) for name, work in works if precision == "float32" or not work.prompt}
    sides = ["tinylm", *filter(None, [arguments.against])]
    found = product_rounds(distinct(every), sides, precision, 1 if arguments.dry_run else arguments.pairs, arguments.dry_run)
    records = workload_records(every, found)
    for table in product_tables(records, most):
        output.print(table)
        output.print()
    return {"precision": precision, "limits": most, "workloads": records}


def products_alone(arguments: Arguments) -> dict[str, Any]:
    """Prints the processor and the rates of the products, and returns the record of them."""
    output = screen()
    show_processor(output)
    return {"pairs": arguments.pairs, "products": products(arguments, read_bandwidth(arguments.dry_run), output)}


def compare(arguments: Arguments) -> dict[str, Any]:
    """Prints what the engine, the products and the workloads cost, and returns the record of it."""
    until = time.monotonic() + QUICK_SECONDS if arguments.quick else None
    output = screen()
    record: dict[str, Any] = {"pairs": rounds_of(arguments), "quick": arguments.quick}
    if arguments.device == "cpu":
        show_processor(output)
        costs = Table("engine", "µs", box=None)
        record["engine_microseconds"] = engine_costs(arguments.dry_run)
        for name, value in record["engine_microseconds"].items():
            costs.add_row(name, f"{value:.2f}")
        output.print(costs)
        record["import_seconds"] = import_seconds()
        output.print(f"import tinylm, above numpy: {record['import_seconds']:.3f} s")
        record["read_gigabytes_per_second"] = read_bandwidth(arguments.dry_run)
        if product_instructions() and not arguments.quick:
            record["products"] = products(arguments, record["read_gigabytes_per_second"], output)
        else:
            output.print(f"reading memory with all threads: {record['read_gigabytes_per_second']:.1f} GB/s\n")
    else:
        record["card"] = card(arguments.device)
        output.print(described(record["card"]))
    records = record["workloads"] = measured_workloads(arguments, until)
    for table in (side_table(records, rounds_of(arguments)), comparison_table(records), stored_table(records)):
        if table is not None:
            output.print(table)
            output.print()
    return record


def rounds_of(arguments: Arguments) -> int:
    return 1 if arguments.dry_run or arguments.quick else arguments.pairs


def measured_workloads(arguments: Arguments, until: float | None = None) -> dict[str, Any]:
    """Returns the records of the workloads, each measured by all sides that can; until: when the last process ends, as for `rounds`."""
    records = {}
    for name, work in chosen(arguments).items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        precision = "float32" if arguments.quick and arguments.precision is None else arguments.precision
        sides = sides_of(work, arguments.device, arguments.against is not None, precision)
        if arguments.dry_run or arguments.quick:
            sides = [side for side in sides if not SIDES[side].compiled]  # that would take half a minute
        skipped = {side: why for side in sides if (why := missing(side))}
        present = [side for side in sides if side not in skipped]
        found = rounds(name, work, present, arguments.device, rounds_of(arguments), until)
        records[name] = summary(work, found, skipped)
    return records


def profiles(arguments: Arguments) -> dict[str, Any]:
    """Prints a profile of every workload, and returns the record of them."""
    record = {}
    for name, work in chosen(arguments).items():
        profile, steps = profiled(work, arguments.device, arguments.precision or "float32")
        print(f"{name}, {steps} {'step' if steps == 1 else 'steps'}, {1e3 * profile.seconds / steps:.1f} ms each\n{profile.table()}\n")
        record[name] = as_record(profile, steps)
    return {"workloads": record}


def chosen(arguments: Arguments) -> dict[str, Workload]:
    """Returns the workloads to measure, by name."""
    every, works = WORKLOADS | CARD_WORKLOADS, WORKLOADS
    if arguments.workload:
        works = {name: every[name] for name in arguments.workload}
    elif arguments.dry_run:
        works = {"gpt-small": WORKLOADS["gpt-small"]}
    elif arguments.device != "cpu":
        works = every
    if arguments.quick and not arguments.workload:
        works = {name: work for name, work in works.items() if name in QUICK}
    if arguments.dry_run:
        return {name: dataclasses.replace(work, steps=2) for name, work in works.items()}
    return {name: shortened(work) for name, work in works.items()} if arguments.quick else works


def shortened(work: Workload) -> Workload:
    """Returns the workload with a quarter of its steps, at least 3, and of the tokens that it generates."""
    block = work.prompt + (work.block_size - work.prompt) // 4 if work.prompt else work.block_size
    return dataclasses.replace(work, steps=max(3, work.steps // 4), block_size=block)


def main() -> None:
    arguments = console.parse(Arguments)
    if arguments.pairs < 1:
        raise ConfigError(f"pairs is {arguments.pairs}: expected at least 1")
    if arguments.profile and arguments.against:
        raise ConfigError("--profile measures tinylm only: leave out --against")
    if arguments.quick and (arguments.profile or arguments.products):
        raise ConfigError("--quick is a short comparison of the workloads: leave out --profile and --products")
    if arguments.profile and arguments.products:
        raise ConfigError("--profile and --products are two different measurements: choose one of them")
    if arguments.precision == "bfloat16" and all(work.prompt for work in chosen(arguments).values()):
        raise ConfigError(f"--precision bfloat16 is for training steps, not for workloads that generate: {', '.join(arguments.workload)}")
    check_device(arguments.device, arguments.against)
    if arguments.products and (arguments.device != "cpu" or not product_instructions()):
        raise ConfigError("--products measures the CPU kernels: it needs --device cpu, a C compiler, and kernels that are switched on")
    name, measured = (
        ("profile", profiles) if arguments.profile else ("products", products_alone) if arguments.products else ("benchmark", compare)
    )
    record = measured(arguments)
    if not arguments.dry_run:
        path = arguments.out / f"{name}.json"
        write_json(path, {"machine": machine(), "device": arguments.device, **record})
        print(f"written: {path}")


if __name__ == "__main__":
    console.run(main)
