"""Feeds tokens to a language model and keeps its state, so that nothing is computed twice.

Neural and n-gram models have the same interface here: the distribution of the next token.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.decode.prompts import id_array
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError
from tinylm.models import LanguageModel, NgramLM
from tinylm.nn import KeyValueCache, Module
from tinylm.nn.finite_weights import first_not_finite


class Stepper:
    """Computes the distribution of the next token after all tokens that were fed so far, for rows of equal length.

    A recurrent model keeps its state, a Transformer its keys and values. When a Transformer's
    context would exceed its block_size, it is cut to its newest block_size/2 tokens, whose keys and
    values are computed again at their new positions; so the context slides in half blocks, and each token
    costs about as much as two. use_cache False computes everything again at each step,
    with the same cuts and so the same distributions, except with rotary frequencies that change with the length of the text
    (see DynamicScaling). The model is in evaluation mode while it computes a step, and between steps as it was.
    """

    def __init__(self, model: LanguageModel | NgramLM, device: str = "cpu", use_cache: bool = True) -> None:
        self.model, self.device, self.use_cache = model, device, use_cache
        self.seen: np.ndarray | None = None  # (N, tokens so far)
        self.start = 0  # where the Transformer's context begins
        self.state: Any = None
        self._modules = list(model.modules()) if isinstance(model, Module) else []

    def feed(self, ids: np.ndarray) -> np.ndarray:
        """Takes the tokens that follow, ids (N, T >= 1), and returns the log-probabilities of the next token, (N, V) float64.

        Raises AnomalyError if a row of logits has a NaN, +inf, or -inf everywhere; ShapeError and RangeError for what is no id.
        After an error the tokens count as not fed.
        """
        scores = self.scores(ids)
        return scores if isinstance(self.model, NgramLM) else log_softmax(scores)

    def scores(self, ids: np.ndarray) -> np.ndarray:
        """Returns the same up to a constant for each row, in the model's dtype: enough for the most likely token or a draw, and faster.

        Raises AnomalyError as `feed` does.
        """
        ids = id_array(ids, 2, "token id")
        check_ids(ids, self.model.vocab_size, "token id")  # those too that the context is cut by
        fed = 0 if self.seen is None else self.seen.shape[1]
        seen = ids if self.seen is None else np.concatenate([self.seen, ids], axis=1)
        if isinstance(self.model, NgramLM):
            self.seen = seen
            return np.stack([self.model.next_log_probabilities(row[max(0, row.size - 8) :]) for row in seen])
        block, total, start, state = self.model.block_size, seen.shape[1], self.start, self.state
        if block is not None and total - start > block:
            start, state = total - max(block // 2, 1), None
        if not self.use_cache:
            state = None
        new = seen[:, start:] if state is None else seen[:, fed:]
        with evaluating(self._modules), no_grad():
            logits, state = _to_last(self.model, Tensor(to_device(np.ascontiguousarray(new), self.device)), state)
        scores = checked_logits(self.model, to_numpy(logits.data).copy(), total - 1)
        self.seen, self.start, self.state = seen, start, state
        return scores

    def select(self, rows: np.ndarray) -> None:
        """Goes on with row rows[i] in the place of row i: several rows may continue one, without its tokens being computed again."""
        if self.seen is None:
            return
        self.seen = self.seen[rows]
        if isinstance(self.state, list) and all(isinstance(x, KeyValueCache | Tensor) for x in self.state):
            at = to_device(rows, self.device)
            with no_grad():
                self.state = [x.select(at) if isinstance(x, KeyValueCache) else x[:, at] for x in self.state]  # x (layers, N, hidden)
        else:
            self.state = None  # of a form that is not known here: the tokens are read again


def _to_last(model: LanguageModel, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Returns model.advance_to_last(ids, state); what `advance` gives where a class or an object has an `advance` of its own."""
    own: Mapping[str, Any] = next(
        (vars(kind) for kind in type(model).__mro__ if "advance" in vars(kind) or "advance_to_last" in vars(kind)), {}
    )
    if "advance_to_last" in own and "advance" not in vars(model):
        return model.advance_to_last(ids, state)
    logits, state = model.advance(ids, state)
    return logits[:, -1], state


@contextlib.contextmanager
def evaluating(modules: Iterable[Module]) -> Iterator[None]:
    """Within the context these modules are in evaluation mode; afterwards each is as it was."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Within the context the model and all its parts are in evaluation mode, and nothing is recorded; afterwards each is as it was."""
    with evaluating(model.modules() if isinstance(model, Module) else ()), no_grad():
        yield


def checked_logits(model: Any, logits: np.ndarray, positions: Any) -> np.ndarray:
    """Returns logits (..., V), those after the tokens at these positions of their text, which broadcast to (...).

    Raises AnomalyError with the first position if a row has a NaN, +inf, or -inf everywhere, and with what `cause_in` finds.
    """
    largest = logits.max(axis=-1)  # of a row with a NaN it is NaN
    if not np.isfinite(largest).all():
        row = int(np.argmin(np.isfinite(largest)))
        where, value = int(np.broadcast_to(positions, largest.shape).flat[row]), float(largest.flat[row])
        kind = "NaN" if np.isnan(value) else "+inf" if value > 0 else "-inf for every token"
        raise AnomalyError(
            f"the model's logits are {kind} at position {where}, so the next token cannot be predicted: "
            f"the largest log-probability is {value}{cause_in(model)}"
        )
    return logits


def cause_in(model: Any) -> str:
    """Returns why logits may not be finite, to end a message: the first parameter that is not; '' for what has no parameters."""
    if not isinstance(model, Module):
        return ""
    if (found := first_not_finite(model.named_state())) is not None:
        return f"; the parameter {found}"
    return "; all its parameters are finite, so an op overflows (within tinylm.detect_anomaly() it is named)"


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the log-softmax over the last axis, in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return z
