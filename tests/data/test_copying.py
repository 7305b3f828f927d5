"""What a translator copies: spans of a source, placeholders in ids, and the pairs that teach them."""

import dataclasses
import re
import string
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tinylm.data.copying import SLOTS, KnownText, copied_pairs, matched_words
from tinylm.data.pairs import Vocabulary
from tinylm.errors import DataError

KNOWN = KnownText(
    frozenset(string.ascii_letters + string.digits + " ,.:;’-!?“”"),
    frozenset(re.findall(r"\S+", "and said the king to a o s don t don’t house of two-edged two edged 7 moses example org in b c d be")),
    names=True,
)
NUMBERS = [(f"in {n} days", f"en {n} días") for n in (12, 12, 30)]
PAIRS = [
    *NUMBERS, ("the 7 days", "los siete días"), ("Moses said to the king", "dijo Moisés al rey"), ("the king", "el rey"),
    ("the old king", "el viejo rey"), ("Zorblax said", "dijo Zorblax"),
]  # fmt: skip
LEXICON = {"king": "rey", "moses": "Moisés", "days": "días", "said": "dijo", "the": "el"}


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("the king said", []),
        ("THE KING said to MOSES", []),  # known in another case
        ("in 4711 the king", ["4711"]),
        ("7 and 77", ["77"]),  # 7 is known
        ("to 3.14, 1,000.50; 12:30-13:45.", ["3.14", "1,000.50", "12:30-13:45"]),
        ("a 4711-A of $20, -5, 20€, 5°C and 50%!", ["4711-A", "$20", "-5", "20€", "5°C", "50%"]),
        ("to name@example.org or https://example.org/a?b=1&c=2.", ["name@example.org", "https://example.org/a?b=1&c=2"]),
        ("Zorblax said to Quimby: the zorblax", ["Zorblax", "Quimby"]),  # without a capital it is no name
        ("Zorblax Quimby said", ["Zorblax Quimby"]),
        ("the Zorblax’s house, O’Brien’s and the two-edged Moses-Zorblax-like house", ["Zorblax", "O’Brien", "Moses-Zorblax"]),
        ("don’t said Zorblax", ["Zorblax"]),
        ("the café of Zürich", ["café", "Zürich"]),
        ("the king 🙂🙂 said 👩\u200d🍳", ["🙂🙂", "👩\u200d🍳"]),
        ("漢字 はい said", ["漢字 はい"]),
        ('"the king"', ['"', '"']),
        ("“Zorblax” said", ["Zorblax"]),
        ("", []),
    ],
)
def test_what_is_copied(text: str, copied: list[str]) -> None:
    assert [text[start:stop] for start, stop in KNOWN.spans(text)] == copied


def test_where_a_capital_is_no_sign_of_a_name() -> None:
    known = dataclasses.replace(KNOWN, names=False)
    assert known.spans("the Zorblax said") == []
    assert known.spans("the Zorblax 4711") == [(12, 16)]


def test_in_lower_case_a_capital_still_tells_a_name() -> None:
    known = dataclasses.replace(KNOWN, characters=frozenset(string.ascii_lowercase + " "), lower=True)
    assert known.spans("The King and Zorblax") == [(13, 20)]


def test_unknown_spaces_and_apostrophes_are_read_as_known_ones() -> None:
    assert KNOWN.readable("don't\u00a0the\tking’s") == "don’t the king’s"
    plain = dataclasses.replace(KNOWN, characters=frozenset("abc' "))
    assert plain.readable("a’b'\u2009c") == "a'b' c"
    neither = dataclasses.replace(KNOWN, characters=frozenset("abc"))
    assert neither.readable("a’b") == "a’b"


def test_what_is_known_of_pairs() -> None:
    known = KnownText.of(PAIRS)
    assert known.characters == set("".join(source for source, _ in PAIRS))
    assert known.words == {"in", "days", "the", "7", "moses", "said", "to", "king", "old", "zorblax"}  # 12 and 30 are left to copying
    assert known.names
    assert not KnownText.of([("der Hund und die Katze im Haus", "the dog and the cat at home")]).names
    assert KnownText.of([("The DOG", "x")], lower=True).characters == set("the dog")
    assert KnownText.from_json(known.to_json()) == known
    assert KnownText.of([]).spans("x") == [(0, 1)]


@pytest.mark.parametrize(
    "record",
    [None, {}, {"characters": "ab", "words": ["a"], "names": True}, {"characters": "ab", "words": "a", "names": 1}, {"characters": "ab"}],
)
def test_damaged_records_are_refused(record: Any) -> None:
    with pytest.raises(DataError, match="not a record of known text"):
        KnownText.from_json(record)


# ---------------------------------------------------------------- placeholders among ids


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train(PAIRS, 300, copying=True)


def test_the_ids_of_placeholders(vocabulary: Vocabulary) -> None:
    assert vocabulary.placeholders == range(vocabulary.eos + 1, vocabulary.eos + 1 + SLOTS)
    assert vocabulary.size == vocabulary.eos + 1 + SLOTS
    first, second = vocabulary.placeholders[:2]
    ids, copied = vocabulary.read("in 4711 days the Żorbląx said")
    assert copied == ["4711", "Żorbląx"]
    pieces = vocabulary.tokenizer.encode
    np.testing.assert_array_equal(ids, [*pieces("in "), first, *pieces(" days the "), second, *pieces(" said"), vocabulary.eos])
    assert vocabulary.decode(ids, copied) == "in 4711 days the Żorbląx said"
    assert vocabulary.decode([second, first, vocabulary.eos], copied) == "Żorbląx 4711"  # words stay apart
    assert vocabulary.decode([first, first], copied) == "4711"  # there is no second one
    assert vocabulary.decode([first]) == ""
    assert vocabulary.required(copied) == {first: 1, second: 1, second + 1: 0, second + 2: 0}


