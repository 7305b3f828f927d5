"""The logit of a reading that one asks about."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinylm.decode.stepping import evaluation_mode
from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError
from tinylm.explain.reading import ClassifierReading, Reading


@dataclass(frozen=True)
class AskedLogit:
    """One logit, or the difference of two at the same position.

    about: which, in words.  score: its value in each of n copies of the text, (n,).  tokens: what the embeddings stand for, by part.
    position, token, against: where, of which id, and minus which; None in a classifier.
    """

    about: str
    score: Callable[[int], Tensor]
    tokens: dict[str, list[str]]
    position: int | None = None
    token: int | None = None
    against: int | None = None


def asked_logit(read: Reading, position: int | None = None, token: str | None = None, against: str | None = None) -> AskedLogit:
    """Returns the logit of a token at a position, counted from 0, from the end if it is negative.

    position: by default the last one; token: by default the most likely one there; against: the token whose logit is subtracted. A
    classifier has the logit of the label only.
    Raises RangeError for a position outside the text; ConfigError for a text that is not one token, for a token against itself,
    and for a classifier that is asked for a token.
    """
    tokens = {part: labels for part, labels, _ in map(read.tokens, ("encoder.embed", "decoder.embed"))}
    if isinstance(read, ClassifierReading):
        for name, value in (("position", position), ("token", token), ("against", against)):
            if value is not None:
                raise ConfigError(f"{name} is {value!r:.60}: a classifier has one logit, that of the label")
        return AskedLogit(f"the logit of the label {read.label!r}", read.copies, tokens)
    with evaluation_mode(read.model):
        logits = to_numpy(read.copies(1).data)[0]
    place = -1 if position is None else position
    if not -len(logits) <= place < len(logits):
        raise RangeError(f"position is {place}: expected 0 to {len(logits) - 1}, the text has {len(logits)} tokens")
    place %= len(logits)
    chosen = int(np.argmax(logits[place])) if token is None else read.token_id(token)
    other = None if against is None else read.token_id(against)
    if other == chosen:
        raise ConfigError(f"against is {against!r:.60}, the token that is explained: expected another one")
    about = f"the logit of {read.token_text(chosen)!r}"
    if other is not None:
        about += f" minus that of {read.token_text(other)!r}"
    before = tokens.get("decoder", tokens.get("", []))[place]
    about += f" at position {place}, after {before!r}"

    def score(count: int) -> Tensor:
        at = read.copies(count)[:, place]
        return at[:, chosen] if other is None else at[:, chosen] - at[:, other]

    return AskedLogit(about, score, tokens, place, chosen, other)
