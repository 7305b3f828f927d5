"""Which part of a corpus validates, to the character: limits reached exactly, the order of the files, and what the note says of it."""

import hashlib
from pathlib import Path

import pytest

from tinylm.data import corpus as corpora
from tinylm.data import open_corpus
from tinylm.data.corpus import Part, excerpt
from tinylm.data.encoding import sample
from tinylm.data.overlap import find_overlap
from tinylm.errors import DataError


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


def by_hash(names: list[str]) -> list[str]:
    """Returns names in the order in which they are asked whether they fit into the validation part."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def text_of(characters: int, letter: str) -> str:
    return (letter * 9 + "\n") * (characters // 10) + letter * (characters % 10)


@pytest.mark.parametrize(("length", "most", "cut"), [(100, 5_000_000, 90), (101, 5_000_000, 90), (109, 5_000_000, 98), (100, 10, 90),
                                                     (100, 9, 91), (100, 4, 96), (3, 100, 2)])  # fmt: skip
def test_where_a_single_file_is_cut(length: int, most: int, cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At nine tenths, rounded down, unless what follows is longer than the most that may validate."""
    monkeypatch.setattr(corpora, "MOST_VALIDATION", most)
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    corpus = open_corpus(written(tmp_path, {"a.txt": text}) / "a.txt")
    assert ("".join(corpus.train), "".join(corpus.validation)) == (text[:cut], text[cut:])
    assert (corpus.train.characters, corpus.validation.characters) == (cut, length - cut)
    assert (corpus.train.start, corpus.train.stop, corpus.validation.start, corpus.validation.stop) == (0, cut, cut, length)
    note = corpus.to_json()
    assert (note["files"], note["characters"], note["bytes"]) == (1, length, length)
    assert (note["train_characters"], note["validation_characters"]) == (cut, length - cut)
    assert note["split"] == f"the last {length - cut:,} characters validate"
    assert note["validation_files"] == ["a.txt"]
    assert note["digests"] == {"a.txt": hashlib.sha256(text.encode()).hexdigest()}


def test_the_most_that_validates() -> None:
    assert (corpora.VALIDATION, corpora.MOST_VALIDATION) == (0.1, 5_000_000)


def test_files_validate_while_they_fit_into_a_tenth(tmp_path: Path) -> None:
    """In the order of a hash of their names, one that is too long being passed over; a tenth may be reached exactly."""
    names = by_hash([f"{i}.txt" for i in range(8)])
    sizes = dict(zip(names, [60, 200, 30, 10, 200, 1, 300, 199], strict=True))  # a tenth of 1000 is 100: 60 + 30 + 10
    corpus = open_corpus(written(tmp_path, {name: text_of(n, name[0]) for name, n in sizes.items()}))
    assert sorted(f.name for f in corpus.validation.files) == sorted([names[0], names[2], names[3]])
    assert [f.name for f in corpus.train.files] == sorted(set(names) - {names[0], names[2], names[3]})
    assert (corpus.train.characters, corpus.validation.characters) == (900, 100)
    assert (corpus.validation.start, corpus.validation.stop) == (0, None)
    assert corpus.to_json()["split"] == "3 whole files with 100 characters validate, chosen by a hash of their names"
    assert {f.name for f in corpus.files} == set(names)
    assert len(corpus.files) == 8


def test_if_no_file_fits_the_smallest_validates(tmp_path: Path) -> None:
    corpus = open_corpus(written(tmp_path, {"a.txt": text_of(50, "a"), "b.txt": text_of(40, "b"), "c.txt": text_of(40, "c")}))
    assert [f.name for f in corpus.validation.files] == ["b.txt"], "of two, the first by name"
    assert [f.name for f in corpus.train.files] == ["a.txt", "c.txt"]


@pytest.mark.parametrize(("most", "stop"), [(40, None), (39, 39)])
def test_a_single_long_validation_file_is_used_in_part(
    most: int, stop: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "MOST_VALIDATION", most)
    corpus = open_corpus(written(tmp_path, {"a.txt": text_of(500, "a"), "b.txt": text_of(40, "b")}))
    assert (corpus.validation.start, corpus.validation.stop) == (0, stop)
    assert corpus.validation.characters == most
    assert "".join(corpus.validation).rstrip("\n") == text_of(40, "b")[:most].rstrip("\n")


def test_several_validation_files_have_at_most_that_many_characters_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "MOST_VALIDATION", 20)
    names = by_hash([f"{i}.txt" for i in range(6)])
    sizes = dict(zip(names, [12, 9, 8, 1, 500, 500], strict=True))  # a tenth would be 103
    corpus = open_corpus(written(tmp_path, {name: text_of(n, name[0]) for name, n in sizes.items()}))
    assert {f.name for f in corpus.validation.files} == {names[0], names[2]}
    assert corpus.validation.stop is None


def test_which_files_are_read(tmp_path: Path) -> None:
    files = {
        "b.TXT": "one\n", "a.md": "two\n", "sub/c.text": "three\n", "d.rst": "no\n", "sub/.e.txt": "no\n", ".f/g.txt": "no\n",
        "h.txt": "", "i.txt": "\n \t\n", "j.txt": "one\n", "sub/k": "no\n", "l.txt": "two\r\n",
    }  # fmt: skip
    corpus = open_corpus(written(tmp_path, files))
    assert sorted(f.name for f in corpus.files) == ["a.md", "b.TXT", "l.txt", "sub/c.text"]
    skipped = [
        (".f/g.txt", "hidden"), ("d.rst", "not .txt, .text, .md"), ("h.txt", "empty"), ("i.txt", "empty"),
        ("j.txt", "the same bytes as b.TXT"), ("sub/.e.txt", "hidden"), ("sub/k", "not .txt, .text, .md"),
    ]  # fmt: skip
    assert sorted(corpus.skipped) == skipped
    assert corpus.to_json()["skipped"] == [{"file": name, "why": why} for name, why in corpus.skipped]
    assert {f.name: (f.bytes, f.characters) for f in corpus.files}["l.txt"] == (5, 4)
    lines = corpus.summary().splitlines()
    assert lines[0].startswith(f"4 files, 19 bytes, 18 characters (utf-8); {corpus.split}")
    assert lines[1:7] == [*(f"skipped {name}: {why}" for name, why in corpus.skipped[:5]), "and 2 more, which data.json lists"]


