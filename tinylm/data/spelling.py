"""How a word is spelt that a vocabulary lacks: a model of its letters, so that losses of different tokenizers compare.

A model of words gives all unknown words together one probability, that of <unk>. The probability of one of them is
p(word) = p(<unk>) p(spelling of the word): without the second factor a word that is not in the vocabulary costs less than
its letters do, and a smaller vocabulary seems to be a better model.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinylm.errors import DataError

ORDER = 6  # a byte depends on the five before it
MOST_WORDS = 20_000  # that are learned from, and stored with the tokenizer
_END = 256  # the symbol after the last byte of a word; before a word stand such symbols too
_SYMBOLS = 257


class _Level(NamedTuple):
    """The sequences of one length n that occur, sorted by their codes, and the contexts of n - 1 symbols that they begin with."""

    codes: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray  # N(h): how often a context occurs
    kinds: np.ndarray  # T(h): how many different symbols follow it


class Spelling:
    """p(word) over all words: a model of the bytes of UTF-8 and of the end of a word, interpolated as Witten & Bell (1991) do.

    For a byte or end c after the n-1 symbols h, h' being h without its first symbol:

        p_n(c | h) = (N(h c) + T(h) p_{n-1}(c | h')) / (N(h) + T(h)),  p_0 = 1 / 257,

    with N(h) the number of times that h occurs in the words learned from, and T(h) how many different symbols follow it there
    (Bell, Cleary & Witten 1990, "Text Compression", section 6.3, method C). p_6 is the model. The probabilities of all words
    add up to 1, those that are no valid text, and those of the vocabulary included: what it gives to these is lost, and a
    loss is a little too high rather than too low.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """words: what to learn from, each once; of more than 20,000 every n-th. Raises DataError for what is no list of texts."""
        if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
            raise DataError(f"the words that spelling is learned from are {words!r:.80}: expected a list of words")
        self.words = list(words[:: -(-len(words) // MOST_WORDS)])

    def log_probabilities(self, words: Sequence[str]) -> np.ndarray:
        """Returns log p of each word, in nats: (N,) float64."""
        codes, word_of = _codes(words)
        p = np.full(len(word_of), 1 / _SYMBOLS)
        for (levels_codes, counts, contexts, totals, kinds), keys in zip(self._levels, codes, strict=True):
            seen, rows = _find(levels_codes, keys)
            known, places = _find(contexts, keys // _SYMBOLS)
            n, total, followers = np.where(seen, counts[rows], 0), totals[places], kinds[places]
            p = np.where(known, (n + followers * p) / (total + followers), p)
        return np.bincount(word_of, np.log(p), len(words))

    @functools.cached_property
    def _levels(self) -> list[_Level]:
        levels = []
        for keys in _codes(self.words)[0]:
            codes, counts = np.unique(keys, return_counts=True)
            contexts, places, kinds = np.unique(codes // _SYMBOLS, return_inverse=True, return_counts=True)
            levels.append(_Level(codes, counts, contexts, np.bincount(places, counts), kinds))
        return levels


def _codes(words: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns (for n = 1 to ORDER the code of the last n symbols at each byte and end, which word each belongs to).

    The code of the symbols s_1 ... s_n is the number with these digits to the base 257.
    """
    spelt = [word.encode("utf-8", "surrogatepass") for word in words]
    lengths = np.array([len(word) + 1 for word in spelt], np.int64)
    word_of = np.repeat(np.arange(len(words)), lengths)
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # the place of each symbol in its word
    places = np.repeat(np.cumsum(lengths + ORDER - 1) - lengths, lengths) + inside  # after ORDER - 1 ends before each word
    symbols = np.full(lengths.sum() + len(words) * (ORDER - 1), _END, np.int64)
    symbols[places[inside < np.repeat(lengths - 1, lengths)]] = np.frombuffer(b"".join(spelt), np.uint8)
    code, codes = np.zeros(len(places), np.int64), []
    for n in range(ORDER):
        code = code + symbols[places - n] * _SYMBOLS**n
        codes.append(code)
    return codes, word_of


def _find(known: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (whether each key is among the known ones, which are sorted, its place there or any other)."""
    rows = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return known[rows] == keys, rows
