"""Feeding a language model token by token without computing anything twice.

Neural and n-gram models meet here: each is asked for the distribution of the next token.
"""

from typing import Any

import numpy as np

from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.models import LanguageModel, NgramLM


class Stepper:
    """The distribution of the next token after all the tokens fed so far, for rows of equal length.

    A recurrent model keeps its state, a Transformer its keys and values. When a Transformer's
    context would pass its block_size, it is cut to its newest block_size/2 tokens, whose keys and
    values are computed anew at their new positions; so the context slides in half blocks, and the
    cost is that of about two tokens a token. use_cache False computes everything anew at each step,
    with the same cuts and so the same distributions. The model is put into evaluation mode.
    """

    def __init__(self, model: LanguageModel | NgramLM, device: str = "cpu", use_cache: bool = True) -> None:
        self.model, self.device, self.use_cache = model, device, use_cache
        self.seen: np.ndarray | None = None  # (N, tokens so far)
        self.start = 0  # where the Transformer's context begins
        self.state: Any = None
        if isinstance(model, LanguageModel):
            model.eval()

    def feed(self, ids: np.ndarray) -> np.ndarray:
        """ids (N, T >= 1), the tokens that follow -> log-probabilities of the next token, (N, V) float64."""
        scores = self.scores(ids)
        return scores if isinstance(self.model, NgramLM) else log_softmax(scores)

    def scores(self, ids: np.ndarray) -> np.ndarray:
        """The same up to a constant for each row, in the model's dtype: what the likeliest token, or a draw, can be found from sooner."""
        fed = 0 if self.seen is None else self.seen.shape[1]
        self.seen = ids if self.seen is None else np.concatenate([self.seen, ids], axis=1)
        if isinstance(self.model, NgramLM):
            return np.stack([self.model.next_log_probabilities(row[max(0, row.size - 8) :]) for row in self.seen])
        block, total = self.model.block_size, self.seen.shape[1]
        if block is not None and total - self.start > block:
            self.start, self.state = total - max(block // 2, 1), None
        if not self.use_cache:
            self.state = None
        new = self.seen[:, self.start :] if self.state is None else self.seen[:, fed:]
        with no_grad():
            logits, self.state = self.model.advance(Tensor(to_device(np.ascontiguousarray(new), self.device)), self.state)
        return to_numpy(logits.data[:, -1]).copy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return z
