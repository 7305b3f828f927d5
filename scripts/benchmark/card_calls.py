"""Which calls of CuPy and tinylm wait for a GPU, what they cost the host, and how fast the kernels are, for `first_card.py`.

python -m benchmark.card_calls DEVICE [SCALE]: prints tables. SCALE divides the sizes, to try the program where nothing is fast.
"""

import itertools
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

import tinylm
import tinylm.optim  # it registers the updates
from tinylm.bindings.cuda.reductions import column_sums
from tinylm.engine.devices import device_namespace, make_current, to_device
from tinylm.engine.ids import check_ids
from tinylm.engine.kernels import registry, updates

WAITS = 5e-3  # seconds of the host, while the card is busy for longer
CALLS, REPEATS = 300, 5


class Card:
    """A GPU and what is measured on it, with sizes divided by `scale`."""

    def __init__(self, device: str, scale: int) -> None:
        self.device, self.scale = device, scale
        self.xp = device_namespace(device)
        self.wait = self.xp.cuda.runtime.deviceSynchronize

    def normal(self, *shape: int, seed: int = 0) -> Any:
        return to_device(np.random.default_rng(seed).standard_normal(shape, np.float32), self.device)

    def rows(self, count: int, least: int = 4) -> int:
        return max(count // self.scale, least)

    def milliseconds(self, run: Callable[[], Any], repeats: int = 15) -> float:
        """Returns the median time between two marks on the card, after a few runs that are not counted."""
        for _ in range(self.rows(3, 1)):
            run()
        marks = [self.xp.cuda.Event() for _ in range(self.rows(repeats, 1) + 1)]
        marks[0].record()
        for mark in marks[1:]:
            run()
            mark.record()
        marks[-1].synchronize()
        return statistics.median(self.xp.cuda.get_elapsed_time(a, b) for a, b in itertools.pairwise(marks))


def kernel(name: str) -> Callable[..., Any]:
    return (registry.get(name) or updates[name]).kernels["cuda", "float32"]


def show(*cells: Any) -> None:
    print("  " + "  ".join(f"{cell:10.3f}" if isinstance(cell, float) else f"{cell!s:42}" for cell in cells), flush=True)


def waits(card: Card) -> None:
    """host milliseconds of a call while the card is busy; more than a few: it waits"""
    xp, n = card.xp, card.rows(12_288)
    big, out = xp.ones((n, n), np.float32), xp.empty((n, n), np.float32)
    host = np.arange(card.rows(4096)) % 64
    ids, x, small, room = xp.asarray(host), card.normal(host.size, 64), card.normal(64, 64), card.normal(1, 6, 64, 64)
    calls: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "argsort (waits)": lambda: xp.argsort(ids, kind="stable"),
        "get (waits)": lambda: small.get(),
        "ids[ids]": lambda: ids[ids],
        "max": lambda: ids.max(),
        "stack": lambda: xp.stack([x, x, x], 1),
        "upload": lambda: xp.asarray(host),
        "x[...] = 1": lambda: room.__setitem__((slice(None), slice(None), slice(3, 4)), 1.0),
        "sum": lambda: x.sum(axis=0),
        "matmul": lambda: xp.matmul(small, small),
        "check_ids": lambda: check_ids(ids, 64, "id"),
        "embedding and its gradient": lambda: kernel("embedding")(ids, small)[1](x),
        "layer_norm": lambda: kernel("layer_norm")(x, None, None),
        "cross_entropy": lambda: kernel("cross_entropy")(x, ids),
    }
    for name, call in calls.items():
        call()
        card.wait()
        xp.matmul(big, big, out=out)
        start = time.perf_counter()
        call()
        took = time.perf_counter() - start
        card.wait()
        show(name, 1e3 * took, "WAITS" if took > WAITS else "")


def host_costs(card: Card) -> None:
    """microseconds of the host per call: the best of several times many calls"""
    xp, host = card.xp, np.arange(64)
    x, y, w, ids = card.normal(64, 128), card.normal(64, 128, seed=1), card.normal(128, 128), xp.asarray(host)
    out = xp.empty_like(x)
    q = card.normal(card.rows(12, 1), card.rows(64), 4, 32).transpose(0, 2, 1, 3)
    tx, tw = tinylm.Tensor(x), tinylm.Tensor(w, requires_grad=True)
    calls: dict[str, Callable[[], Any]] = {
        "x + y": lambda: x + y,
        "x.reshape": lambda: x.reshape(-1),
        "x[3]": lambda: x[3],
        "x[...] = y": lambda: x.__setitem__(Ellipsis, y),
        "empty": lambda: xp.empty((64, 128), np.float32),
        "matmul": lambda: xp.matmul(x, w),
        "matmul(out=)": lambda: xp.matmul(x, w, out=out),
        "sum": lambda: x.sum(axis=0),
        "upload of 64 ids": lambda: xp.asarray(host),
        "make_current": lambda: make_current(x),
        "check_ids": lambda: check_ids(ids, 64, "id"),
        "kernel layer_norm": lambda: kernel("layer_norm")(x, None, None),
        "kernel attention": lambda: kernel("scaled_dot_product_attention")(q, q, q, causal=True),
        "op add": lambda: tinylm.add(tx, tx),
        "op linear, recorded": lambda: tinylm.linear(tx, tw),
        "op layer_norm": lambda: tinylm.layer_norm(tx),
    }
    each = card.rows(CALLS, 1)
    for name, call in calls.items():
        best = float("inf")
        for _ in range(card.rows(REPEATS, 1)):
            call()
            card.wait()
            start = time.perf_counter()
            for _ in range(each):
                call()
            best = min(best, (time.perf_counter() - start) / each)
        card.wait()
        show(name, 1e6 * best)


