"""The two translators that only count, on data small enough to work out by hand."""

import math

import numpy as np
import pytest

from tinylm.errors import DataError
from tinylm.models.translation_baselines import NearestSentence, WordLexicon, words_of


def test_words() -> None:
    assert words_of("God’s light, he said: “Don't!”") == ["god’s", "light", ",", "he", "said", ":", "“", "don't", "!", "”"]


def test_the_nearest_sentence_by_hand() -> None:
    pairs = [("the cat", "el gato"), ("the dog", "el perro"), ("the the bird", "el ave")]
    nearest = NearestSentence(pairs)
    rare = math.log(4 / 2) + 1  # of cat, dog, bird; `the` occurs everywhere, with weight ln(4/4) + 1 = 1
    cosines = {"el gato": 1 / math.hypot(1, rare), "el ave": 2 / math.hypot(2, rare)}
    assert nearest.translate(["the", "The DOG!", "bird cat cat"]) == [max(cosines, key=cosines.__getitem__), "el perro", "el gato"]
    vectors = nearest._unit(nearest._counts(["the the bird", "unknown"])).toarray()
    expected = np.zeros(4)
    expected[[nearest._ids["the"], nearest._ids["bird"]]] = np.array([2, rare]) / math.hypot(2, rare)
    np.testing.assert_allclose(vectors, [expected, np.zeros(4)], rtol=1e-12)
    assert nearest.translate(["unknown"]) == ["el gato"]  # all are equally far: the first is taken


def plain_model_1(pairs: list[tuple[list[str], list[str]]], iterations: int) -> dict[tuple[str, str], float]:
    """Returns Model 1 computed by Brown et al.'s loops, word by word."""
    t = {(f, e): 1.0 for source, target in pairs for f in target for e in ["", *source]}
    for _ in range(iterations):
        counts = dict.fromkeys(t, 0.0)
        for source, target in pairs:
            for f in target:
                total = sum(t[f, e] for e in ["", *source])
                for e in ["", *source]:
                    counts[f, e] += t[f, e] / total
        t = {(f, e): c / sum(d for (_, e2), d in counts.items() if e2 == e) for (f, e), c in counts.items()}
    return t


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_model_1_against_plain_loops(iterations: int) -> None:
    pairs = [("the house", "la casa"), ("the book", "el libro"), ("a book a", "un libro"), ("the the red house", "la la casa roja")]
    lexicon = WordLexicon(pairs, iterations)
    expected = plain_model_1([(s.split(), t.split()) for s, t in pairs], iterations)
    for (f, e), p in expected.items():
        assert lexicon.probability(f, e) == pytest.approx(p, rel=1e-12)
    assert lexicon.probability("roja", "book") == 0
    assert lexicon.probability("roja", "green") == 0


def test_one_iteration_by_hand() -> None:
    """Two pairs of one word each: f is shared between e and NULL."""
    lexicon = WordLexicon([("one", "uno"), ("two", "dos")], 1)
    assert lexicon.probability("uno", "one") == 1
    assert lexicon.probability("uno", "") == 0.5


def test_word_for_word() -> None:
    pairs = [("the house", "la casa"), ("the book", "el libro"), ("a book", "un libro"), ("a house", "una casa"), (".", ".")]
    lexicon = WordLexicon(pairs, 10)
    assert lexicon.translate(["House, book.", "the Green BOOK", ""]) == ["casa, libro.", f"{lexicon._word('the')} Green libro", ""]
    assert lexicon._word("the") in ("la", "el")


def test_no_pairs_are_refused() -> None:
    for kind in (NearestSentence, WordLexicon):
        with pytest.raises(DataError, match="no pairs"):
            kind([])
