"""What else may change which token comes next: n-grams that must not occur again, and biases of single tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.checks import as_number, shown
from tinylm.data.tokenizers import Tokenizer
from tinylm.decode.prompts import is_whole, token_id
from tinylm.errors import ConfigError, DataError


def completing_tokens(context: np.ndarray, n: int) -> np.ndarray:
    """Returns the tokens that would complete an n-gram which the context (T,) already has; none for n = 0.

    Paulus et al. 2018, arXiv:1705.04304, "Repetition avoidance at test time".
    """
    if n == 0 or len(context) < n:
        return np.zeros(0, np.int64)
    ngrams = np.lib.stride_tricks.sliding_window_view(context, n)
    begun = (ngrams[:, :-1] == context[len(context) - n + 1 :]).all(axis=1)  # they begin with the last n - 1 tokens
    return np.unique(ngrams[begun, -1])


def repeating_tokens(context: Sequence[int], most: int) -> list[int]:
    """Returns the tokens after which a sequence of tokens would stand more than `most` times in a row at the end of the context; none
    for most = 0."""
    found = []
    for period in range(1, (len(context) + 1) // (most + 1) + 1) if most else ():
        tail = context[len(context) + 1 - (most + 1) * period :]  # with one more token, most + 1 periods
        if tail[period:] == tail[: len(tail) - period]:
            found.append(context[-period])
    return found


def keep_required(log_p: np.ndarray, sequences: Sequence[Sequence[int]], required: Mapping[int, int], eos: int, left: int) -> np.ndarray:
    """Gives log-probability -inf to tokens (N, V), in place, such that each sequence has every required token exactly so often before it
    ends with eos, within the `left` tokens that may follow. Where it would most likely end without one, or where there is only room
    for them, those that are missing are all that is left. Returns (N,) booleans: which sequences that holds for."""
    pressed = np.zeros(len(log_p), bool)
    if not required:
        return pressed
    for i, (row, tokens) in enumerate(zip(log_p, sequences, strict=True)):
        missing = {token: n - list(tokens).count(token) for token, n in required.items()}
        wanted = [token for token, n in missing.items() if n > 0]
        row[[token for token, n in missing.items() if n <= 0]] = -np.inf
        if wanted:
            pressed[i] = row[eos] == row.max() or sum(missing[token] for token in wanted) >= left - 1
            row[eos] = -np.inf
            if pressed[i]:
                kept = row[wanted]
                row[:] = -np.inf
                row[wanted] = kept
    return pressed


def check_no_repeat(n: Any) -> None:
    """Raises ConfigError unless n is a whole number from 0 on."""
    if not is_whole(n) or n < 0:
        raise ConfigError(f"no_repeat_ngram is {shown(n)}: expected at least 0, a whole number")


def checked_bias(bias: Any, token: Any) -> float:
    """Returns what is added to a token's log-probability; -inf forbids it. Raises ConfigError for NaN, +inf and what is no number."""
    number = as_number(bias)
    if not number < np.inf:
        raise ConfigError(f"the logit bias of {shown(token)} is {shown(bias)}: expected a finite number, or -inf")
    return number


def token_biases(tokenizer: Tokenizer, biases: Mapping[int | str, float], vocab_size: int) -> dict[int, float]:
    """Returns the `logit_bias` of `Sampling` for tokens that are named by their ids or their texts.

    Raises ConfigError for a text that is not one token of the tokenizer, a token that is named twice, or a bias as `checked_bias` does;
    RangeError for an id outside the vocabulary.
    """
    found: dict[int, float] = {}
    for token, bias in biases.items():
        number = _id_of(tokenizer, token) if isinstance(token, str) else token_id(token, vocab_size, "a token of the logit bias")
        if number in found:
            raise ConfigError(f"the logit bias names token {number} twice, the second time as {shown(token)}")
        found[number] = checked_bias(bias, token)
    return found


def _id_of(tokenizer: Tokenizer, text: str) -> int:
    try:
        ids = tokenizer.encode(text).tolist()
    except DataError as error:
        raise ConfigError(f"the logit bias of {shown(text)}: {error}") from error
    if len(ids) != 1 or ids[0] == tokenizer.unknown_id:
        what = f"{len(ids)} tokens, {[tokenizer.decode([i]) for i in ids[:8]]}" if len(ids) != 1 else "unknown to the tokenizer"
        raise ConfigError(f"the logit bias is for {shown(text)}, which is {what}: expected the text of one token")
    return int(ids[0])
