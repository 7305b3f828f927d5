"""Reads the user's own files: encodings, which part validates, what is skipped and reported."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.data import open_corpus, reading, split_text
from tinylm.data.corpora import read_text
from tinylm.data.corpus import Part
from tinylm.data.overlap import Overlap, find_overlap
from tinylm.errors import ConfigError, DataError
from tinylm.files.json_files import read_json
from tinylm.train import Run, TrainConfig

TEXT = "".join(f"line {i}: the quick brown fox jumps over the lazy dog number {i * i}\n" for i in range(200))


def lines(seed: int, n: int = 40) -> str:
    rng = np.random.default_rng(seed)
    return "".join("".join(rng.choice(list("abcdefghij klmnop"), 70)) + "\n" for _ in range(n))


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252"])
@pytest.mark.parametrize("at_once", [1, 7, 1 << 18])
def test_any_encoding_in_pieces_of_any_size(encoding: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a piece may cut a character or '\\r\\n'."""
    monkeypatch.setattr(reading, "BYTES", at_once)
    text = "Käse à la façon\r\n\r\nzweite Zeile\rdritte"
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert read_text(path, encoding) == "Käse à la façon\n\nzweite Zeile\ndritte"


@pytest.mark.parametrize("at_once", [1, 3, 1 << 18])
def test_a_wrong_byte_is_named_with_its_offset(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BYTES", at_once)
    path = tmp_path / "a.txt"
    for content, encoding, message in [
        ("aé€".encode() + b"\xff more", "utf-8", r"a\.txt is not UTF-8 text: byte 0xff at position 6"),
        ("aé".encode() + "€".encode()[:2], "utf-8", "byte 0xe2 at position 3"),
        (b"\xef\xbb\xbfab\xe4 ", "utf-8", "byte 0xe4 at position 5"),
        (b"abc\x81", "cp1252", "byte 0x81 at position 3"),
        ("ab".encode("utf-16-le") + b"\x00\xdc", "utf-16-le", "byte 0x00 at position 4"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_text(path, encoding)
    with pytest.raises(ConfigError, match="encoding 'utf-9': Python knows no such"):
        open_corpus(path, "utf-9")
    with pytest.raises(ConfigError, match="encoding 'base64'"):
        open_corpus(path, "base64")


def test_pieces_end_with_lines_and_long_lines_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BYTES", 100)
    monkeypatch.setattr(reading, "LONGEST_LINE", 300)
    path = tmp_path / "a.txt"
    path.write_text(TEXT + "word " * 300 + "x" * 2000 + "\nend", encoding="utf-8")
    found = list(reading.pieces(path))
    assert "".join(found) == path.read_text(encoding="utf-8")
    assert all(piece.endswith("\n") or piece.startswith((" ", "w", "x")) or piece == "end" for piece in found)
    assert max(map(len, found)) < 500


# ---------------------------------------------------------------- the split


def test_a_single_file_is_split_by_position(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    corpus = open_corpus(path)
    assert ("".join(corpus.train), "".join(corpus.validation)) == split_text(TEXT)
    assert corpus.train.characters + corpus.validation.characters == len(TEXT)
    shipped = open_corpus("tinyshakespeare")
    assert shipped.validation.characters == 111_540


def folder_of_files(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    for i in range(30):
        path = folder / f"sub{i % 3}" / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n" * (i % 2) + lines(i) + "\n" * (i % 3), encoding="utf-8")
    (folder / "copy.md").write_bytes((folder / "sub0/0.txt").read_bytes())
    (folder / "empty.txt").write_text(" \n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    (folder / ".git").mkdir()
    (folder / ".git" / "notes.txt").write_text("hidden", encoding="utf-8")
    return folder


def test_whole_files_of_a_folder_validate(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path)
    corpus = open_corpus(folder)
    train, val = "".join(corpus.train), "".join(corpus.validation)
    assert 0.05 < len(val) / len(train + val) <= 0.1
    texts = {f"sub{i % 3}/{i}.txt": lines(i).strip("\n") for i in range(30)}
    texts["copy.md"] = texts.pop("sub0/0.txt")  # it comes first; the other is its copy
    sides = [{name for name, text in texts.items() if text in side} for side in (train, val)]
    assert sides[0] | sides[1] == set(texts)
    assert not sides[0] & sides[1]
    assert val == "\n\n".join(texts[f.name] for f in corpus.validation.files) + "\n"
    assert dict(corpus.skipped) == {
        ".git/notes.txt": "hidden", "empty.txt": "empty", "picture.png": "not .txt, .text, .md", "sub0/0.txt": "the same bytes as copy.md",
    }  # fmt: skip
    again = open_corpus(folder)
    assert again == corpus
    (folder / "zzz.txt").write_text(lines(99), encoding="utf-8")  # a new file moves few others
    assert len({f.name for f in open_corpus(folder).validation.files} ^ {f.name for f in corpus.validation.files}) <= 2


def test_two_files_and_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(lines(1, 50), encoding="utf-8")
    (tmp_path / "b.txt").write_text(lines(2, 20), encoding="utf-8")
    assert [f.name for f in open_corpus(tmp_path).validation.files] == ["b.txt"]
    (tmp_path / "c.txt").write_bytes(b"abc\xff")
    with pytest.raises(DataError, match=r"c\.txt is not UTF-8 text: byte 0xff at position 3"):
        open_corpus(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no text"):
        open_corpus(tmp_path / "none")
    with pytest.raises(DataError, match="no such data: 'nowhere'"):
        open_corpus("nowhere")


# ---------------------------------------------------------------- what is told


def test_lines_on_both_sides_are_found() -> None:
    shared = "The King is dead, long live the King, in the year 1603!"
    train = [lines(0), shared.upper().replace("1603", "1604") + "\n", lines(1)]
    overlap = find_overlap(train, [lines(2), shared + "\n", "short line\n", lines(3)])
    assert (overlap.lines_compared > 40, overlap.lines_shared, overlap.examples) == (True, 1, (shared,))
    assert "1 of" in overlap.lines()[0]
    assert find_overlap(["short\n"], ["short\n"]).lines() == []


def test_the_note_is_shown_and_stored(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path)
    small = ["--n-layer", 1, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--steps", 1]
    shown = ends_well(script_here("train.py", "--data", folder, "--out", tmp_path / "run", *small))
    assert "30 files" in shown
    assert "skipped empty.txt: empty" in shown
    note = read_json(tmp_path / "run" / "data.json")
    assert note["files"] == 30
    read = [*folder.rglob("[0-9]*.txt"), folder / "copy.md"]
    assert note["bytes"] == sum(p.stat().st_size for p in read if p != folder / "sub0/0.txt")
    assert {s["file"] for s in note["skipped"]} == {".git/notes.txt", "empty.txt", "picture.png", "sub0/0.txt"}
    assert note["train_characters"] + note["validation_characters"] > 70 * 40 * 30
    (tmp_path / "latin.txt").write_bytes(("Käse " * 500).encode("latin-1"))
    fails_with_one_line(script_here("train.py", "--data", tmp_path / "latin.txt", "--out", tmp_path / "no"), "byte 0xe4 at position 1")
    ends_well(script_here("train.py", "--data", tmp_path / "latin.txt", "--encoding", "latin-1", "--out", tmp_path / "latin", *small))
    config = read_json(tmp_path / "latin" / "config.json")
    assert config["train"]["encoding"] == "latin-1"
    assert "ä" in json.dumps(config["tokenizer"], ensure_ascii=False)


def test_a_run_on_a_corpus_is_the_run_on_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    config = TrainConfig(steps=2, n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4)
    for kind in ("char", "word", "bpe"):
        settings = dataclasses.replace(config, tokenizer=kind, bpe_size=300)
        one = Run(settings, tmp_path / kind / "one", TEXT)
        two = Run(settings, tmp_path / kind / "two", open_corpus(path))
        np.testing.assert_array_equal(one.task.train_ids, two.task.train_ids)
        np.testing.assert_array_equal(one.task.val_ids, two.task.val_ids)
        assert one.task.bytes_per_token == two.task.bytes_per_token
        assert one.task.tokenizer.to_json() == two.task.tokenizer.to_json()


def test_a_part_names_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    train = open_corpus(path).train
    assert train.digest == open_corpus(path).train.digest
    assert train.digest != Part(train.files, train.encoding, train.start, train.stop - 1).digest
    path.write_text(TEXT.replace("quick", "quack"), encoding="utf-8")
    assert train.digest != open_corpus(path).train.digest


def test_unknown_encodings(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes("a text\n".encode("utf-16-le") * 50)
    for encoding in ("undefined", "a\0b"):
        with pytest.raises(ConfigError, match="Python knows no such text encoding"):
            open_corpus(tmp_path / "text.txt", encoding)
    with pytest.raises(DataError, match="is not UTF-16 text"):
        open_corpus(tmp_path / "text.txt", "utf-16")


def test_the_warning_names_the_part_of_the_lines_that_is_shared() -> None:
    assert Overlap(200, 3, ("a line of the text",)).lines() == [
        "3 of 200 long validation lines (1.5%) stand in the training part too (up to case, digits and punctuation), "
        "such as 'a line of the text': the validation loss will flatter"
    ]
