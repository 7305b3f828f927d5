"""A validation part that is unlike the training part is told; ordinary texts are not."""

import math
from pathlib import Path

import pytest

from tinylm.data import open_corpus
from tinylm.data.corpora import PAIRS, TEXTS
from tinylm.data.likeness import Likeness, find_likeness

SHAKESPEARE = TEXTS["tinyshakespeare"].read_text(encoding="utf-8")
ENGLISH, SPANISH = ("\n".join(side) for side in zip(*(line.split("\t")[1:3] for line in
                    PAIRS["web-rv1909"].read_text(encoding="utf-8").splitlines()), strict=True))  # fmt: skip


def between(train: str, validation: str) -> Likeness:
    return find_likeness([train], len(train), [validation], len(validation))


def test_the_loss_is_that_of_the_counts() -> None:
    """By hand: in 800 characters of 'ab', 400 times b comes after a and 399 times a after b; each of the eight stretches takes 50 and 49
    of these away. Both characters have the probability 1/2, and the prior is worth 5."""
    found = between("ab" * 400, "a" * 100)
    assert found.validation == pytest.approx(-math.log((0 + 5 / 2) / (400 + 5)))
    assert found.mean == pytest.approx(-math.log((350 + 5 / 2) / (350 + 5)))
    assert found.deviation == pytest.approx(0, abs=1e-12)
    assert found.unlike
    assert not between("ab" * 400, "ab" * 50).unlike


def test_what_training_lacks_is_counted() -> None:
    """Two in a hundred are too many, unless as many are new in each stretch of the training part."""
    for new, expected in ((19, False), (25, True)):
        found = between(SHAKESPEARE[:20_000], SHAKESPEARE[20_000 : 21_000 - new] + "😀" * (new - 5) + "é" * 5)
        assert found.unseen == pytest.approx(new / 1000)
        assert found.examples == "😀é"
        assert found.usual_unseen[0] < 0.001
        assert found.unlike is expected
    names = iter(range(0x4E00, 0x9FFF))
    rare = "".join(chr(next(names)) if i % 30 == 0 else c for i, c in enumerate(SHAKESPEARE[:33_000]))
    found = between(rare[:30_000], rare[30_000:])
    assert found.unseen == pytest.approx(1 / 30)
    assert found.usual_unseen[0] == pytest.approx(1 / 30, rel=0.02)
    assert not found.unlike


@pytest.mark.parametrize("size", [2_000, 20_000, 400_000])
def test_emoji_other_languages_and_code_are_unlike(size: int) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
    emoji = "".join(chr(0x1F600 + i % 60) for i in range(500))
    for other in (emoji, "".join(chr(0x391 + ord(c) % 24) for c in SHAKESPEARE[:500]), SPANISH[:5_000], code[:5_000]):
        found = between(SHAKESPEARE[:size], other)
        assert found.unlike, (other[:20], found)
        assert found.validation - found.mean > 0.7


def test_texts_of_one_language_are_alike() -> None:
    """Plays and verses of the same language, both ways; parts of one text; and a text that is as mixed as what trains."""
    for train, other in [(SHAKESPEARE, ENGLISH), (ENGLISH, SHAKESPEARE), (SPANISH[:300_000], SPANISH[300_000:])]:
        for size in (200, 2_000, 50_000):
            found = between(train[:300_000], other[:size])
            assert not found.unlike, found
    mixed = "".join(SHAKESPEARE[i : i + 3000] + SPANISH[i : i + 3000] for i in range(0, 90_000, 3000))
    assert not between(mixed, SPANISH[300_000:310_000]).unlike


def test_every_tenth_of_the_shipped_texts_is_like_the_rest() -> None:
    for text in (SHAKESPEARE, ENGLISH, SPANISH):
        size = len(text) // 10
        for i in range(10):
            found = between(text[: i * size] + text[(i + 1) * size :], text[i * size : (i + 1) * size])
            assert not found.unlike, (i, found)
            assert found.validation - found.mean < 0.25
    corpus = open_corpus("tinyshakespeare")
    assert corpus.doubt() == ""
    assert corpus.to_json()["likeness"]["unlike"] is False


def test_texts_too_short_to_tell() -> None:
    for short in (between("ab" * 399, "x" * 1000), between("ab" * 1000, "x" * 99)):
        assert repr(short) == repr(Likeness())  # equal but for NaN, which Python 3.13 does not take for itself
    assert Likeness().to_json() == {}
    assert not Likeness().unlike
    assert between("ab" * 400, "x" * 100).unlike


def test_long_texts_are_counted_in_part() -> None:
    pieces = [SHAKESPEARE[i : i + 10_000] for i in range(0, 500_000, 10_000)]
    some = find_likeness(pieces, 5 * 1_000_000, [SHAKESPEARE[500_000:600_000]], 100_000)  # a fifth of each piece
    whole = find_likeness(pieces, 500_000, [SHAKESPEARE[500_000:600_000]], 100_000)
    assert some.validation == pytest.approx(whole.validation, abs=0.1)
    assert some.mean == pytest.approx(whole.mean, abs=0.1)
    assert some.validation != whole.validation


def test_a_corpus_says_it_with_a_remedy(tmp_path: Path) -> None:
    """One file of emoji in a folder of English: it is the only one that fits into a tenth, and validates."""
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(SHAKESPEARE[i * 20_000 : (i + 1) * 20_000], encoding="utf-8")
    (tmp_path / "emoji.txt").write_text("".join(chr(0x1F600 + i % 60) for i in range(600)), encoding="utf-8")
    corpus = open_corpus(tmp_path)
    said = corpus.doubt()
    assert said.startswith("the validation part (emoji.txt) is unlike the training part: counts of pairs of characters give it 1")
    assert "99.8% of its characters, such as '😀" in said
    assert said.endswith("name a file that is like the training text (valid=FILE), or put more such files into the data")
    assert corpus.to_json()["likeness"]["unlike"] is True
    assert open_corpus(tmp_path / "1.txt", valid=tmp_path / "2.txt").doubt() == ""
