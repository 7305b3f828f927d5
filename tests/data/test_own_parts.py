"""Parts of one's own: files for validation and test, and data from several files and folders."""

from pathlib import Path

import pytest

from tinylm.data import CharTokenizer, open_corpus
from tinylm.data.corpora import TEXTS
from tinylm.data.encoding import encoded, learn_tokenizer, token_ids
from tinylm.data.pairs import load_pairs
from tinylm.errors import DataError

TEXT = TEXTS["tinyshakespeare"].read_text(encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, start, stop in [("a", 0, 9000), ("b", 9000, 15000), ("c", 20000, 21000), ("d", 30000, 32000), ("e", 40000, 41000)]:
        path = tmp_path / ("texts" if name in "ab" else ".") / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TEXT[start:stop], encoding="utf-8")
    return tmp_path


def test_own_parts_are_taken_whole_and_as_they_stand(files: Path) -> None:
    corpus = open_corpus(files / "c.txt", valid=files / "d.txt", test=files / "e.txt")
    assert "".join(corpus.train) == "".join(corpus.whole) == TEXT[20000:21000]
    assert "".join(corpus.validation) == TEXT[30000:32000]
    assert corpus.test is not None
    assert "".join(corpus.test) == TEXT[40000:41000]
    note = corpus.to_json()
    assert note["split"] == f"2,000 characters of {files / 'd.txt'} validate, 1,000 of {files / 'e.txt'} are the test"
    assert set(note["digests"]) == {"c.txt", "valid: d.txt", "test: e.txt"}
    assert (note["files"], note["test_files"], note["test_characters"]) == (3, ["test: e.txt"], 1000)


def test_a_test_part_alone_leaves_the_split_as_it_is(files: Path) -> None:
    plain, corpus = open_corpus(files / "c.txt"), open_corpus(files / "c.txt", test=files / "e.txt")
    assert (corpus.train, corpus.validation) == (plain.train, plain.validation)
    assert "".join(corpus.whole) == TEXT[20000:21000]
    assert "test_files" not in plain.to_json()


def test_a_part_within_the_data_is_left_out_of_training(files: Path) -> None:
    corpus = open_corpus(files / "texts", valid=files / "texts" / "b.txt")
    assert [f.name for f in corpus.train.files] == ["a.txt"]
    assert corpus.skipped == (("b.txt", "the same bytes as valid: b.txt"),)
    with pytest.raises(DataError, match=r"c\.txt has the same bytes as valid: c\.txt"):
        open_corpus(files / "c.txt", valid=files / "c.txt")
    with pytest.raises(DataError, match="have a file in common: a test is of texts that have chosen nothing"):
        open_corpus(files / "c.txt", valid=files / "d.txt", test=files / "d.txt")
    with pytest.raises(DataError, match="no such data: 'nowhere'"):
        open_corpus(files / "c.txt", valid="nowhere")


def test_files_and_folders_are_one_corpus(files: Path) -> None:
    corpus = open_corpus([files / "texts", files / "c.txt", files / "d.txt"])
    names = {f.name for f in corpus.files}
    assert names == {"texts/a.txt", "texts/b.txt", "c.txt", "d.txt"}
    assert corpus.train.characters + corpus.validation.characters == 18_000
    assert "".join(corpus.whole).count(TEXT[9500:9600]) == 1
    assert corpus.source == f"{files / 'texts'}, {files / 'c.txt'}, {files / 'd.txt'}"
    again = open_corpus([files / "texts", files / "c.txt", files / "texts" / "a.txt"])
    assert again.skipped == (("a.txt", "named twice"),)
    shipped = open_corpus(["tinyshakespeare", files / "c.txt"])
    assert {f.name for f in shipped.files} == {"tinyshakespeare.txt", "c.txt"}


def test_sources_of_the_same_name_have_their_whole_paths(files: Path) -> None:
    other = files / "more" / "texts"
    other.mkdir(parents=True)
    (other / "a.txt").write_text(TEXT[50_000:52_000], encoding="utf-8")
    names = {f.name for f in open_corpus([files / "texts", other]).files}
    assert names == {f"{files}/texts/a.txt", f"{files}/texts/b.txt", f"{files}/more/texts/a.txt"}
    (files / "more" / "c.txt").write_text(TEXT[60_000:61_000], encoding="utf-8")
    assert {f.name for f in open_corpus([files / "c.txt", files / "more" / "c.txt"]).files} == {f"{files}/c.txt", f"{files}/more/c.txt"}