def bandwidths(card: Card) -> None:
    """GB/s (the fewest bytes that must move, over the time) and milliseconds"""
    xp, rows = card.xp, card.rows(16_384)
    x, dy, w = card.normal(rows, 1024), card.normal(rows, 1024, seed=1), card.normal(1024)
    flat = [xp.ones(x.size, np.float32) for _ in range(4)]
    z, targets, total = card.normal(card.rows(8192), 5000), xp.asarray(np.arange(card.rows(8192)) % 5000), xp.zeros((), np.float32)
    one, size = xp.ones((), np.float32), x.nbytes
    adamw = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "decoupled": True, "step": 3, "grad_scale": None}
    calls: list[tuple[str, int, Callable[[], Any]]] = [
        ("copy", 2 * size, lambda: xp.copyto(flat[1], flat[0])),
        ("column_sums", size, lambda: column_sums(x)),
        ("squared_norm", size, lambda: kernel("squared_norm")(flat[0], total)),
        ("adamw", 7 * size, lambda: kernel("adamw")(*flat, **adamw)),
        ("dropout", 2 * size, lambda: kernel("dropout")(x, 0.1, key=(3, 5))),
    ]
    for name, arrays, forward, backward in (
        ("layer_norm", (x, w), 2, 5),
        ("rms_norm", (x, w), 2, 5),
        ("softmax", (x,), 2, 3),
        ("log_softmax", (x,), 2, 3),
        ("swiglu", (x, dy), 3, 5),
    ):
        back = kernel(name)(*arrays)[1]
        calls.append((name, forward * size, lambda name=name, arrays=arrays: kernel(name)(*arrays)))  # type: ignore[misc]
        calls.append((f"{name}, backward", backward * size, lambda back=back: back(dy)))  # type: ignore[misc]
    of_loss = kernel("cross_entropy")(z, targets)[1]
    calls.append(("cross_entropy", z.nbytes, lambda: kernel("cross_entropy")(z, targets)))
    calls.append(("cross_entropy, backward", 2 * z.nbytes, lambda: of_loss(one)))
    for vocabulary in (65, card.rows(50_304)):
        ids = xp.asarray(np.random.default_rng(0).integers(0, vocabulary, rows))
        rows_of = kernel("embedding")(ids, card.normal(vocabulary, 384))[1]
        d = card.normal(rows, 384)
        calls.append((f"embedding of {vocabulary} rows, backward", d.nbytes, lambda rows_of=rows_of, d=d: rows_of(d)))  # type: ignore[misc]
    for name, moved, call in calls:
        ms = card.milliseconds(call)
        show(name, moved / ms / 1e6, ms)


def attention(card: Card) -> None:
    """TFLOP/s of causal attention: forward, with dropout, backward (5 products); PyTorch's forward, and forward with backward"""
    for n, heads, steps, width in ((8, 12, card.rows(1024), 64), (64, 6, card.rows(256), 64), (2, 16, card.rows(2048), 128)):
        n = card.rows(n, 1)
        q, k, v, dy = (card.normal(n, steps, heads, width, seed=i).transpose(0, 2, 1, 3) for i in range(4))
        flops = 4 * n * heads * steps * steps * width / 2 / 1e9
        run = kernel("scaled_dot_product_attention")
        back = run(q, k, v, causal=True)[1]
        ours = [
            flops / card.milliseconds(lambda: run(q, k, v, causal=True), 8),  # noqa: B023 - called at once
            flops / card.milliseconds(lambda: run(q, k, v, causal=True, dropout=0.1, key=(3, 5)), 8),  # noqa: B023
            2.5 * flops / card.milliseconds(lambda: back(dy), 8),  # noqa: B023
        ]
        show(f"{n} x {heads} heads, {steps} positions, {width}", *ours, *pytorchs(n, heads, steps, width, flops))


def pytorchs(n: int, heads: int, steps: int, width: int, flops: float) -> list[float]:
    """Returns PyTorch's rates of attention, none without its GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    q, k, v, dy = (torch.randn(n, heads, steps, width, device="cuda", requires_grad=i < 3) for i in range(4))
    attend = torch.nn.functional.scaled_dot_product_attention
    found = []
    for run in (lambda: attend(q, k, v, is_causal=True), lambda: attend(q, k, v, is_causal=True).backward(dy)):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(12)]
        for mark in marks:
            run()
            mark.record()
        marks[-1].synchronize()
        found.append(flops / statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(marks[3:])))
    return [found[0], 3.5 * found[1]]


def main(device: str, scale: str = "1") -> int:
    card, status = Card(device, int(scale)), 0
    for section in (waits, host_costs, bandwidths, attention):
        print(f"\n{section.__doc__}", flush=True)
        try:
            section(card)
        except Exception:
            status = 1
            print(traceback.format_exc()[-2500:], flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
