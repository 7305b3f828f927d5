"""The training steps that scripts/benchmark.py measures, tinylm's and PyTorch's, and how their time is taken."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinylm
from tinylm import backend
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
CARD_WORKLOADS = {  # these fill a card, and would take a CPU minutes
    "gpt-384-batch-64": Workload(GPTConfig(n_layer=6, n_head=6, n_embd=384, block_size=256), batch_size=64, steps=40),
    "gpt-768": Workload(GPTConfig(vocab_size=50304, n_layer=12, n_head=12, n_embd=768, block_size=1024), batch_size=8, steps=20),
}


def groups(parameters: Any) -> list[dict[str, Any]]:
    parameters = list(parameters)
    matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Side:
    """One library's step, and how it is measured: `mark` after each step, `seconds` between two marks."""

    step: Callable[[np.ndarray], Any]
    megabytes: Callable[[], float]
    mark: Callable[[], Any] = time.perf_counter
    seconds: Callable[[Any, Any], float] = lambda a, b: b - a


def peak_megabytes() -> float:
    """The process's own memory at its highest."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tinylm_side(work: Workload, device: str) -> Side:
    model = GPT(work.config)
    model.to(device)
    optimizer = AdamW(groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99))

    def step(rows: np.ndarray) -> None:
        x, y = (tinylm.Tensor(backend.to_device(a, device)) for a in (rows[:, :-1], rows[:, 1:]))
        loss = tinylm.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(max_norm=1.0)

    if device == "cpu":
        return Side(step, peak_megabytes)
    space = backend.device_namespace(device)

    def mark() -> Any:
        event = space.cuda.Event()
        event.record()
        return event

    def seconds(a: Any, b: Any) -> float:
        b.synchronize()
        return space.cuda.get_elapsed_time(a, b) / 1e3

    return Side(step, lambda: space.get_default_memory_pool().total_bytes() / 2**20, mark, seconds)


def torch_side(work: Workload, device: str) -> Side:
    import torch

    from tinylm.verify.torch_models import TorchGPT

    model = TorchGPT(work.config).to(device)
    optimizer = torch.optim.AdamW(groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99), fused=True)

    def on_device(array: np.ndarray) -> Any:
        host = torch.from_numpy(np.ascontiguousarray(array))
        return host if device == "cpu" else host.pin_memory().to(device, non_blocking=True)

    def step(rows: np.ndarray) -> None:
        logits = model(on_device(rows[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), on_device(rows[:, 1:]).view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    if device == "cpu":
        return Side(step, peak_megabytes)

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def seconds(a: Any, b: Any) -> float:
        b.synchronize()
        return a.elapsed_time(b) / 1e3

    return Side(step, lambda: torch.cuda.max_memory_reserved(device) / 2**20, mark, seconds)
