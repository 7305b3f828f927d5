"""How many tokens of a text stand for words that the vocabulary lacks, and what it costs to spell these."""

from typing import NamedTuple

import numpy as np

from tinylm.data.tokenizers import Tokenizer, WordTokenizer
from tinylm.data.whitespace import UNKNOWN, WhitespaceTokenizer


class Unknown(NamedTuple):
    """Of the scored tokens of a text: how many there are, and how many of them stand for a word that the vocabulary lacks."""

    tokens: int
    unknown: int = 0
    nats: float | None = 0.0  # -log p of the spelling of the unknown words, all together; None if the tokenizer has no model of it
    own: int = 0  # tokens that are an <unk> of the text itself

    @property
    def per_token(self) -> float:
        """What the spelling adds to the loss per token, in nats; 0 without a model of it."""
        return (self.nats or 0.0) / self.tokens if self.tokens else 0.0

    def note(self) -> str:
        """Returns a few words about them for the line that tells a loss; "" if there are none."""
        own = f"{self.own:,} of {self.tokens:,} tokens are the text's own <unk>" if self.own else ""
        if not self.unknown:
            return own
        some = f"{self.unknown:,} of {self.tokens:,} tokens are unknown words"
        if self.nats is None:
            some += ", whose letters do not count: losses per byte do not compare with those of other tokenizers"
        else:
            some += f": per token each counts as <unk>, per byte its spelling counts too, {self.per_token:.4f} nats/token more"
        return f"{own}; {some}" if own else some


NOT_COUNTED = Unknown(0)


def unknown_in(tokenizer: Tokenizer, text: str, ids: np.ndarray, skipped: int = 0) -> Unknown:
    """Returns what a text with these ids has of unknown words; skipped: tokens at its beginning that are not scored."""
    ids = ids[skipped:]
    found = np.flatnonzero(ids == tokenizer.unknown_id) if tokenizer.unknown_id is not None else np.zeros(0, np.int64)
    if not len(found):
        return Unknown(len(ids))
    if not isinstance(tokenizer, WordTokenizer | WhitespaceTokenizer):
        return Unknown(len(ids), len(found), None)
    pieces = tokenizer.pieces(text)[skipped:]
    words = [pieces[i] for i in found.tolist()]
    own = words.count(UNKNOWN)  # a tokenizer of words cuts <unk> into three
    nats = tokenizer.spelling_nats(words)
    return Unknown(len(ids), len(words) - own, nats, own)


def same_tokens(one: Tokenizer, other: Tokenizer) -> bool:
    """Returns whether two tokenizers give every text the same ids; what they know of the spelling of unknown words may differ."""
    records = [{name: value for name, value in t.to_json().items() if name not in ("rare", "own")} for t in (one, other)]
    return records[0] == records[1]


def mean_bytes(tokenizer: Tokenizer, text: str, ids: np.ndarray) -> float:
    """Returns how many bytes of a text with these ids a token stands for, in the mean of all but the first, which is not scored."""
    return (len(text.encode("utf-8")) - tokenizer.first_bytes(text)) / max(len(ids) - 1, 1)