@pytest.mark.parametrize("make", ["empty file", "empty folder", "folder of others", "missing"])
def test_a_source_without_text_is_named(make: str, files: Path) -> None:
    bad = files / "bad"
    if make == "empty file":
        bad.write_text(" \n", encoding="utf-8")
    elif make != "missing":
        bad.mkdir()
        if make == "folder of others":
            (bad / "x.png").write_bytes(b"\x89PNG")
    for sources in ([files / "c.txt", bad], [bad, files / "c.txt"]):
        with pytest.raises(DataError, match=f"{bad} is empty|the folder {bad} holds no text|no such data: '{bad}'"):
            open_corpus(sources)


def test_an_unknown_character_is_named_with_its_file_and_line(files: Path) -> None:
    (files / "odd.txt").write_text("one\ntwo\nthrée\n" * 30, encoding="utf-8")
    corpus = open_corpus(files / "odd.txt", valid=files / "c.txt")
    with pytest.raises(DataError, match=r"odd\.txt, line 3: unknown character 'é' \(U\+00E9\): the model knows '"):
        token_ids(corpus.train, CharTokenizer("onetwhr\n"))
    cut = open_corpus(files / "odd.txt")  # the last tenth: from line 82 on
    with pytest.raises(DataError, match=r"odd\.txt, line 84: unknown character 'é'"):
        encoded(cut.validation, "".join(cut.validation), CharTokenizer("onetwhr\n"))


def test_the_characters_of_all_parts_are_known(files: Path) -> None:
    (files / "odd.txt").write_text("thrée\n" * 30, encoding="utf-8")
    tokenizer = learn_tokenizer("char", open_corpus(files / "c.txt", test=files / "odd.txt"), 1, 1)
    assert "é" in tokenizer.decode(range(tokenizer.vocab_size))


# ---------------------------------------------------------------- pairs


def pair_file(folder: Path, name: str, first: int, stop: int) -> Path:
    path = folder / name
    path.write_text("".join(f"one {i}\tuno {i}\n" for i in range(first, stop)), encoding="utf-8")
    return path


def test_own_parts_of_pairs(tmp_path: Path) -> None:
    data, valid, test = (pair_file(tmp_path, name, *cut) for name, cut in (("a", (0, 100)), ("b", (100, 110)), ("c", (105, 112))))
    pairs = load_pairs(data, valid=valid, test=test)
    assert [len(part) for part in (pairs.train, pairs.validation, pairs.test)] == [100, 10, 7]
    assert pairs.train == [(f"one {i}", f"uno {i}") for i in range(100)]
    assert pairs.notes == ()
    one = load_pairs(data, valid=valid)
    assert [len(part) for part in (one.train, one.validation, one.test)] == [95, 10, 5]
    other = load_pairs(data, test=test)
    assert [len(part) for part in (other.train, other.validation, other.test)] == [95, 5, 7]
    assert not set(other.train) & set(other.validation)


def test_pairs_of_several_files(tmp_path: Path) -> None:
    both = load_pairs([pair_file(tmp_path, "a", 0, 30), pair_file(tmp_path, "b", 30, 60)])
    whole = load_pairs(pair_file(tmp_path, "c", 0, 60))
    assert (both.train, both.validation, both.test) == (whole.train, whole.validation, whole.test)
    (tmp_path / "b").write_text("one\tuno\nno tab\n", encoding="utf-8")
    assert load_pairs([tmp_path / "a", tmp_path / "b"]).first_skipped == f"{tmp_path / 'b'}, line 2 has no tab"
    assert load_pairs(tmp_path / "a", valid=tmp_path / "b").first_skipped == f"{tmp_path / 'b'}, line 2 has no tab"


def test_pairs_in_two_parts_and_too_few(tmp_path: Path) -> None:
    data, shared = pair_file(tmp_path, "a", 0, 100), pair_file(tmp_path, "b", 90, 110)
    assert load_pairs(data, valid=shared, test=pair_file(tmp_path, "c", 200, 210)).notes == (
        f"10 of the 20 pairs of {shared} are in the training part too: its figures will flatter",
    )
    few = pair_file(tmp_path, "d", 0, 1)
    assert len(load_pairs(few, valid=shared, test=data).train) == 1
    with pytest.raises(DataError, match="has 1 pairs: expected at least 2, to train and to test or validate"):
        load_pairs(few, valid=shared)
    with pytest.raises(DataError, match="has 1 pairs: expected at least 3, to train, validate and test"):
        load_pairs(few)
