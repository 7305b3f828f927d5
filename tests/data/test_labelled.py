"""Labelled sentences: reading, words, the five splits."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.data.labelled import (
    MAX_WORDS,
    SPLITS,
    encode_words,
    load_labelled,
    load_parts,
    lowered_words,
    pad_texts,
    split_labelled,
    train_words,
)
from tinylm.errors import ConfigError, DataError


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "own.tsv"
    path.write_text(content, encoding="utf-8")
    return path


def test_the_shipped_sentences() -> None:
    data = load_labelled("uci-sentences")
    assert (len(data.texts), data.labels.sum(), data.names, data.skipped) == (2982, 1490, ("0", "1"), 0)
    assert data.texts[1] == "Good case, Excellent value."
    assert data.labels[1] == 1


def test_two_words_as_labels_and_a_third_column(tmp_path: Path) -> None:
    data = load_labelled(written(tmp_path, "pos\tfine \tshop\r\nneg\t poor\npos\tgood"))
    assert data.texts == ["fine", "poor", "good"]
    assert data.names == ("neg", "pos")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.unread == "what follows the second tab is not read, in 1 of 3 lines, the first being line 1: 'shop'"
    assert load_labelled(written(tmp_path, "pos\tfine\t \t\nneg\tpoor\n")).unread == ""
    assert load_labelled("uci-sentences").unread == ""


@pytest.mark.parametrize("bad", ["\tfine", "aa\t ", "aa"])
def test_a_line_that_cannot_be_used_names_no_class(bad: str, tmp_path: Path) -> None:
    """Nor would one that sorts before the second class."""
    data = load_labelled(written(tmp_path, "a\tgood\n" * 98 + f"{bad}\nb\tpoor\n"))
    assert (data.names, data.labels.sum(), len(data.texts), data.skipped) == (("a", "b"), 1, 99, 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a line without a tab", "line 101 has no tab"),
        ("1\t ", "line 101 has no text"),
        ("\tfine", "line 101 has no label"),
        ("2\tfine", "line 101 has the label '2', expected '0' or '1' (a further class needs 3 texts)"),
    ],
)
def test_one_bad_line_in_a_hundred_is_skipped_and_counted(tmp_path: Path, line: str, problem: str) -> None:
    good = "1\tgood\n0\tbad\n" * 50
    data = load_labelled(written(tmp_path, good + line + "\n"))
    assert (len(data.texts), data.skipped, data.first_skipped) == (100, 1, problem)
    with pytest.raises(DataError, match=rf"2 of the 102 lines of .* cannot be used, more than 1 %: {re.escape(problem)}"):
        load_labelled(written(tmp_path, good + line + "\n" + line + "\n"))


def test_blank_lines_are_not_counted_among_the_bad_ones(tmp_path: Path) -> None:
    """They were, up to a point: a blank line is easily left by an editor, and says nothing about the others."""
    data = load_labelled(written(tmp_path, "1\tgood\n\n0\tbad\n\n \n"))
    assert (len(data.texts), data.skipped) == (2, 0)
    assert data.notes == (f"{tmp_path / 'own.tsv'}: 3 blank lines are passed over, the first being line 2",)


def test_a_rare_third_word_is_not_a_label(tmp_path: Path) -> None:
    data = load_labelled(written(tmp_path, "pos\tgood\nneg\tbad\n" * 60 + "meh\tso so\n"))
    assert (data.names, data.skipped) == (("neg", "pos"), 1)
    assert data.first_skipped == "line 121 has the label 'meh', expected 'neg' or 'pos' (a further class needs 3 texts)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no tab here\nnor here\n", "no line that can be used, expected 'label TAB text': line 1 has no tab"),
        ("1\tgood\n1\tfine\n", "one class only: every line is labelled '1'"),
        ("pos\tgood\npos\tfine\n", "one class only: every line is labelled 'pos'"),
        ("\n \n", "is empty"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_labelled(written(tmp_path, content))


def test_a_missing_file() -> None:
    with pytest.raises(DataError, match="no such data: 'nowhere' is neither a file nor one of uci-sentences"):
        load_labelled("nowhere")


def test_the_splits_are_fixed() -> None:
    """The same positions on every machine and in every version."""
    firsts = [split_labelled(2982, k)[0][:4].tolist() for k in range(SPLITS)]
    assert firsts == FIRSTS
    for k in range(SPLITS):
        train, test = split_labelled(2982, k)
        assert (len(train), len(test)) == (2385, 597)
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(2982))


FIRSTS = [[1103, 2116, 82, 688], [2855, 567, 1436, 1198], [2447, 1130, 2216, 1271], [2633, 1584, 1235, 1422], [355, 231, 200, 1512]]


def test_bad_splits() -> None:
    with pytest.raises(ConfigError, match="split 5: expected 0 to 4"):
        split_labelled(100, 5)
    with pytest.raises(DataError, match="9 labelled texts: expected at least 10"):
        split_labelled(9, 0)


def test_a_word_is_one_token_wherever_it_stands() -> None:
    assert lowered_words("Isn't it GOOD?! (Good)") == " isn't it good ?! ( good )"
    words = train_words(["Good, good.", "(bad) Good"], min_count=1)
    assert words.words == ["<unk>", " good", " (", " )", " ,", " .", " bad"]
    assert encode_words(words, "BAD good unseen").tolist() == [6, 1, 0]
    assert train_words(["a a b"], min_count=2).words == ["<unk>", " a"]


def test_long_and_empty_texts() -> None:
    words = train_words(["a b"], min_count=1)
    assert encode_words(words, "b " * 1000).tolist() == [2] * MAX_WORDS
    assert MAX_WORDS == 500
    with pytest.raises(DataError, match="the text is empty"):
        encode_words(words, " \t")
    with pytest.raises(DataError, match="not valid Unicode"):
        encode_words(words, "a \udc80")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_padding_keeps_every_text(lengths: list[int]) -> None:
    texts = [np.arange(1, n + 1) for n in lengths]
    ids, given_lengths = pad_texts(texts)
    assert ids.shape == (len(lengths), max(lengths))
    assert given_lengths.tolist() == lengths
    for row, text in zip(ids, texts, strict=True):
        np.testing.assert_array_equal(row[: len(text)], text)
        assert not row[len(text) :].any()


# ---------------------------------------------------------------- any classes


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["1", "-1"], ("-1", "1")),
        (["2", "1"], ("1", "2")),
        (["5", "3", "10", "1", "2"], ("1", "2", "3", "5", "10")),
        (["sad", "glad", "angry"], ("angry", "glad", "sad")),
        (["1", "01"], ("01", "1")),
        (["1", "two"], ("1", "two")),
        (["0", "1", "2"], ("0", "1", "2")),
    ],
)
def test_any_labels_are_classes(tmp_path: Path, labels: list[str], names: tuple[str, ...]) -> None:
    """Integers in their order, other words by spelling."""
    data = load_labelled(written(tmp_path, "".join(f"{label}\ttext {i}\n" for i in range(3) for label in labels)))
    assert data.names == names
    assert data.skipped == 0
    assert [data.names[c] for c in data.labels] == labels * 3


def test_a_third_label_needs_three_texts(tmp_path: Path) -> None:
    lines = "a\tx\nb\ty\n" * 60
    assert load_labelled(written(tmp_path, lines + "c\tz\n" * 3)).names == ("a", "b", "c")
    with pytest.raises(DataError, match=r"2 of the 122 lines .*line 121 has the label 'c', expected 'a' or 'b' \(a further class needs 3"):
        load_labelled(written(tmp_path, lines + "c\tz\n" * 2))


def test_parts_of_their_own(tmp_path: Path) -> None:
    data = written(tmp_path, "a\tx\nb\ty\n" * 3)
    other = tmp_path / "other.tsv"
    other.write_text("b\tnew\nb\tnewer\n", encoding="utf-8")
    found = load_parts(data, other, other)
    assert found.validation is not None
    assert found.test is not None
    assert (found.test.texts, found.test.labels.tolist(), found.test.names) == (["new", "newer"], [1, 1], ("a", "b"))
    assert load_parts(data).validation is load_parts(data).test is None
    other.write_text("b\tnew\nc\tnewer\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"other.tsv, line 2 has the label 'c', which no training text has: expected 'a' or 'b'"):
        load_parts(data, test=other)
    other.write_text("b\tnew\nno label\nnone here\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 of the 3 lines of .*other.tsv cannot be used, more than 1 %: line 2 has no tab"):
        load_parts(data, validation=other)
