"""Token files: the ids equal those of the whole text, files are reused, and every kind of damage is found."""

import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tinylm.data import CharTokenizer, ParallelStreams, ShuffledBlocks, encoding, open_corpus, reading, train_tokenizer
from tinylm.data.token_files import HEADER, open_tokens, token_dtype, write_tokens
from tinylm.errors import DataError

TEXT = "".join(f"Line {i}, the quick brown fox don't jump over {i * i} dogs;\n\n" for i in range(400))


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_ids_are_those_of_the_text_as_a_whole(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    corpus = open_corpus(tmp_path / "a.txt")
    whole = encoding.learn_tokenizer(kind, corpus, 2, 400)
    expected = whole.encode("".join(corpus.train))
    monkeypatch.setattr(reading, "BYTES", 500)
    monkeypatch.setattr(encoding, "IN_MEMORY", 100)
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    tokenizer = encoding.learn_tokenizer(kind, corpus, 2, 400)
    assert tokenizer.to_json() == whole.to_json()
    ids = encoding.token_ids(corpus.train, tokenizer)
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(ids, expected)
    for batches in (ShuffledBlocks, ParallelStreams):
        for k in (0, 5, 40):
            for mapped, held in zip(batches(ids, 8, 4, 0)[k], batches(expected, 8, 4, 0)[k], strict=True):
                assert mapped.dtype == np.int64
                np.testing.assert_array_equal(mapped, held)


def test_a_file_is_used_again_until_text_or_tokenizer_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "IN_MEMORY", 100)
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    made = []
    write = encoding.write_tokens
    monkeypatch.setattr(encoding, "write_tokens", lambda path, *rest: (made.append(path), write(path, *rest)))
    train = open_corpus(tmp_path / "a.txt").train
    tokenizer = CharTokenizer(TEXT)
    for _ in range(2):
        encoding.token_ids(train, tokenizer)
    assert len(made) == 1
    encoding.token_ids(train, CharTokenizer(TEXT + "é"))
    (tmp_path / "a.txt").write_text(TEXT.replace("fox", "dog"), encoding="utf-8")
    encoding.token_ids(open_corpus(tmp_path / "a.txt").train, tokenizer)
    assert len(set(made)) == 3
    raw = made[0].read_bytes()
    made[0].write_bytes(raw[:-1])  # damaged: it is written again
    np.testing.assert_array_equal(encoding.token_ids(open_corpus(tmp_path / "a.txt").train, tokenizer)[:5], tokenizer.encode(TEXT[:5]))
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    encoding.token_ids(train, tokenizer)
    assert made[0].read_bytes() == raw


def test_damage_is_found(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "a.tokens", CharTokenizer(TEXT)
    write_tokens(path, [TEXT[:1000], TEXT[1000:]], tokenizer)
    good = path.read_bytes()
    assert len(good) == HEADER + 2 * len(TEXT)
    assert os.listdir(tmp_path) == ["a.tokens"]

    def changed(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    version = good[:8] + struct.pack("<I", 2) + good[12:]
    beyond = changed(HEADER + 5001, 0xFF)
    for content, message in [
        (b"", "is not a token file"),
        (b"x" * 500, "is not a token file"),
        (good[:-2], "is damaged: .* bytes, expected"),
        (good + b"\0\0", "is damaged: .* bytes, expected"),
        (changed(HEADER + 4000, good[HEADER + 4000] ^ 1), "tokens do not fit their checksum"),
        (changed(17, 99), "header does not fit its checksum"),
        (version, "has version 2"),
        (beyond, "token [0-9]+ at 2500: expected 0 to"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_tokens(path, tokenizer)
    kinds = tokenizer.vocab_size
    ids = np.zeros(len(TEXT), np.uint16)
    for last, message in ((kinds - 1, "checksum"), (kinds, f"token {kinds} at {len(TEXT) - 1}: expected 0 to {kinds - 1}$")):
        ids[-1] = last
        path.write_bytes(good[:HEADER] + ids.tobytes())
        with pytest.raises(DataError, match=message):
            open_tokens(path, tokenizer)
    path.write_bytes(good)
    with pytest.raises(DataError, match="tokens of another tokenizer"):
        open_tokens(path, CharTokenizer(TEXT + "é"))
    with pytest.raises(DataError, match="cannot read"):
        open_tokens(tmp_path / "none.tokens", tokenizer)
    assert zlib.crc32(good[:68]) == struct.unpack_from("<I", good, 68)[0]


def test_wide_vocabularies_and_a_full_disk(tmp_path: Path) -> None:
    assert (token_dtype(65_536), token_dtype(65_537)) == (np.uint16, np.uint32)
    wide = CharTokenizer(chr(i) for i in [*range(0x100, 0xD000), *range(0x20000, 0x20000 + 30_000)])
    assert wide.vocab_size > 65_536
    text = "".join(wide.characters[i] for i in (0, 70_000, 5, 80_000))
    write_tokens(tmp_path / "w.tokens", [text], wide)
    assert open_tokens(tmp_path / "w.tokens", wide).tolist() == [0, 70_000, 5, 80_000]
    program = (
        "import sys; from pathlib import Path\n"
        "from tinylm.data import CharTokenizer; from tinylm.data.token_files import write_tokens\n"
        "try: write_tokens(Path(sys.argv[1]), ['ab' * 50_000], CharTokenizer('ab'))\n"
        "except ValueError as error: print(error); sys.exit(7)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "full.tokens")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert result.returncode == 7, result.stderr
    assert "cannot write" in result.stdout
    assert os.listdir(tmp_path) == ["w.tokens"]


def test_a_sample_is_spread_over_the_text() -> None:
    pieces = [str(i) for i in range(10)]
    assert list(encoding.sample(pieces, 100, 40)) == ["0", "3", "6", "9"]
    assert list(encoding.sample(pieces, 40, 40)) == pieces
    whole = train_tokenizer("word", "one two two\nthree three\n", min_count=2)
    assert train_tokenizer("word", ["one two two\n", "three three\n"], min_count=2).to_json() == whole.to_json()
    assert json.dumps(whole.to_json()).count("two") == 1


def test_an_epoch_begins_at_a_random_start() -> None:
    batches = ShuffledBlocks(np.arange(1000), 8, 4, 0)
    first = [{int(x) % 8 for x in batches[e * batches.blocks_per_epoch // 4 + 1][0][:, 0]} for e in range(0, 12, 4)]
    assert all(len(starts) == 1 for starts in first)  # every block of an epoch by the same offset
    assert len(set.union(*first)) > 1


def test_no_tokens_at_all(tmp_path: Path) -> None:
    tokenizer = CharTokenizer("ab")
    write_tokens(tmp_path / "none", [], tokenizer)
    found = open_tokens(tmp_path / "none", tokenizer)
    assert (found.shape, found.dtype) == ((0,), token_dtype(2))


def test_a_learned_vocabulary_has_1024_tokens_if_nothing_is_said() -> None:
    text = " ".join(f"{a}{b}{c}" for a in "abcdefghijkl" for b in "mnopqrstuv" for c in "wxyzabcdefgh") * 3
    assert train_tokenizer("bpe", text).vocab_size == 1024
