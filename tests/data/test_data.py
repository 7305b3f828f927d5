"""Corpora and batches."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.data import ParallelStreams, ShuffledBlocks, consecutive_blocks, load_text, split_text
from tinylm.data.corpora import LABELLED, PAIRS, TEXTS
from tinylm.errors import DataError


def test_the_shipped_corpora_are_what_the_readme_says() -> None:
    lines = (TEXTS["tinyshakespeare"].parents[1] / "README.md").read_text(encoding="utf-8")
    for path in (*TEXTS.values(), *PAIRS.values(), *LABELLED.values()):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in lines, path
    assert len(load_text("tinyshakespeare")) == 1_115_394


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("zwei\r\nä".encode())
    (tmp_path / "a.txt").write_bytes("\ufeffone\n".encode())
    (tmp_path / "c.md").write_text("no", encoding="utf-8")
    assert load_text(tmp_path / "b.txt") == "zwei\nä"
    assert load_text(tmp_path) == "one\n\nzwei\nä\n"


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data: 'nothing'"):
        load_text("nothing")
    with pytest.raises(DataError, match=r"holds no \.txt files"):
        load_text(tmp_path)
    for name, content, message in [
        ("empty.txt", b" \n", "is empty"),
        ("latin.txt", "Käse".encode("latin-1"), "not UTF-8 text: byte 0xe4 at position 1"),
        ("binary.txt", b"ab\0c", "a zero byte at position 2"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_text(tmp_path / name)


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 4))
def test_consecutive_blocks_cover_every_target_once(n: int, block: int, batch: int) -> None:
    ids = np.arange(n)
    seen = []
    for x, y in consecutive_blocks(ids, block, batch):
        assert x.shape == y.shape
        assert 1 <= x.shape[0] <= batch
        assert x.shape[1] >= 1
        np.testing.assert_array_equal(x + 1, y)
        seen += y.reshape(-1).tolist()
    assert seen == list(range(1, n))


@given(st.integers(9, 90), st.integers(1, 8), st.integers(1, 5), st.integers(0, 3))
def test_shuffled_blocks_use_each_block_once_per_epoch(n: int, block: int, batch: int, seed: int) -> None:
    ids = np.arange(n)
    blocks = ShuffledBlocks(ids, block, batch, seed)
    per_epoch = blocks.blocks_per_epoch
    rows = np.concatenate([blocks[k][0] for k in range(3 * per_epoch)])
    for x, y in (blocks[k] for k in range(3)):
        assert x.shape == y.shape == (batch, block)
        np.testing.assert_array_equal(x + 1, y)
    for epoch in range(2):
        seen = np.sort(rows[epoch * per_epoch : (epoch + 1) * per_epoch], axis=None)
        np.testing.assert_array_equal(seen, seen[0] + np.arange(per_epoch * block))  # contiguous, without a gap or a repetition
        assert len(seen) > n - 2 * block - 1


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    ids = np.arange(200)
    blocks = ShuffledBlocks(ids, 8, 4, seed=3)
    later = blocks[70][0]
    assert not np.array_equal(blocks[8][0], later)
    np.testing.assert_array_equal(ShuffledBlocks(ids, 8, 4, seed=3)[70][0], later)
    np.testing.assert_array_equal(blocks[70][0], later)
    assert not np.array_equal(ShuffledBlocks(ids, 8, 4, seed=4)[70][0], later)


@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 60), st.integers(0, 3))
def test_parallel_streams_continue_from_batch_to_batch(block: int, batch: int, extra: int, seed: int) -> None:
    ids = np.arange((batch + 1) * block + extra)
    streams = ParallelStreams(ids, block, batch, seed)
    previous = None
    for k in range(2 * streams.batches_per_epoch + 1):
        x, y = streams[k]
        assert x.shape == y.shape == (batch, block)
        np.testing.assert_array_equal(x + 1, y)
        assert streams.starts_afresh(k) == (k % streams.batches_per_epoch == 0)
        if previous is not None and not streams.starts_afresh(k):
            np.testing.assert_array_equal(x[:, 0], previous[:, -1])
        previous = y
    epoch = np.concatenate([streams[k][1] for k in range(streams.batches_per_epoch)], axis=1)
    assert len(np.unique(epoch)) == epoch.size  # no token is a target twice


def test_too_short_data() -> None:
    assert split_text("abcdefghij") == ("abcdefghi", "j")
    with pytest.raises(DataError, match="too short"):
        ShuffledBlocks(np.arange(8), 8, 1, 0)
    with pytest.raises(DataError, match=r"39 tokens, 4 streams with a block of 8 each need 40"):
        ParallelStreams(np.arange(39), 8, 4, 0)


def test_the_batches_of_a_seed_are_these_in_every_version() -> None:
    """A run that is resumed years later goes on with them."""
    shuffled, parallel = ShuffledBlocks(np.arange(60), 4, 3, seed=5), ParallelStreams(np.arange(60), 4, 3, seed=5)
    assert (shuffled.blocks_per_epoch, shuffled.batches_per_epoch, parallel.batches_per_epoch) == (14, 4, 4)
    firsts = [shuffled[k][0][:, 0].tolist() for k in (0, 1, 4, 5, 40)]
    assert firsts == [[36, 4, 0], [16, 40, 20], [32, 8, 47], [23, 19, 15], [28, 0, 52]]
    firsts = [parallel[k][0][:, 0].tolist() for k in (0, 1, 4, 5, 40)]
    assert firsts == [[0, 16, 32], [4, 20, 36], [3, 19, 35], [7, 23, 39], [2, 18, 34]]


def test_the_least_data_that_is_enough() -> None:
    assert ShuffledBlocks(np.arange(9), 8, 1, 0)[5][1].tolist() == [[*range(1, 9)]]
    assert ParallelStreams(np.arange(40), 8, 4, 0).batches_per_epoch == 1
    assert all(ShuffledBlocks(np.arange(9), 8, 1, 0).starts_afresh(k) for k in range(3))
    assert split_text("abcdefghij", 0.25) == ("abcdefg", "hij")
