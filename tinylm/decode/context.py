"""The probability of tokens given a limited number of tokens before them."""

import numpy as np

from tinylm.decode.prompts import id_array, is_whole
from tinylm.decode.stepping import checked_logits, evaluation_mode, log_softmax
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.engine.random_keys import philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM

_ELEMENTS = 1 << 22  # of logits in memory at once
_ROWS = 128  # windows per forward pass, at most


def sample_positions(length: int, longest: int, count: int, seed: int = 0) -> np.ndarray:
    """Returns `count` different positions of a text of `length` tokens, in order, each with at least
    `longest` tokens before it; all such positions if they are fewer.

    Raises DataError if there is none, ConfigError for a count below 1.
    """
    if not is_whole(count) or count < 1:
        raise ConfigError(f"{count!r:.60} positions: expected at least 1")
    if length <= longest:
        raise DataError(f"the text has {length} tokens: expected more than {longest}, the longest context")
    draw = np.random.Generator(philox((seed, 0)))
    return np.sort(longest + draw.permutation(length - longest)[:count])


def log_probabilities_given(
    model: LanguageModel | NgramLM, ids: np.ndarray, positions: np.ndarray, context: int, device: str = "cpu"
) -> np.ndarray:
    """Returns log p(ids[t] | ids[t-context..t-1]) for t in positions: (len(positions),) float64, in nats.

    The model sees exactly these `context` tokens: a recurrent one starts from a state of zeros, and
    a Transformer has the first of them at its first position. An n-gram model uses the last
    order - 1 of them. Meanwhile the model is in evaluation mode.
    Raises ShapeError for ids or positions that are no integers in one dimension,
    ConfigError for a context below 1 or longer than the model's block_size, DataError for a
    position with fewer tokens before it, RangeError for ids outside the vocabulary, AnomalyError for logits that are not finite.
    """
    ids, positions = id_array(ids, 1, "token id"), id_array(positions, 1, "position")
    block = None if isinstance(model, NgramLM) else model.block_size
    if not is_whole(context) or context < 1 or (block is not None and context > block):
        raise ConfigError(f"context is {context!r:.60}: expected {'at least 1' if block is None else f'1 to {block}, the block size'}")
    if positions.min(initial=context) < context or positions.max(initial=0) >= len(ids):
        raise DataError(
            f"positions {positions.min()} to {positions.max()} of {len(ids)} tokens: expected {context} to {len(ids) - 1}, "
            "each with its context before it"
        )
    check_ids(ids, model.vocab_size, "token id")
    if isinstance(model, NgramLM):
        return np.array([model.log_probabilities(ids[t : t + 1], ids[t - context : t])[0] for t in positions])
    rows = min(_ROWS, max(1, _ELEMENTS // (context * model.vocab_size)))
    parts = [np.zeros(0)]
    with evaluation_mode(model):
        for start in range(0, len(positions), rows):
            at = positions[start : start + rows]
            logits, _ = model.advance(Tensor(to_device(ids[at[:, None] + np.arange(-context, 0)], device)))
            last = to_numpy(logits.data[:, -1])  # only the logits after the last token of each window are used
            log_p = log_softmax(checked_logits(model, last, at - 1))
            parts.append(log_p[np.arange(len(at)), ids[at]])
    return np.concatenate(parts)
