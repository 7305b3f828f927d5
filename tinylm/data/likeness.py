"""Whether the part that validates is like the part that trains: what a count of pairs of characters in the one says of the other.

The model is the simplest that knows an alphabet, a language and a kind of text: p(b | a) from counts of pairs (a, b), smoothed with a
Dirichlet prior (MacKay & Peto 1995, "A hierarchical Dirichlet language model"): p(b | a) = (n_ab + K p_b) / (n_a + K), where p_b is
from the counts of single characters. Its loss on the validation part is compared with its loss on stretches of the training part of
the same length, each scored by the counts of all the rest, so that none has an advantage.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = 512  # characters that are told apart by what stands before them; the rarer ones only by their own count
MOST = 1_000_000  # characters that are counted of a part: of a longer one, the beginning of each piece
STRETCHES = 16
SHORTEST = 100  # characters of a validation part that can be judged, and an eighth of what the training part needs
PRIOR = 5.0  # K: how many characters the prior is worth

# The validation part is unlike the training part if its loss, or the fraction of its characters that the training part lacks, is above
# the mean of the stretches by both a least amount and a number of their standard deviations.
# In nats per character, measured on texts of 0.1 to 1.5 million: tenths of one text differ from the rest by at most 0.2; verses,
# plays and reviews of one language by 0.2 to 0.8; another language with the same letters by 1.1 or more, programs by 2.5.
# A character that training lacks costs a model 5 to 15 nats: 2 % of them are 0.1 to 0.3, more than most changes of a model are worth.
# And the stretches' own spread must not explain it: for 16 normal values, the next one is more than 5 standard deviations above their
# mean in about one case in 9,000 (Student's t with 15 degrees of freedom, times the root of 17/16).
LEAST_EXCESS, LEAST_UNSEEN, DEVIATIONS = 1.0, 0.02, 5.0


@dataclass(frozen=True)
class Likeness:
    """The losses in nats per character, and what of the validation part the training part does not have at all."""

    validation: float = float("nan")
    mean: float = float("nan")  # of the stretches of the training part
    deviation: float = float("nan")  # their standard deviation
    unseen: float = 0.0  # the fraction of the validation part's characters that the training part lacks
    usual_unseen: tuple[float, float] = (0.0, 0.0)  # mean and standard deviation of the fraction of a stretch that the rest lacks
    examples: str = ""  # the most common of the validation part's

    @property
    def unlike(self) -> bool:
        """Whether the validation part cannot say how well the training part was learned."""
        usual, spread = self.usual_unseen
        lacking = self.unseen - usual > max(LEAST_UNSEEN, DEVIATIONS * spread)
        return lacking or self.validation - self.mean > max(LEAST_EXCESS, DEVIATIONS * self.deviation)

    def to_json(self) -> dict[str, Any]:
        if np.isnan(self.validation):
            return {}
        return {
            "validation_nats_per_character": self.validation, "training_nats_per_character": self.mean, "deviation": self.deviation,
            "unseen_characters": self.unseen, "examples": self.examples, "unlike": self.unlike,
        }  # fmt: skip


def find_likeness(train: Iterable[str], characters: int, validation: Iterable[str], validation_characters: int) -> Likeness:
    """Compares two parts given in pieces, with their lengths; they are too short to tell if one of them has fewer than 100 characters,
    or the training part fewer than 800."""
    ours, theirs = _points(train, characters), _points(validation, validation_characters)
    length = min(len(theirs), len(ours) // 8)
    if length < SHORTEST:
        return Likeness()
    counts, other = (np.bincount(points, minlength=0x110000) for points in (ours, theirs))
    present = np.nonzero(counts + other)[0]
    order = present[np.lexsort((present, -counts[present]))]  # the most common in training first
    rank = np.zeros(0x110000, np.int64)
    rank[order] = np.arange(len(order))
    ours, theirs = rank[ours], rank[theirs]
    number = min(STRETCHES, len(ours) // length)
    starts = np.linspace(0, len(ours) - length, number).astype(np.int64)
    whole = _Counts.of(ours, len(order))
    stretches = [_Counts.of(ours[start : start + length], len(order)) for start in starts]
    losses = [(whole - stretch).loss(stretch) for stretch in stretches]
    lacking = [stretch.single[whole.single == stretch.single].sum() / length for stretch in stretches]
    unseen = np.where(counts == 0, other, 0)
    examples = "".join(chr(point) for point in np.argsort(-unseen, kind="stable")[:5] if unseen[point])
    return Likeness(
        whole.loss(_Counts.of(theirs, len(order))), float(np.mean(losses)), float(np.std(losses, ddof=1)),
        float(unseen.sum() / len(theirs)), (float(np.mean(lacking)), float(np.std(lacking, ddof=1))), examples,
    )  # fmt: skip


def _points(pieces: Iterable[str], characters: int) -> np.ndarray:
    """Returns the code points of a text in pieces, or of a long one those of the beginning of each piece."""
    step = -(-characters // MOST) or 1
    text = "".join(piece[: -(-len(piece) // step)] for piece in pieces)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@dataclass(frozen=True)
class _Counts:
    """How often each kind of character occurs, and each pair of kinds; the kinds from KINDS - 1 on are one row of the pairs."""

    single: np.ndarray  # (kinds,)
    pairs: np.ndarray  # (rows, rows)

    @classmethod
    def of(cls, ids: np.ndarray, kinds: int) -> "_Counts":
        """Counts in a text, ids (T,) from 0 to kinds - 1."""
        rows = min(kinds, KINDS)
        row = np.minimum(ids, rows - 1)
        pairs = np.bincount(row[:-1] * rows + row[1:], minlength=rows * rows).reshape(rows, rows)
        return cls(np.bincount(ids, minlength=kinds), pairs)

    def __sub__(self, other: "_Counts") -> "_Counts":
        return _Counts(self.single - other.single, self.pairs - other.pairs)

    def loss(self, text: "_Counts") -> float:
        """Returns the mean of -log p of the characters of another text but its first, in nats, by these counts."""
        rows = len(self.pairs)
        p = (self.single + 0.5) / (self.single.sum() + 0.5 * len(self.single))  # of each kind (Krichevsky & Trofimov 1981)
        p_row = np.append(p[: rows - 1], p[rows - 1 :].sum())
        conditional = (self.pairs + PRIOR * p_row) / (self.pairs.sum(axis=1, keepdims=True) + PRIOR)
        rare = text.single[rows - 1 :] @ np.log(p[rows - 1 :] / p_row[-1])  # which of those that share a row
        return float(-((text.pairs * np.log(conditional)).sum() + rare) / text.pairs.sum())
