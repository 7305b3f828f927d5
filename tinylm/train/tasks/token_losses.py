"""The loss of a language model over a whole text, token by token."""

from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.batching import consecutive_blocks
from tinylm.decode.prompts import id_array
from tinylm.decode.stepping import cause_in, evaluation_mode
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, DataError
from tinylm.models import LanguageModel, NgramLM

_MOST_LOGITS = 1 << 24
VALIDATION_ROWS = 32  # blocks, or streams of a recurrent model, that are read at once


def validation_loss(
    model: LanguageModel | NgramLM, ids: np.ndarray, device: str = "cpu", batch_size: int = VALIDATION_ROWS, block_size: int | None = None
) -> float:
    """Returns the mean of -log p of every token but the first, in nats: the mean of `token_losses`; NaN if logits are not finite."""
    return float(_token_losses(model, ids, device, batch_size, block_size).mean())


def token_losses(
    model: LanguageModel | NgramLM, ids: np.ndarray, device: str = "cpu", batch_size: int = VALIDATION_ROWS, block_size: int | None = None
) -> np.ndarray:
    """Returns -log p of every token but the first, in nats, each token scored once: len(ids) - 1 float64.

    A Transformer sees blocks that do not overlap: each token has the tokens before it in its own
    block, so their mean is an upper bound of what a sliding window would give. Recurrent models carry
    their state, n-gram models see order - 1 tokens. The model is in evaluation mode meanwhile.
    batch_size: blocks at once, fewer where their logits would be more than 16 million; block_size: that of a
    Transformer's blocks, if not all it can look at.
    Raises ShapeError for ids that are no integers in one dimension, DataError for fewer than two tokens,
    AnomalyError with the first position at which the logits are not finite.
    """
    losses = _token_losses(model, ids, device, batch_size, block_size)
    if np.isnan(losses).any():
        raise AnomalyError(f"the model's logits are not finite at position {int(np.isnan(losses).argmax())}{cause_in(model)}")
    return losses


def _token_losses(
    model: LanguageModel | NgramLM, ids: np.ndarray, device: str, batch_size: int, block_size: int | None
) -> np.ndarray:  # fmt: skip
    """Returns the losses, NaN where the logits are not finite."""
    ids = id_array(ids, 1, "token id")
    if len(ids) < 2:
        raise DataError(f"a loss over {len(ids)} tokens: expected at least 2, since the first one is not scored")
    if isinstance(model, NgramLM):
        return -model.log_probabilities(ids[1:], ids[:1])
    with evaluation_mode(model):
        if model.block_size is None:
            return _carried_losses(model, ids, device, batch_size)
        length, rows = _block_shape(model, batch_size, block_size)
        blocks = consecutive_blocks(ids, length, rows)
        return np.concatenate([_losses(model.logits(_on(x, device)), y, device).ravel() for x, y in blocks])


def _block_shape(model: LanguageModel, batch_size: int, block_size: int | None) -> tuple[int, int]:
    """Returns (tokens of a block, blocks that are read at once) of a model that looks at a limited number of tokens."""
    assert model.block_size is not None
    length = min(model.block_size, block_size or model.block_size)
    return length, max(1, min(batch_size, _MOST_LOGITS // (length * model.vocab_size)))


_WARMUP, _CHUNK = 512, 128


def _streams(tokens: int, most: int) -> int:
    """Returns how many streams a text is cut into: each is at least four times as long as what is read before it."""
    return max(1, min(most, tokens // (4 * _WARMUP)))


def rows_at_once(model: LanguageModel, block_size: int) -> tuple[int, int]:
    """Returns (tokens, how many times so many at least) of the shortest text whose validation takes as long per token, and as much
    memory, as that of a long one."""
    if model.block_size is None:
        return 4 * _WARMUP, VALIDATION_ROWS  # a stream, and their number
    length, rows = _block_shape(model, VALIDATION_ROWS, block_size)
    return length * rows, 1


def validated_tokens(model: LanguageModel, tokens: int) -> int:
    """Returns how many tokens pass through the model when `validation_loss` scores so many."""
    streams = 1 if model.block_size is not None else _streams(tokens - 1, VALIDATION_ROWS)
    return tokens - 1 + (streams * _WARMUP if streams > 1 else 0)


def _carried_losses(model: LanguageModel, ids: np.ndarray, device: str, streams: int) -> np.ndarray:
    """Returns the losses of a recurrent model over the whole text, in several streams at once for speed: each one first
    reads the 512 tokens before its first target, after which its state is that of one long pass for
    all that can be measured. The first stream starts at the beginning with a state of zeros."""
    n = len(ids) - 1
    streams = _streams(n, streams)
    length = -(-n // streams)  # of a stream; the last one may be shorter
    starts = length * np.arange(streams)
    state: Any = None
    losses = []
    if streams > 1:
        before = ids[np.maximum(starts[:, None] - _WARMUP, 0) + np.arange(_WARMUP)]
        for at in range(0, _WARMUP, _CHUNK):
            state = model.read(_on(before[:, at : at + _CHUNK], device), state)
        for s in state:
            s.data[:, 0] = 0
    for at in range(0, length, _CHUNK):
        steps = min(_CHUNK, length - at)
        where = np.minimum(starts[:, None] + at + np.arange(steps), n - 1)  # the last stream may end before the others
        logits, state = model.advance(_on(ids[where], device), state)
        losses.append(_losses(logits, ids[where + 1], device))
    return np.concatenate(losses, axis=1).ravel()[:n]


def _losses(logits: Tensor, targets: np.ndarray, device: str) -> np.ndarray:
    losses = to_numpy(ops.cross_entropy(logits, _on(targets, device), reduction="none").data).astype(np.float64)
    if not np.isfinite(losses).all():
        largest = to_numpy(logits.data.max(axis=-1)).reshape(losses.shape)
        losses[~np.isfinite(largest)] = np.nan
    return losses


def _on(array: np.ndarray, device: str) -> Tensor:
    return Tensor(to_device(np.ascontiguousarray(array), device))