@pytest.mark.parametrize(("skipped", "more"), [(5, []), (6, ["and 1 more, which data.json lists"])])
def test_a_summary_lists_five_skipped_files(skipped: int, more: list[str], tmp_path: Path) -> None:
    corpus = open_corpus(written(tmp_path, {"a.txt": text_of(40, "a"), **{f"{i}.rst": "no" for i in range(skipped)}}))
    assert corpus.summary().count("skipped") == 5
    assert [line for line in corpus.summary().splitlines() if "more, which" in line] == more


def test_the_validation_lines_are_looked_for_in_the_training_part(tmp_path: Path) -> None:
    letters = [chr(ord("a") + i // 26) + chr(ord("a") + i % 26) for i in range(97)]
    unlike = [f"{pair * 12} {pair[::-1] * 12} {pair * 7}\n" for pair in letters]  # 64 characters each
    corpus = open_corpus(written(tmp_path, {"a.txt": "".join([*unlike[:94], *unlike[:3], *unlike[94:]])}) / "a.txt")
    assert (corpus.overlap.lines_compared, corpus.overlap.lines_shared) == (10, 3)
    assert corpus.overlap.examples == tuple(line.rstrip("\n") for line in unlike[:3])
    assert corpus.to_json()["overlap"] == corpus.overlap.to_json()
    assert find_overlap(unlike, unlike[:5]).examples == tuple(line.rstrip("\n") for line in unlike[:3]), "three are enough"
    long = "".join(letters) * 2
    assert find_overlap([long], [long]).examples == (long[:200],)


def test_any_name_of_a_file_will_do_if_it_is_named_itself(tmp_path: Path) -> None:
    written(tmp_path, {".hidden.rst": "a text\n", "empty.txt": "\n\n"})
    corpus = open_corpus(tmp_path / ".hidden.rst")
    assert [f.name for f in corpus.files] == [".hidden.rst"]
    assert corpus.skipped == ()
    with pytest.raises(DataError, match=r"empty\.txt is empty"):
        open_corpus(tmp_path / "empty.txt")


def test_newlines_around_files_become_one_blank_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pieces are cut."""
    files = {"a.txt": "\n\n\none\n\ntwo\n\n\n", "b.txt": "three", "c.txt": "\nfour\n", "d.txt": text_of(500, "x")}
    whole = written(tmp_path, files)
    for at_once in (1, 2, 3, 1 << 18):
        monkeypatch.setattr("tinylm.data.reading.BYTES", at_once)
        corpus = open_corpus(whole)
        part = Part(tuple(sorted(corpus.files, key=lambda f: f.name))[:3], "utf-8")
        assert "".join(part) == "one\n\ntwo\n\nthree\n\nfour\n"
        assert part.characters == sum(len(files[name]) for name in ("a.txt", "b.txt", "c.txt"))


def test_the_beginning_of_the_training_part(tmp_path: Path) -> None:
    text = text_of(300, "a") + text_of(200, "b")
    corpus = open_corpus(written(tmp_path, {"a.txt": text}) / "a.txt")
    assert [corpus.beginning(n) for n in (0, 1, 305, 10_000)] == ["", text[:1], text[:305], text[:450]]


def test_an_excerpt_reads_no_further_than_it_must() -> None:
    def pieces():  # type: ignore[no-untyped-def]
        for piece in ("abc", "de", "fghi", "jkl"):
            read.append(piece)
            yield piece

    for start in range(13):
        for stop in range(start, 14):
            read: list[str] = []
            found = list(excerpt(pieces(), start, stop))
            assert "".join(found) == "abcdefghijkl"[start:stop]
            assert "" not in found
            assert len(read) <= sum(begin < stop for begin in (0, 3, 5, 9)) + 1


def test_a_digest_tells_parts_apart(tmp_path: Path) -> None:
    corpus = open_corpus(written(tmp_path, {"a.txt": text_of(300, "a"), "b.txt": text_of(200, "b")}))
    files = corpus.files
    parts = [Part(files, "utf-8"), Part(files[::-1], "utf-8"), Part(files[:1], "utf-8"), Part(files[:1], "ascii"),
             Part(files[:1], "utf-8", 0, 9), Part(files[:1], "utf-8", 1, 9), Part(files[:1], "utf-8", 0, 8)]  # fmt: skip
    assert len({part.digest for part in parts}) == len(parts)
    assert all(part.digest == Part(part.files, part.encoding, part.start, part.stop).digest for part in parts)


@pytest.mark.parametrize(
    ("characters", "most", "kept"),
    [(20, 20, "abcdefghij"), (20, 40, "abcdefghij"), (20, 19, "acegi"), (20, 10, "acegi"), (20, 9, "adgj"), (20, 1, "a")],
)
def test_what_is_learned_from_a_long_text_is_spread_evenly(characters: int, most: int, kept: str) -> None:
    """Ten pieces of two characters: every n-th, so that about the most remain."""
    assert [piece[0] for piece in sample([2 * letter for letter in "abcdefghij"], characters, most)] == list(kept)