def test_more_spans_than_placeholders(vocabulary: Vocabulary) -> None:
    """Placeholders are used again, and come back in their order."""
    texts = [str(n) for n in range(100, 106)]
    source = " days ".join(texts)
    ids, copied = vocabulary.read(source)
    assert copied == texts
    counts = Counter(i for i in ids.tolist() if i in vocabulary.placeholders)
    assert dict(counts) == vocabulary.required(copied) == dict(zip(vocabulary.placeholders, [2, 2, 1, 1], strict=True))
    assert vocabulary.decode(ids, copied) == source


def test_a_target_with_the_spans_of_its_source(vocabulary: Vocabulary) -> None:
    first, second = vocabulary.placeholders[:2]
    ids = vocabulary.write("el 47 y el 4711", ["4711", "47"])
    assert [i for i in ids.tolist() if i in vocabulary.placeholders] == [second, first]
    assert vocabulary.decode(ids, ["4711", "47"]) == "el 47 y el 4711"
    assert not set(vocabulary.write("el rey", ["4711"]).tolist()) & set(vocabulary.placeholders)


def test_without_copying_ids_are_those_of_the_first_runs(vocabulary: Vocabulary) -> None:
    old = Vocabulary.from_json(vocabulary.tokenizer, None)
    assert (old.size, len(old.placeholders)) == (old.eos + 1, 0)
    ids, copied = old.read("in 4711 days")
    assert copied == []
    np.testing.assert_array_equal(ids, [*old.tokenizer.encode("in 4711 days"), old.eos])
    assert old.required([]) == {}
    assert old.most_tokens(7) is None


def test_lower_case(vocabulary: Vocabulary) -> None:
    lower = Vocabulary.train(PAIRS, 300, copying=True, lower=True)
    assert lower.decode(lower.encode("The KING")) == "the king"
    ids, copied = lower.read("The KING and Zorro")
    assert copied == ["Zorro"]
    assert lower.decode(ids, copied) == "the king and Zorro"


def test_the_longest_translation(vocabulary: Vocabulary) -> None:
    again = Vocabulary.from_json(vocabulary.tokenizer, {"length_ratio": 1.5, "known": KNOWN.to_json()})
    assert again.known == KNOWN
    assert [again.most_tokens(n) for n in (1, 10)] == [13, 40]
    short = Vocabulary.from_json(vocabulary.tokenizer, {"length_ratio": 0.1, "known": None})
    assert short.most_tokens(50) == 50  # which holds every placeholder of the source
    for record in ({}, [], {"length_ratio": -1.0, "known": None}, {"length_ratio": "2", "known": None}, {"length_ratio": 1.0}):
        with pytest.raises(DataError, match="not the record of a vocabulary"):
            Vocabulary.from_json(vocabulary.tokenizer, record)


def test_half_a_surrogate_pair_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(DataError, match="is no character"):
        vocabulary.read("the \ud800 king")


# ---------------------------------------------------------------- pairs to learn from


def test_words_and_their_translations() -> None:
    def matched(source: str, target: str) -> list[tuple[str, str]]:
        return [(source[a:b], target[c:d]) for (a, b), (c, d) in matched_words(source, target, LEXICON)]

    assert matched("Moses said to the king, the 12", "y dijo Moisés al rey los 12") == [
        ("Moses", "Moisés"), ("said", "dijo"), ("king", "rey"), ("12", "12"),
    ]  # fmt: skip
    assert matched("a King and a king", "el rey") == [("King", "rey")]  # of two words for one, the first
    assert matched("the king", "el rey del rey") == [("the", "el")]
    assert matched("a Zorblax a no", "Zorblax no") == [("Zorblax", "Zorblax")]  # a small word may look alike and mean another thing


def test_copied_pairs() -> None:
    pairs = [pair for pair in PAIRS for _ in range(10)]
    made = copied_pairs(pairs, LEXICON, 0.5, seed=3)
    assert len(made) == 40
    assert made == copied_pairs(pairs, LEXICON, 0.5, seed=3)
    assert made != copied_pairs(pairs, LEXICON, 0.5, seed=4)
    used: Counter[int] = Counter()
    for (source, its), (target, theirs) in made:
        assert (source, target) in PAIRS
        assert 1 <= len(its) == len(theirs) <= 3
        assert [number for *_, number in its] == [(its[0][2] + k) % SLOTS for k in range(len(its))]
        for slots in (its, theirs):
            assert slots == sorted(slots)
        places = {number: target[start:stop] for start, stop, number in theirs}
        for start, stop, number in its:
            word = source[start:stop]
            assert places[number] in (word, LEXICON.get(word.lower()))
            used[number] += 1
    assert sorted(used) == list(range(SLOTS))
    assert copied_pairs([("a b", "c d")] * 9, LEXICON, 1.0, seed=0) == []
    assert copied_pairs(PAIRS, LEXICON, 0.0, seed=0) == []
