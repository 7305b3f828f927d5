"""The token ids that a caller gives: prompts and forbidden tokens, each checked to be an integer of the vocabulary."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError


def prompt_ids(prompts: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray:
    """Returns the prompts of a batch as ids (N, T), int64.

    Raises ConfigError if there is none, or if one is empty or of another length than the first; ShapeError for what is no
    integer (a float, a bool, a text), RangeError for an id outside the vocabulary, both with the value and its place.
    """
    rows = [_members(prompt) for prompt in _members(prompts)]
    if not rows or not all(rows):
        raise ConfigError("the prompt is empty: the model needs at least one token to continue")
    if len({len(row) for row in rows}) > 1:
        raise ConfigError("the prompts of a batch must have the same length in tokens")
    return np.array([[token_id(i, vocab_size, f"token {place} of the prompt") for place, i in enumerate(row)] for row in rows], np.int64)


def _members(values: Any) -> list[Any]:
    if isinstance(values, Tensor):
        values = values.numpy()
    ordered = hasattr(values, "__getitem__") and not isinstance(values, str | bytes | dict)
    if not ordered or getattr(values, "ndim", 1) == 0:
        raise ShapeError(f"the prompt is {values!r:.60}: expected a sequence of token ids")
    return list(values)


def forbidden_tokens(forbidden: Sequence[int], vocab_size: int) -> list[int]:
    """Returns the ids that may not be drawn. Raises ShapeError and RangeError as `prompt_ids` does, ConfigError if none is left."""
    banned = [token_id(i, vocab_size, "a forbidden token") for i in forbidden]
    if len(set(banned)) >= vocab_size:
        raise ConfigError("every token of the vocabulary is forbidden")
    return banned


def id_array(ids: Any, axes: int, what: str) -> np.ndarray:
    """Returns ids as an array. Raises ShapeError with what it got unless they are integers with so many axes."""
    try:
        array = np.asarray(ids) if isinstance(ids, list | tuple) else ids
    except ValueError:  # lists of several lengths
        array = None
    if not isinstance(array, np.ndarray) or array.ndim != axes or (array.size and array.dtype.kind not in "iu"):
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(ids).__name__
        raise ShapeError(f"{what} must be an array of integers, got {got}: expected {axes} {'axis' if axes == 1 else 'axes'}")
    return array


def token_id(value: Any, vocab_size: int, what: str) -> int:
    value = value.numpy() if isinstance(value, Tensor) else value
    if not is_whole(value):
        raise ShapeError(f"{what} is {value!r:.60}: expected an integer, the id of a token")
    if not 0 <= value < vocab_size:
        raise RangeError(f"{what} is {value!r:.60}, which is out of range: expected 0 to {vocab_size - 1}")
    return int(value)


def is_whole(value: Any) -> bool:
    try:
        return operator.index(value) is not None and not isinstance(value, bool)
    except TypeError:
        return False
