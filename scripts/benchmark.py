"""Measures tinylm: the engine's cost per op, and training steps, alone or against PyTorch.

Every measurement of a step runs in a fresh process; against PyTorch the two sides alternate, and
the ratio is the median over the pairs. On a GPU the steps are timed there, by events between them, and
nothing waits for the host. Run it on a quiet machine.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import console
import numpy as np
from benchmark_steps import CARD_WORKLOADS, WORKLOADS, tinylm_side, torch_side
from rich.console import Console
from rich.table import Table

import tinylm
from tinylm import backend
from tinylm.decode import generate
from tinylm.errors import DeviceError, TinylmError
from tinylm.models import GPT


@dataclass(frozen=True)
class Arguments:
    """Measures the engine's cost per op and the time of training steps, each in fresh processes."""

    against: Literal["torch"] | None = None
    """measure PyTorch too, in turn with tinylm, and print the ratio of the step times"""
    workload: Literal["gpt-128", "gpt-384", "gpt-384-batch-64", "gpt-768"] | None = None
    """only this one; without it the first two, and on a GPU all"""
    pairs: int = 5
    """how many fresh processes a side"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """two steps of the small workload, once"""


# ---------------------------------------------------------------- one process, one side


def worker(name: str, arguments: Arguments) -> None:
    """Measures one side of one workload in this process and prints a JSON line."""
    work = (WORKLOADS | CARD_WORKLOADS)[arguments.workload or "gpt-128"]
    side = (tinylm_side if name == "tinylm" else torch_side)(work, arguments.device)
    steps = 2 if arguments.dry_run else work.steps
    shape = (steps, work.batch_size, work.config.block_size + 1)
    marks = [side.mark()]
    for rows in np.random.default_rng(0).integers(0, work.config.vocab_size, shape):
        side.step(rows)
        marks.append(side.mark())
    times = [side.seconds(a, b) for a, b in itertools.pairwise(marks)]
    seconds = statistics.median(times[steps // 4 :])  # the first ones compile kernels and fill caches
    print(json.dumps({"seconds": seconds, "tokens": work.batch_size * work.config.block_size, "megabytes": side.megabytes()}))


def measure(side: str, workload: str, arguments: Arguments) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", side, "--workload", workload, "--device", arguments.device]
    result = subprocess.run(command + ["--dry-run"] * arguments.dry_run, capture_output=True, text=True, check=False)
    if result.returncode:
        raise TinylmError(f"the {side} side of {workload} failed: {(result.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


# ---------------------------------------------------------------- the engine's own cost


def microseconds(run: Callable[[], Any], repeats: int, inner: int) -> float:
    """The best of `repeats` timings of one call, in µs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            run()
        best = min(best, time.perf_counter() - start)
    return best / inner * 1e6


def engine_costs(dry_run: bool) -> list[tuple[str, float]]:
    """What recording an op adds to the NumPy call, and its backward, on arrays of 4 numbers, in µs."""
    x = tinylm.Tensor(np.ones(4, np.float32), requires_grad=True)
    c, raw = tinylm.Tensor(np.ones(4, np.float32)), x.data
    repeats, inner = (1, 100) if dry_run else (20, 20_000)
    plain = microseconds(lambda: raw + raw, repeats, inner)
    record = microseconds(lambda: x + c, repeats, inner) - plain

    def chain() -> tinylm.Tensor:
        y = x
        for _ in range(inner):
            y = y + c
        return y

    best = float("inf")
    for _ in range(3):
        y = chain()
        start = time.perf_counter()
        y.backward(raw)
        best = min(best, (time.perf_counter() - start) / inner * 1e6)
    return [("NumPy's a + b", plain), ("recording a + b, above NumPy's", record), ("its backward, per op of a chain", best)]


def generation(dry_run: bool) -> list[tuple[str, float]]:
    """Tokens a second of a GPT of 6 layers, width 384, block 256, from a prompt of 32 to 256 tokens."""
    model = GPT(WORKLOADS["gpt-384"].config)
    prompt = np.random.default_rng(0).integers(0, model.vocab_size, 32).tolist()
    tokens = 4 if dry_run else 224
    found = []
    for name, use_cache in (("keys and values kept", True), ("recomputed", False)):
        start = time.perf_counter()
        for _ in generate(model, prompt, tokens, use_cache=use_cache):
            pass
        found.append((name, tokens / (time.perf_counter() - start)))
    return found


def import_seconds() -> float:
    """What `import tinylm` adds to `import numpy`, in seconds: the best of several fresh processes."""

    def once() -> float:
        program = "import numpy, time; t = time.perf_counter(); import tinylm; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

    return min(once() for _ in range(5))


def check_device(arguments: Arguments) -> None:
    """Errors: DeviceError when tinylm, or PyTorch to compare with, cannot compute on the device."""
    backend.device_namespace(arguments.device)
    if arguments.against and arguments.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise DeviceError(
                f"--against torch on {arguments.device} needs a PyTorch that finds the GPU, and {torch.__version__} does not: "
                "pip install torch --index-url https://download.pytorch.org/whl/cu126"
            )


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:  # a fresh process that `measure` started
        worker(sys.argv[2], console.parse(Arguments, args=sys.argv[3:]))
        return
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    check_device(arguments)
    screen = Console(width=None if sys.stdout.isatty() else 120)
    on_cpu = arguments.device == "cpu"
    if on_cpu:
        costs = Table("engine", "µs", box=None)
        for name, value in engine_costs(arguments.dry_run):
            costs.add_row(name, f"{value:.2f}")
        screen.print(costs)
        screen.print(f"import tinylm, above numpy: {import_seconds():.3f} s\n")
    if arguments.workload is None and on_cpu:
        speeds = Table("generation, 10.6 million parameters", "tokens/s", box=None)
        for name, value in generation(arguments.dry_run):
            speeds.add_row(name, f"{value:.0f}")
        screen.print(speeds)
        screen.print()
    every = [*WORKLOADS, *([] if on_cpu else CARD_WORKLOADS)]
    names = [arguments.workload] if arguments.workload else ["gpt-128"] if arguments.dry_run else every
    sides = ["tinylm"] + (["torch"] if arguments.against else [])
    table = Table("workload", "side", "ms a step", "tokens/s", "peak MB", "ratio of step times", box=None)
    for name in names:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(1 if arguments.dry_run else arguments.pairs):
            for side in sides:
                found[side].append(measure(side, name, arguments))
        for side in sides:
            seconds = statistics.median(m["seconds"] for m in found[side])
            ratio = ""
            if arguments.against and side == "tinylm":
                ratios = [a["seconds"] / b["seconds"] for a, b in zip(found["tinylm"], found["torch"], strict=True)]
                ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            memory = max(m["megabytes"] for m in found[side])
            table.add_row(name, side, f"{seconds * 1e3:.1f}", f"{found[side][0]['tokens'] / seconds:,.0f}", f"{memory:.0f}", ratio)
    screen.print(table)


if __name__ == "__main__":
    console.run(main)
