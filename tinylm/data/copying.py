"""What a translator copies because it cannot know it: names, numbers, and characters that its training sources do not have.

Each such span of a source becomes a placeholder, a token of its own. The decoder has to write it exactly once, and in its place the
span is put back: the copyable placeholders of Luong et al. 2015, arXiv:1410.8206, section 3.1. Training pairs in which a word
and its translation are a placeholder (`copied_pairs`) teach where it belongs.

The other way is to train a model to spell strange strings byte by byte, by pairs with random strings on both sides. Every
text can be spelled so, since each byte is a piece of the vocabulary. But a small model would need a large part of its training
for that, and still misspell some; a model without attention, such as the LSTM, cannot learn it at all. A placeholder costs one
token, and what it stands for arrives whole by construction. Its price: a name keeps its form where the other language inflects
or respells it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.data.words import APOSTROPHES, COMPOUND_OR_SIGN, WORD_OR_SIGN, compiled
from tinylm.engine.random_keys import philox
from tinylm.errors import DataError

SLOTS = 4  # different placeholders; span j of a text is number j % SLOTS, and those of one number come back in their order
_MOST = 3  # words of a training pair that are placeholders at once
_STREAM = 1 << 40  # of random numbers; those before it draw batches
_CAPITALS = 0.25  # the largest part of words with a capital in a language that writes only names and first words so

Span = tuple[int, int]  # start and stop in a text
Slot = tuple[int, int, int]  # the same, and the number of its placeholder


@dataclass(frozen=True)
class KnownText:
    """What a translator has read in its training sources, and so what it need not copy."""

    characters: frozenset[str]
    words: frozenset[str]  # without case; numbers that are the same in most of their targets are left to copying
    names: bool  # whether a capital is the sign of a name; not so in German, where every noun has one
    lower: bool = False  # whether the model reads everything in lower case

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], lower: bool = False) -> "KnownText":
        """Collects the characters and words of the sources."""
        characters: set[str] = set()
        every: set[str] = set()
        seen, same = Counter[str](), Counter[str]()  # in how many pairs a number stands, and in how many of their targets
        inside = capitals = 0
        for source, target in pairs:
            characters.update(source.lower() if lower else source)
            pieces = compiled(COMPOUND_OR_SIGN).findall(source)
            every.update(pieces)
            numbers = {piece for piece in pieces if _has_digit(piece)}
            seen.update(numbers)
            same.update(numbers.intersection(compiled(COMPOUND_OR_SIGN).findall(target) if numbers else ()))
            within = [piece for piece in pieces[1:] if piece[0].isalpha()]
            inside, capitals = inside + len(within), capitals + sum(word[0].isupper() for word in within)
        words = {part.casefold() for piece in every for part in [piece, *(part for part in _words(piece) if not _has_digit(part))]}
        words -= {piece.casefold() for piece, n in seen.items() if 2 * same[piece] >= n}
        return cls(frozenset(characters), frozenset(words), capitals <= _CAPITALS * inside, lower)

    def spans(self, text: str) -> list[Span]:
        """Returns where the text has what must be copied, from left to right; neighbours, with a space between them or none, are one.

        That is a word, or words joined by signs such as 3.14 or name@example.org, with an unknown character; the same with a digit,
        unless it is known; a word with a capital that is unknown in any case; and a single unknown sign.
        """
        found: list[Span] = []
        for match in compiled(COMPOUND_OR_SIGN).finditer(text):
            start, stop = self._within(match[0])
            if start == stop:
                continue
            start, stop = match.start() + start, match.start() + stop
            if found and text[found[-1][1] : start] in ("", " "):
                start = found.pop()[0]
            found.append((start, stop))
        return found

    def _within(self, piece: str) -> Span:
        """Returns which part of a piece must be copied, (0, 0) for none."""
        spelled = piece.lower() if self.lower else piece
        if not self.characters.issuperset(spelled) or (_has_digit(piece) and piece.casefold() not in self.words):
            return 0, len(piece)
        parts = list(compiled(WORD_OR_SIGN).finditer(piece)) if self.names and piece.casefold() not in self.words else []
        smaller = [s for part in parts for s in _between_apostrophes(part.start(), part[0])]
        capital = [(start, word) for start, word in smaller if any(c.isupper() for c in word)]  # as in Quimby and iPhone
        unknown = [(start, word) for start, word in capital if word.casefold() not in self.words]
        if not unknown:
            return 0, 0
        return capital[0][0], unknown[-1][0] + len(unknown[-1][1])  # O’Brien of O’Brien’s

    def readable(self, text: str) -> str:
        """Returns the text, character for character, with a space for unknown white space, and with the apostrophe that is known for
        one that is not."""
        known = next((sign for sign in APOSTROPHES if sign in self.characters), "")
        if self.characters.issuperset(text):
            return text
        return "".join(
            " " if c.isspace() and c not in self.characters else known if known and c in APOSTROPHES and c not in self.characters else c
            for c in text
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same."""
        return {"characters": "".join(sorted(self.characters)), "words": " ".join(sorted(self.words)), "names": self.names}

    @classmethod
    def from_json(cls, record: Any, lower: bool = False) -> "KnownText":
        """Returns what `to_json` described. Raises DataError if the record does not describe it."""
        kinds = {"characters": str, "words": str, "names": bool}
        if not isinstance(record, dict) or {name: type(value) for name, value in record.items()} != kinds:
            raise DataError(f"not a record of known text: {record!r:.80}")
        return cls(frozenset(record["characters"]), frozenset(record["words"].split(" ")), record["names"], lower)


