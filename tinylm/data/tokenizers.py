"""From text to token ids and back: characters, words, or byte-pair pieces."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from tinylm.data.spelling import Spelling
from tinylm.data.vocabulary_checks import checked_utf8, in_vocabulary, numbered
from tinylm.data.whitespace import UNKNOWN, WhitespaceTokenizer
from tinylm.data.words import WORD_PATTERNS, compiled, count_words
from tinylm.errors import ConfigError, DataError


class Tokenizer(Protocol):
    """What a run needs of a tokenizer. Decoding what was encoded returns the text, except for words that the vocabulary lacks."""

    kind: str

    @property
    def unknown_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None if there is none."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: ids are from 0 to vocab_size - 1."""

    @property
    def start(self) -> tuple[int, ...]:
        """The ids that stand before every text, such as BOS; none in a model that was trained here."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text or a turn, such as EOS; none in a model that was trained here from the start."""

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, int64. Raises DataError for a text that cannot be encoded."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Raises RangeError for an id outside the vocabulary."""

    def first_bytes(self, text: str) -> int:
        """Returns how many bytes of a text's UTF-8 its first token stands for."""

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same tokenizer."""


class CharTokenizer:
    """One id per character, in the order of the code points. The tokens are exactly the characters of the text it was made
    from, so an unknown character is an error and nothing is lost.

    >>> tokenizer = tinylm.data.CharTokenizer("banana")
    >>> tokenizer.encode("ban")
    array([1, 0, 2])
    >>> tokenizer.decode([1, 0, 2])
    'ban'
    """

    kind = "char"
    unknown_id = None
    start = ends = ()

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        if not self.characters:
            raise DataError("a tokenizer needs at least one character")
        self._points = np.array([ord(c) for c in self.characters], np.uint32)
        self.vocab_size = len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text. Raises DataError naming the first unknown character and its position."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = np.searchsorted(self._points, points)
        known = self._points[np.minimum(ids, self.vocab_size - 1)] == points
        if not known.all():
            at = int(np.argmin(known))
            listed = "".join(self.characters[:100])
            more = "" if self.vocab_size <= 100 else f" and {self.vocab_size - 100} more"
            raise DataError(f"unknown character {text[at]!r} at position {at}: the model knows {listed!r:.300}{more}")
        return ids.astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Raises RangeError for an id outside the vocabulary."""
        return "".join([self.characters[i] for i in in_vocabulary(ids, self.vocab_size)])

    def first_bytes(self, text: str) -> int:
        """Returns how many bytes of a text's UTF-8 its first token stands for."""
        return len(checked_utf8(text[:1]))

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same tokenizer."""
        return {"kind": self.kind, "characters": "".join(self.characters)}


class WordTokenizer:
    """One id per word, number, run of punctuation, newline or extra space. A token keeps the space before it, so that
    decoding is joining; what is not in the vocabulary becomes <unk>, id 0."""

    kind = "word"
    unknown_id = 0
    start = ends = ()

    def __init__(self, words: Iterable[str], pattern: str = WORD_PATTERNS[0], rare: Sequence[str] | None = None) -> None:
        """words: the vocabulary without <unk>, in the order of their ids from 1.  pattern: what a word was when they were learned.
        rare: words from which to learn how one is spelt that is not among them; None in the first runs, which did not."""
        if pattern not in WORD_PATTERNS:
            raise DataError(f"the pattern of a word is {pattern!r:.80}, which this version of tinylm does not know")
        self.pattern, self._pattern = pattern, compiled(pattern)
        self.words = [UNKNOWN, *words]
        self._ids = numbered(self.words)
        self.vocab_size = len(self.words)
        self.spelling = None if rare is None else Spelling(rare)

    @classmethod
    def train(cls, text: str | Iterable[str], min_count: int = 2, *, spelling: bool = True) -> "WordTokenizer":
        """Learns the words that a text, whole or in pieces, has at least min_count times, the most common first, ties by spelling;
        and from the rarer ones how a word is spelt."""
        counts, rare = count_words(text, min_count, WORD_PATTERNS[0])
        return cls(counts, rare=rare if spelling else None)

    def pieces(self, text: str) -> list[str]:
        """Returns what each token of a text spells."""
        return self._pattern.findall(text)

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, int64. Raises DataError for a text that is not valid Unicode."""
        checked_utf8(text)
        return np.array([self._ids.get(w, 0) for w in self.pieces(text)], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Raises RangeError for an id outside the vocabulary."""
        return "".join([self.words[i] for i in in_vocabulary(ids, self.vocab_size)])

    def first_bytes(self, text: str) -> int:
        """Returns how many bytes of a text's UTF-8 its first token stands for."""
        return len(checked_utf8(self.pieces(text)[0])) if text else 0

    def spelling_nats(self, words: Sequence[str]) -> float | None:
        """Returns -log p of the spelling of unknown words, in nats; None without a model of it."""
        return None if self.spelling is None else -float(self.spelling.log_probabilities(words).sum())

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same tokenizer."""
        rare = {} if self.spelling is None else {"rare": self.spelling.words}
        return {"kind": self.kind, "words": self.words[1:], "pattern": self.pattern, **rare}


class BpeTokenizer:
    """Byte-pair encoding over UTF-8 bytes (Sennrich et al. 2015, arXiv:1508.07909; on bytes as in GPT-2): pieces of words.
    Every byte is a piece, so that no text is unknown and nothing is lost."""

    kind = "bpe"
    unknown_id = None
    start = ends = ()

    def __init__(self, definition: str) -> None:
        """definition: the JSON of the `tokenizers` library."""
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_str(definition)
        except Exception as error:  # the library raises plain Exceptions
            raise DataError(f"not a BPE tokenizer: {error!s:.300}") from error
        self.vocab_size: int = self._library.get_vocab_size()

    @classmethod
    def train(cls, text: str | Iterable[str], vocab_size: int = 1024) -> "BpeTokenizer":
        """Learns at most vocab_size pieces (fewer from a short text): the 256 bytes and the most common merges of a text, which
        is whole or comes in pieces that end with lines."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, pre_tokenizers, trainers

        if not 256 <= vocab_size <= 1 << 24:
            raise ConfigError(f"vocab_size is {vocab_size}: byte-pair encoding needs at least the 256 bytes, and takes at most 2^24 pieces")
        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        library.train_from_iterator((line for piece in _pieces(text) for line in piece.splitlines(keepends=True)), trainer)
        return cls(library.to_str())

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, int64. Raises DataError for a text that is not valid Unicode."""
        checked_utf8(text)
        # Line by line, as in training: no piece crosses a line break.
        lines = self._library.encode_batch(text.splitlines(keepends=True))
        return np.array([i for line in lines for i in line.ids], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Raises RangeError for an id outside the vocabulary."""
        return self._library.decode(in_vocabulary(ids, self.vocab_size), skip_special_tokens=False)

    def first_bytes(self, text: str) -> int:
        """Returns how many bytes of a text's UTF-8 its first token stands for."""
        pieces = self._library.encode(text.splitlines(keepends=True)[0]).tokens if text else [""]
        return len(pieces[0])  # a piece is spelled with a letter for each byte

    def to_json(self) -> dict[str, Any]:
        """Returns the record from which `from_json` makes the same tokenizer."""
        return {"kind": self.kind, "definition": self._library.to_str()}


def _pieces(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


def train_tokenizer(kind: str, text: str | Iterable[str], *, min_count: int = 2, vocab_size: int = 1024) -> Tokenizer:
    """Returns a tokenizer of that kind for a training text, whole or in pieces."""
    if kind == "char":
        return CharTokenizer(itertools.chain.from_iterable(_pieces(text)))
    if kind == "word":
        return WordTokenizer.train(text, min_count)
    if kind == "whitespace":
        return WhitespaceTokenizer.train(text)
    if kind == "bpe":
        return BpeTokenizer.train(text, vocab_size)
    raise ConfigError(f"tokenizer {kind!r}: expected 'char', 'word', 'whitespace' or 'bpe'")


def from_json(record: Any) -> Tokenizer:
    """Returns the tokenizer that `to_json` described. Raises DataError if the record does not describe one."""
    contents = {"char": ("characters", str), "word": ("words", list), "whitespace": ("words", list), "bpe": ("definition", str)}
    kind = record.get("kind") if isinstance(record, dict) else None
    field, expected = contents.get(kind, ("", str)) if isinstance(kind, str) else ("", str)
    content = record.get(field) if field else None
    if not isinstance(content, expected):
        raise DataError(f"not a tokenizer record: {str(record)[:80]}")
    if kind == "word":
        return WordTokenizer(content, record.get("pattern", WORD_PATTERNS[-1]), record.get("rare"))
    if kind == "whitespace":
        return WhitespaceTokenizer(content, record.get("rare"), record.get("own", 0))
    return CharTokenizer(content) if kind == "char" else BpeTokenizer(content)


def token_texts(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """Returns what each token of a text spells: joined they are the text, except for characters of several tokens.

    A decoder may drop a space at the beginning of a text (SentencePiece's does), so each token but the first is decoded
    after a copy of itself.
    """
    listed = list(ids)
    inside = {i: tokenizer.decode([i, i])[len(tokenizer.decode([i])) :] for i in set(listed[1:])}
    return [tokenizer.decode(listed[:1]), *(inside[i] for i in listed[1:])] if listed else []


class StreamDecoder:
    """Decodes ids one at a time: a character is returned as soon as its last byte is there, and all that is returned, joined,
    is the decoding of all the ids.

    before: the ids that the text continues; their text is not returned.
    """

    def __init__(self, tokenizer: Tokenizer, before: Iterable[int] = ()) -> None:
        self.tokenizer = tokenizer
        self._context: list[int] = []  # decoded with what follows, since the beginning of a text is decoded differently
        self._held: list[int] = []  # the tokens since all text was last returned
        self._given = 0  # how many characters of the text of both were
        for token in before:
            self.push(token)

    def push(self, token: int) -> str:
        """Returns the text that this token completes, possibly none."""
        self._held.append(token)
        text = self.tokenizer.decode([*self._context, *self._held])
        # U+FFFD at the end may be a character whose other bytes are still to come.
        whole = max(len(text.rstrip("\ufffd")), self._given)
        new = text[self._given : whole]
        self._given = whole
        if whole >= len(text):
            self._settle()
        return new

    def finish(self) -> str:
        """Returns the text that is left."""
        left = self.tokenizer.decode([*self._context, *self._held])[self._given :]
        self._settle()
        return left

    def _settle(self) -> None:
        """Starts again after all text was returned. A token that spells something alone is the better context: a decoder may
        take the bytes of neighbouring characters for one broken sequence."""
        if len(self._held) == 1 or not self._context:
            self._context = self._held
        self._held, self._given = [], len(self.tokenizer.decode(self._context))
