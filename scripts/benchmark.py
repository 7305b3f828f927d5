"""Measures tinylm: the engine's cost per op, and training steps, alone or against PyTorch.

Every measurement of a step runs in a fresh process; against PyTorch the two sides alternate, and
the ratio is the median over the pairs. Run it on a quiet machine.
"""

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
from rich.console import Console
from rich.table import Table

import tinylm
from tinylm import backend
from tinylm.decode import generate
from tinylm.errors import TinylmError
from tinylm.models import GPT, GPTConfig
from tinylm.optim import AdamW


@dataclass(frozen=True)
class Workload:
    """A GPT training step: forward, backward, clipping, AdamW."""

    config: GPTConfig
    batch_size: int
    steps: int


WORKLOADS = {
    "gpt-128": Workload(GPTConfig(n_layer=4, n_head=4, n_embd=128, block_size=64), batch_size=12, steps=60),
    "gpt-384": Workload(GPTConfig(n_layer=6, n_head=6, n_embd=384, block_size=256), batch_size=8, steps=8),
}


@dataclass(frozen=True)
class Arguments:
    """Measures the engine's cost per op and the time of training steps, each in fresh processes."""

    against: Literal["torch"] | None = None
    """measure PyTorch too, in turn with tinylm, and print the ratio of the step times"""
    workload: Literal["gpt-128", "gpt-384"] | None = None
    """only this one"""
    pairs: int = 5
    """how many fresh processes a side"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """two steps of the small workload, once"""


# ---------------------------------------------------------------- one process, one side


def groups(parameters: Any) -> list[dict[str, Any]]:
    parameters = list(parameters)
    matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


def tinylm_step(work: Workload, device: str) -> tuple[Callable[[np.ndarray], float], Callable[[], float]]:
    model = GPT(work.config)
    model.to(device)
    optimizer = AdamW(groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99))

    def step(rows: np.ndarray) -> float:
        x, y = (tinylm.Tensor(backend.to_device(a, device)) for a in (rows[:, :-1], rows[:, 1:]))
        loss = tinylm.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(max_norm=1.0)
        return loss.item()

    def device_memory() -> float:
        return 0.0 if device == "cpu" else backend.device_namespace(device).get_default_memory_pool().total_bytes() / 2**20

    return step, device_memory


def torch_step(work: Workload, device: str) -> tuple[Callable[[np.ndarray], float], Callable[[], float]]:
    import torch

    from tinylm.verify.torch_models import TorchGPT

    model = TorchGPT(work.config).to(device)
    optimizer = torch.optim.AdamW(groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99), fused=True)

    def step(rows: np.ndarray) -> float:
        x, y = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (rows[:, :-1], rows[:, 1:]))
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step, lambda: 0.0 if device == "cpu" else torch.cuda.max_memory_reserved() / 2**20


def worker(side: str, arguments: Arguments) -> None:
    """Measures one side of one workload in this process and prints a JSON line."""
    import resource

    work = WORKLOADS[arguments.workload or "gpt-128"]
    step, device_memory = (tinylm_step if side == "tinylm" else torch_step)(work, arguments.device)
    steps = 2 if arguments.dry_run else work.steps
    shape = (steps, work.batch_size, work.config.block_size + 1)
    times = []
    for rows in np.random.default_rng(0).integers(0, work.config.vocab_size, shape):
        start = time.perf_counter()
        step(rows)  # returns the loss as a number, so a GPU has finished
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[steps // 4 :])
    memory = device_memory() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "tokens": work.batch_size * work.config.block_size, "megabytes": memory}))


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


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:  # a fresh process that `measure` started
        worker(sys.argv[2], console.parse(Arguments, args=sys.argv[3:]))
        return
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    backend.device_namespace(arguments.device)
    screen = Console(width=None if sys.stdout.isatty() else 120)
    costs = Table("engine", "µs", box=None)
    for name, value in engine_costs(arguments.dry_run):
        costs.add_row(name, f"{value:.2f}")
    screen.print(costs)
    screen.print(f"import tinylm, above numpy: {import_seconds():.3f} s\n")
    if arguments.workload is None and arguments.device == "cpu":
        speeds = Table("generation, 10.6 million parameters", "tokens/s", box=None)
        for name, value in generation(arguments.dry_run):
            speeds.add_row(name, f"{value:.0f}")
        screen.print(speeds)
        screen.print()
    names = [arguments.workload] if arguments.workload else ["gpt-128"] if arguments.dry_run else list(WORKLOADS)
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
