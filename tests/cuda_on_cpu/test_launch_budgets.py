"""How much a training step and a generated token queue on a GPU: kernels, products, copies and CuPy's small launches.

A launch costs the host 5 to 10 µs, so their number is what a small model takes on a GPU. It hangs on layers, positions and rows, not
on widths, so the workloads are made narrow, and nothing is computed. The numbers are those of today: whoever needs fewer lowers them.
"""

import dataclasses
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from script_helpers import SCRIPTS

from .stand_in.queue import counting
from .stand_in.synchronisation import state

sys.path.insert(0, str(SCRIPTS))

from benchmark import tinylm_side
from benchmark.workloads import CARD_WORKLOADS, WORKLOADS, Workload

sys.path.remove(str(SCRIPTS))

from tinylm.decode import Sampling, generate, stepping

BUDGETS = {  # of a training step
    "gpt-small": 140,
    "gpt-medium": 194,
    "gpt-large": 356,
    "transformer-lm": 126,
    "rnn-lm": 71,
    "lstm-lm": 80,
    "gru-lm": 69,
}
TOKEN_BUDGETS = {"decode": 63, "decode-smollm2": 366}  # of one token after the prompt


def narrow(name: str) -> Workload:
    """Returns a workload with 8 numbers per head and few words."""
    work = (WORKLOADS | CARD_WORKLOADS)[name]
    return dataclasses.replace(work, width=8 * work.heads, vocab_size=65, hidden=24)


def told(counts: Counter[str]) -> str:
    return f"{counts.total()}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common())


@pytest.mark.parametrize("name", BUDGETS)
def test_a_step(emulated_cuda: Any, name: str) -> None:
    work = narrow(name)
    model = tinylm_side.build(work)
    model.to("cuda")
    step, rows = tinylm_side.training(model, work, "cuda"), work.batches(2)
    with counting(computing=False):
        step(next(rows))  # makes what is kept for the next steps
        with counting(computing=False) as counts:
            step(next(rows))
    assert counts["upload"] == 2, "inputs and targets"
    assert counts.total() <= BUDGETS[name], told(counts)


@pytest.mark.parametrize("name", TOKEN_BUDGETS)
def test_a_token(emulated_cuda: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host waits once, for the logits, which nobody has computed here."""
    monkeypatch.setattr(stepping, "checked_logits", lambda model, logits, positions: np.zeros_like(logits))
    work = narrow(name)
    model = tinylm_side.build(work)
    model.to("cuda")
    with counting(computing=False):
        text = generate(model, next(work.batches(1))[0].tolist(), 9, Sampling(greedy=True), device="cuda")
        for _ in range(3):
            next(text)
        waits = state.count
        with counting(computing=False) as counts:
            next(text)
    assert state.count - waits == 1
    assert counts.total() <= TOKEN_BUDGETS[name], told(counts)


def test_what_is_counted(emulated_cuda: Any) -> None:
    """A view is nothing, unless the layout makes it a copy; a kernel that is only counted leaves its arrays as they were."""
    x = emulated_cuda.zeros((2, 3), "float32")
    with counting() as counts:
        x.reshape(3, 2), x.T, x[:, 1:], emulated_cuda.split(x, 3, axis=1), emulated_cuda.empty(3)
        x.astype("float32", copy=False)
    assert not counts
    with counting() as counts:
        x.T.reshape(-1)
        x + x
        x += 1
        x[0] = 7
        x[emulated_cuda.arange(2)]
        emulated_cuda.matmul(x, x.T)
        emulated_cuda.array(x)
        emulated_cuda.asarray([1.0])
        x.get()
    once = ["reshape", "setitem", "arange", "getitem", "matmul", "copy", "upload", "get"]
    assert counts == {**dict.fromkeys(once, 1), "add": 2}
