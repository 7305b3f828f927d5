"""The workloads to measure, as numbers from which either library can build a model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A training step (forward, backward, clipping, update), or with a prompt the generation of a text.

    gpt and llama: AdamW, gradients clipped to norm 1; a llama generates greedily. The others: SGD, gradients clipped to
    norm 0.5, and the usual dropout; both libraries use the same rate and draw their own masks.
    """

    model: Literal["gpt", "llama", "transformer", "rnn", "lstm", "gru"]
    layers: int
    width: int
    block_size: int  # tokens of a sequence
    batch_size: int
    steps: int  # measured in one process
    heads: int = 1
    vocab_size: int = 65
    dropout: float = 0.0
    kv_heads: int = 1  # llama: heads of keys and values
    hidden: int = 0  # llama: width inside the feed-forward
    prompt: int = 0  # number of tokens given; the rest of the block is generated with a cache
    stored: bool = False  # also measured with the weights as SmolLM2's file has them

    @property
    def rows_first(self) -> bool:
        """Returns whether ids have the shape (N, T) rather than (T, N)."""
        return self.model in ("gpt", "llama")

    @property
    def tokens(self) -> int:
        """Returns the number of tokens that one step trains on or generates."""
        return self.batch_size * (self.block_size - self.prompt)

    def batches(self, count: int) -> Iterator[np.ndarray]:
        """Returns random ids: prompts (N, prompt); for a GPT or Llama (N, T + 1); for the others, sequence first, (T + 1, N)."""
        shape = (self.batch_size, self.prompt or self.block_size + 1)
        rows = np.random.default_rng(0).integers(0, self.vocab_size, (count, *(shape if self.rows_first else shape[::-1])))
        return iter(rows)


def _words(model: Literal["transformer", "rnn", "lstm", "gru"], heads: int = 1) -> Workload:
    """Returns a workload of word-level language modelling, as in PyTorch's tutorial and example of that name."""
    return Workload(model, 2, 200, block_size=35, batch_size=20, steps=30, heads=heads, vocab_size=10_000, dropout=0.2)


WORKLOADS = {
    "gpt-small": Workload("gpt", 4, 128, block_size=64, batch_size=12, steps=60, heads=4),
    "gpt-medium": Workload("gpt", 6, 384, block_size=256, batch_size=8, steps=8, heads=6),
    "transformer-lm": _words("transformer", heads=2),
    "rnn-lm": _words("rnn"),
    "lstm-lm": _words("lstm"),
    "gru-lm": _words("gru"),
    "decode": Workload("gpt", 6, 384, block_size=256, batch_size=1, steps=4, heads=6, prompt=32),
    "decode-smollm2": Workload(  # the shape of SmolLM2-135M
        "llama",
        30,
        576,
        block_size=96,
        batch_size=1,
        steps=4,
        heads=9,
        vocab_size=49_152,
        kv_heads=3,
        hidden=1536,
        prompt=32,
        stored=True,
    ),
}
CARD_WORKLOADS = {  # large enough for a GPU; on a CPU they would take minutes
    "gpt-medium-batch-64": Workload("gpt", 6, 384, block_size=256, batch_size=64, steps=40, heads=6),
    "gpt-large": Workload("gpt", 12, 768, block_size=1024, batch_size=8, steps=20, heads=12, vocab_size=50304),
}

# its first tokens are continued from stored weights
STORED_TEXT = (
    "Once upon a time a young fisherman lived with his mother in a small house by the sea. Every morning he rowed out to the islands, and "
    "one day he found in his net"
)


@dataclass(frozen=True)
class Side:
    """One library's step, and how it is measured: `mark` after each step, `seconds` between two marks. A training step returns its
    loss, a scalar of the library; a step that generates may return the tokens."""

    step: Callable[[np.ndarray], Any]
    megabytes: Callable[[], float]
    mark: Callable[[], Any] = time.perf_counter
    seconds: Callable[[Any, Any], float] = lambda a, b: b - a


def peak_megabytes() -> float:
    """Returns the peak of this process's own memory."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:  # getrusage includes the parent's memory
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    except OSError:  # not Linux: macOS counts in bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def decay_groups(parameters: Any) -> list[dict[str, Any]]:
    """Returns parameter groups for AdamW, with weight decay for matrices only."""
    parameters = list(parameters)
    matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