def _has_digit(text: str) -> bool:
    return re.search(r"\d", text) is not None


def _words(text: str) -> list[str]:
    """Returns the words of a text, and what stands between apostrophes in them."""
    found = compiled(WORD_OR_SIGN).finditer(text)
    return [word for match in found for _, word in _between_apostrophes(match.start(), match[0])]


def _between_apostrophes(start: int, word: str) -> list[tuple[int, str]]:
    """Returns (start, text) of a word that stands at `start`, or of the parts between its apostrophes; none for a sign."""
    found = []
    for part in word.translate(dict.fromkeys(map(ord, APOSTROPHES), "'")).split("'"):
        if part[:1].isalnum():
            found.append((start, part))
        start += len(part) + 1
    return found


# ---------------------------------------------------------------- pairs to learn it from


def copied_pairs(
    pairs: Sequence[tuple[str, str]], lexicon: Mapping[str, str], share: float, seed: int
) -> list[tuple[tuple[str, list[Slot]], tuple[str, list[Slot]]]]:
    """Returns (source with placeholders, target with placeholders) of share · len(pairs) random pairs, fewer if no more are suitable.

    Up to three words of the source and their translations become placeholders. A pair is suitable if a word of it and its translation stand
    once each. lexicon: the translations of words in lower case, as they are written. A number or a word with a capital is also its own
    translation.
    """
    draw = np.random.Generator(philox((seed, _STREAM)))
    found: list[tuple[tuple[str, list[Slot]], tuple[str, list[Slot]]]] = []
    wanted = round(share * len(pairs))
    for i in draw.permutation(len(pairs)).tolist():
        if len(found) == wanted:
            break
        source, target = pairs[i]
        matched = matched_words(source, target, lexicon)
        if not matched:
            continue
        count = int(draw.integers(1, _MOST + 1))
        chosen = sorted(matched[j] for j in draw.permutation(len(matched))[:count].tolist())
        first = int(draw.integers(SLOTS))
        slots = [(span, other, (first + k) % SLOTS) for k, (span, other) in enumerate(chosen)]
        found.append(((source, [(*span, k) for span, _, k in slots]), (target, sorted((*other, k) for _, other, k in slots))))
    return found


def matched_words(source: str, target: str, lexicon: Mapping[str, str]) -> list[tuple[Span, Span]]:
    """Returns the places of words and of their translations, in the order of the source: see `copied_pairs`."""
    words, others = _single(source), _single(target)
    matched: dict[Span, Span] = {}  # by the place in the target
    for word, span in words.items():
        itself = word in others and (word[0].isupper() or _has_digit(word))
        translation = word if itself else lexicon.get(word.lower(), "")
        if translation in others:
            matched.setdefault(others[translation], span)
    return sorted((span, other) for other, span in matched.items())


def _single(text: str) -> dict[str, Span]:
    """Returns where the words are that a text has once."""
    matches = [match for match in compiled(WORD_OR_SIGN).finditer(text) if match[0][0].isalnum()]
    counts = Counter(match[0] for match in matches)
    return {match[0]: match.span() for match in matches if counts[match[0]] == 1}
