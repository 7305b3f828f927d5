"""What a word is in scripts whose vowels and accents are marks of their own."""

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from old_runs.measure import RUNS

from tinylm.data.labelled import LabelledTexts, encode_words, lowered_words, train_words
from tinylm.data.overlap import find_overlap
from tinylm.data.tokenizers import WordTokenizer, from_json
from tinylm.data.words import WORD_PATTERNS, compiled, marks, words_of
from tinylm.files.json_files import read_json
from tinylm.models.translation_baselines import NearestSentence, WordLexicon
from tinylm.models.translation_baselines import words_of as words_and_signs
from tinylm.pretrained.tokenizer_export import as_pretrained
from tinylm.train.tasks.classifier_config import default_config
from tinylm.train.tasks.classifier_run import ClassifierRun

CASES = [
    ("क्या आपके पास है?", ["क्या", "आपके", "पास", "है", "?"]),  # Hindi: vowel signs and the virama
    ("ที่นี่ น้ำ", ["ที่นี่", "น้ำ"]),  # Thai: vowels above and tones
    ("مُحَمَّدٌ رَسُولُ", ["مُحَمَّدٌ", "رَسُولُ"]),  # pointed Arabic
    ("בְּרֵאשִׁית בָּרָא צה״ל", ["בְּרֵאשִׁית", "בָּרָא", "צה״ל"]),  # Hebrew with its points
    ("un e\u0301te\u0301, l'e\u0301te\u0301", ["un", "e\u0301te\u0301", ",", "l'e\u0301te\u0301"]),  # decomposed é
    ("می\u200cخواهم", ["می\u200cخواهم"]),  # Persian: a non-joiner within a word
    ("ന്\u200d ക്ഷ", ["ന്\u200d", "ക്ഷ"]),  # Malayalam: a joiner at its end
    ("தமிழ் বাংলা ភាសា", ["தமிழ்", "বাংলা", "ភាសា"]),
    ("col·lecció Donau\u00addampf don’t O＇Neil", ["col·lecció", "Donau\u00addampf", "don’t", "O＇Neil"]),
    ("I ❤\ufe0f it 👩\u200d🍳", ["I", "❤\ufe0f", "it", "👩\u200d🍳"]),  # the marks of an emoji are no word's
    ("a · 'b' c·", ["a", "·", "'", "b", "'", "c", "·"]),
]


@pytest.mark.parametrize(("text", "words"), CASES)
def test_words_keep_their_marks(text: str, words: list[str]) -> None:
    assert words_of(text) == words
    tokenizer = WordTokenizer.train(text, 1)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.decode([i]).strip() for i in ids] == words
    assert lowered_words(text) == "".join(f" {w}" for w in words_of(text.lower()))
    assert lowered_words(text).split() == [w.lower() for w in words]
    library = as_pretrained(tokenizer)
    assert library.encode(text).tolist() == ids.tolist()


def test_marks_are_all_that_unicode_has() -> None:
    every = {chr(n) for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)).startswith("M")}
    assert set(compiled(rf"[{marks()}]").findall("".join(map(chr, range(sys.maxunicode + 1))))) == every
    assert not any(mark.isalnum() for mark in every)


def test_text_without_marks_is_cut_as_before() -> None:
    text = "It's “God’s” light_2, he said: été?! 日本語 3.14\n\n  \t(ß) x'' 'y"
    new, old = (compiled(pattern).findall(text) for pattern in WORD_PATTERNS)
    assert new == old


def test_old_tokenizers_keep_their_words() -> None:
    """A record without a pattern is of the first runs, in which a mark ended a word."""
    text = "पास e\u0301t"
    old = from_json({"kind": "word", "words": [" प", "ा", "स", " e", "\u0301", "t", " \u0301", " स", " t"]})
    assert old.encode(" " + text).tolist() == [1, 2, 3, 4, 5, 6]
    assert encode_words(old, text).tolist() == [1, 0, 8, 4, 7, 9]  # the mark ा alone, after a space, was not among the words
    again = from_json(old.to_json())
    assert encode_words(again, text).tolist() == encode_words(old, text).tolist()
    assert as_pretrained(old).encode(" " + text).tolist() == [1, 2, 3, 4, 5, 6]
    new = train_words([text], 1)
    assert sorted(encode_words(from_json(new.to_json()), text).tolist()) == [1, 2]


def test_a_resumed_classifier_keeps_its_words(tmp_path: Path) -> None:
    texts = [f"पास {'good' if i % 2 else 'bad'} word{i}" for i in range(20)]
    data = LabelledTexts(texts, np.arange(20) % 2, ("0", "1"), 0, "")
    config = default_config("bag")
    run = ClassifierRun(config, data, tmp_path / "run")
    run.stop_requested = True
    assert run.train() is None
    path = tmp_path / "run" / "config.json"
    record = read_json(path)
    del record["tokenizer"]["pattern"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinylm.train.tasks.classification.train_words", None)  # no new words are learned
        resumed = ClassifierRun(config, data, tmp_path / "run", resume=True)
    assert resumed.task.part.tokenizer.to_json()["pattern"] == WORD_PATTERNS[-1]
    assert read_json(RUNS / "bag-classifier" / "config.json")["tokenizer"].get("pattern") is None


def test_lines_that_differ_in_vowel_signs_are_different() -> None:
    """Without its marks a Hindi line would be the same as another one."""
    ki, ka = "की बात " * 10, "का बात " * 10
    assert find_overlap([ka + "\n"], [ki + "\n"]).lines_shared == 0
    assert find_overlap([ka + "\n"], [ka + "!\n"]).lines_shared == 1


def test_the_counting_translators_know_whole_words() -> None:
    assert words_and_signs("क्या है?! e\u0301 ❤\ufe0f") == ["क्या", "है", "?", "!", "e\u0301", "❤\ufe0f"]
    pairs = [("पास", "near"), ("पानी", "water"), ("पानी पास", "water near")]
    assert NearestSentence(pairs).translate(["पानी"]) == ["water"]
    assert WordLexicon(pairs).translate(["पानी पास"]) == ["water near"]


def test_lines_are_compared_by_their_letters_in_ascii_and_beyond() -> None:
    plain = "It's 12 o'clock, and all the cats_of the town are asleep by now!"
    curly = plain.replace("'", "’").replace("12", "١٢").upper() + "…"
    assert plain.isascii()
    assert not curly.isascii()
    for train, validation in ((plain, curly), (curly, plain), (plain, plain), (curly, curly)):
        overlap = find_overlap([train + "\n"], [validation + "\n"])
        assert (overlap.lines_compared, overlap.lines_shared) == (1, 1)
    other = plain.replace("cats", "cat\u0301s")
    assert find_overlap([plain], [other]).lines_shared == 0
