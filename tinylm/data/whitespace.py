"""The tokens of published perplexities: what stands between spaces, and line breaks."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinylm.data.spelling import Spelling
from tinylm.data.vocabulary_checks import checked_utf8, in_vocabulary, numbered
from tinylm.data.words import count_words
from tinylm.errors import DataError

UNKNOWN = "<unk>"
PATTERN = r"\n|\S+"


class WhitespaceTokenizer:
    """One id per word between spaces, and one per line break, the <eos> of the perplexities published for WikiText and the Penn
    Treebank. The vocabulary is all words of the training text: no word is replaced because it is rare.

    Id 0 is <unk>: where the text itself has that word, and for a word that is not in the vocabulary. How many and which spaces
    there are is not kept: decoding writes one space before each word.
    """

    kind = "whitespace"
    unknown_id = 0
    start = ends = ()

    def __init__(self, words: Iterable[str], rare: Sequence[str] | None = None, own: int = 0) -> None:
        """words: the vocabulary without <unk>, in the order of their ids from 1.  rare: what the spelling of others is learned
        from.  own: how often the training text itself has <unk>."""
        self.words = [UNKNOWN, *words]
        self._ids = numbered(self.words)
        self.vocab_size = len(self.words)
        self.spelling = None if rare is None else Spelling(rare)
        if type(own) is not int or own < 0:
            raise DataError(f"the training text has {own!r:.40} <unk> of its own: expected a number of at least 0")
        self.own = own

    @classmethod
    def train(cls, text: str | Iterable[str]) -> "WhitespaceTokenizer":
        """Returns the tokenizer of all words of a text, whole or in pieces, the most common first, ties by spelling."""
        counts, rare = count_words(text, 1, PATTERN)
        own = counts.pop(UNKNOWN, 0)
        return cls([*counts, *(["\n"] if "\n" not in counts else [])], rare, own)

    def pieces(self, text: str) -> list[str]:
        """Returns what each token of a text spells, without the spaces."""
        return re.findall(PATTERN, text)

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, int64. Raises DataError for a text that is not valid Unicode."""
        checked_utf8(text)
        return np.array([self._ids.get(w, 0) for w in self.pieces(text)], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, with a space before each word. Raises RangeError for an id outside the vocabulary."""
        words = [self.words[i] for i in in_vocabulary(ids, self.vocab_size)]
        return "".join([w if w == "\n" else f" {w}" for w in words])

    def first_bytes(self, text: str) -> int:
        """Returns how many bytes of a text's UTF-8 its first token stands for, the spaces before it included."""
        found = re.match(rf"\s*?(?:{PATTERN})", text)
        return len(checked_utf8(found[0])) if found else 0

    def spelling_nats(self, words: Sequence[str]) -> float | None:
        """Returns -log p of the spelling of words that id 0 stands for, in nats; None without a model of it. A word is <unk>
        itself with p = (n + 1) / (n + 2), n being how often the training text has it, and else spelt letter by letter."""
        if self.spelling is None:
            return None
        others = [word for word in words if word != UNKNOWN]
        said = len(words) * math.log(self.own + 2) - (len(words) - len(others)) * math.log(self.own + 1)
        return said - float(self.spelling.log_probabilities(others).sum())

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same tokenizer."""
        rare = {} if self.spelling is None else {"rare": self.spelling.words}
        return {"kind": self.kind, "words": self.words[1:], "own": self.own, **rare}
