"""How likely the spelling of a word is: compared with the formula over plain dictionaries, and what it does to a loss."""

import math
from collections import Counter

import numpy as np
import pytest

from tinylm.data.spelling import MOST_WORDS, ORDER, Spelling
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, WordTokenizer, from_json
from tinylm.data.unknown import Unknown, mean_bytes, same_tokens, unknown_in
from tinylm.data.words import count_words
from tinylm.errors import ConfigError, DataError

WORDS = [" zebra", " zebras", " zoo", "naïve", " 1999", " zz", "!"]
END = 256


def symbols(word: str) -> list[int]:
    return [END] * (ORDER - 1) + [*word.encode()] + [END]


def next_symbol(learned: list[str], before: list[int]) -> np.ndarray:
    """Returns p(c | before) of each of the 257 symbols, by the formula of Witten and Bell, from counts in dictionaries."""
    p = np.full(257, 1 / 257)
    for n in range(1, ORDER + 1):
        context = tuple(before[len(before) - n + 1 :])
        counts = Counter(
            s[i] for s in map(symbols, learned) for i in range(ORDER - 1, len(s)) if tuple(s[i - n + 1 : i]) == context
        )  # fmt: skip
        if counts:
            seen = np.array([counts[c] for c in range(257)])
            p = (seen + len(counts) * p) / (seen.sum() + len(counts))
    return p


@pytest.mark.parametrize("word", [" zebra", " zebu", "q", "", "ïé", "\n", " z" * 9, "日本"])
def test_a_spelling_by_the_formula(word: str) -> None:
    expected = 0.0
    for i in range(ORDER - 1, len(symbols(word))):
        p = next_symbol(WORDS, symbols(word)[:i])
        assert p.sum() == pytest.approx(1, abs=1e-12)
        expected += math.log(p[symbols(word)[i]])
    assert Spelling(WORDS).log_probabilities([word])[0] == pytest.approx(expected, rel=1e-12)


def test_several_words_are_each_what_they_are_alone() -> None:
    spelling, words = Spelling(WORDS), [" zebra", "xyz", "", " zebra"]
    together = spelling.log_probabilities(words)
    assert together.tolist() == [spelling.log_probabilities([word])[0] for word in words]
    assert spelling.log_probabilities([]).shape == (0,)
    assert together[0] > together[1] + 5, "a word that was learned from, and one unlike any"


def test_words_to_learn_from_are_limited_and_checked() -> None:
    many = [f"w{i}" for i in range(2 * MOST_WORDS + 5)]
    assert Spelling(many).words == many[::3]
    for bad in ([], None, "words", [1]):
        with pytest.raises(DataError, match="expected a list of words"):
            Spelling(bad)  # type: ignore[arg-type]


def test_which_words_spelling_is_learned_from() -> None:
    text = "b b b a a c c d e"
    assert count_words(text, 2, r"\S")[1] == ["d", "e"]
    assert count_words(text, 3, r"\S")[1] == ["a", "c", "d", "e"]
    assert count_words(text, 1, r"\S") == ({"b": 3, "a": 2, "c": 2, "d": 1, "e": 1}, ["d", "e"])
    assert count_words("b b a a", 1, r"\S")[1] == ["a", "b"], "all, where no word is rare"
    with pytest.raises(ConfigError, match="min_count is 0"):
        count_words(text, 0, r"\S")
    with pytest.raises(DataError, match="no word of the text occurs 4 times"):
        count_words(text, 4, r"\S")


# ---------------------------------------------------------------- of a tokenizer


def test_unknown_words_of_a_text() -> None:
    tokenizer = WordTokenizer.train("the cat, the cat, the dog and the fox", 2)
    text = "the owl, the dog"
    ids = tokenizer.encode(text)
    found = unknown_in(tokenizer, text, ids)
    assert tokenizer.spelling is not None
    nats = -sum(tokenizer.spelling.log_probabilities([" owl", " dog", "the"]))
    assert (found.tokens, found.unknown, found.own) == (5, 3, 0)
    assert found.nats == pytest.approx(nats, rel=1e-12)
    assert found.per_token == pytest.approx(nats / 5, rel=1e-12)
    rest = unknown_in(tokenizer, text, ids, skipped=1)
    assert (rest.tokens, rest.unknown) == (4, 2), "the first token is not scored"
    assert mean_bytes(tokenizer, text, ids) == (len(text) - len("the")) / 4
    assert "3 of 5 tokens are unknown words" in found.note()
    assert f"{found.per_token:.4f} nats/token" in found.note()


def test_nothing_is_unknown_to_characters_and_bytes() -> None:
    for tokenizer in (CharTokenizer("abc"), BpeTokenizer.train("", 256)):
        assert unknown_in(tokenizer, "abc", tokenizer.encode("abc"), 1) == Unknown(2, 0, 0.0)
    assert Unknown(2).note() == ""
    assert Unknown(0).per_token == 0


def test_a_tokenizer_of_an_older_run_says_that_it_cannot_spell() -> None:
    tokenizer = WordTokenizer.train("the cat, the cat and the dog", 2)
    record = tokenizer.to_json()
    again = from_json(record)
    assert again.to_json() == record
    old = from_json({name: value for name, value in record.items() if name != "rare"})
    assert isinstance(old, WordTokenizer)
    assert "rare" not in old.to_json()
    found = unknown_in(old, " dog", old.encode(" dog"))
    assert found == Unknown(1, 1, None)
    assert found.per_token == 0
    assert "whose letters do not count" in found.note()
    assert same_tokens(old, tokenizer)
    assert not same_tokens(old, WordTokenizer([" the"]))
    with pytest.raises(DataError, match="expected a list of words"):
        from_json({**record, "rare": "abc"})
