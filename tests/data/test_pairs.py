"""Pairs of sentences: reading, splitting, ids and batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinylm.data.corpora import PAIRS
from tinylm.data.pairs import BucketedBatches, Pairs, Vocabulary, load_pairs, make_batch
from tinylm.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def shipped() -> Pairs:
    return load_pairs("web-rv1909")


@pytest.fixture(scope="module")
def vocabulary(shipped: Pairs) -> Vocabulary:
    return Vocabulary.train(shipped.train[:300], 400)


def tsv(folder: Path, lines: list[str]) -> Path:
    path = folder / "pairs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_shipped_verses_are_split_by_chapter(shipped: Pairs) -> None:
    lines = [line.split("\t") for line in PAIRS["web-rv1909"].read_text(encoding="utf-8").splitlines()]
    chapters: dict[tuple[str, str], set[str]] = {}
    for key, source, target in lines:
        chapters.setdefault((source.strip(), target.strip()), set()).add(key.rpartition(".")[0])
    parts = [shipped.train, shipped.validation, shipped.test]
    assert Counter(pair for part in parts for pair in part) == Counter((s.strip(), t.strip()) for _, s, t in lines)
    of = [set().union(*(chapters[pair] for pair in part if len(chapters[pair]) == 1)) for part in parts]
    assert not of[0] & of[1]
    assert not of[0] & of[2]
    assert not of[1] & of[2]
    total = len({key.rpartition(".")[0] for key, _, _ in lines})
    for chapters_of in of[1:]:  # the only verse of one chapter also occurs elsewhere
        assert total // 20 - 1 <= len(chapters_of) <= total // 20
    assert shipped.train[0] == (
        "In the beginning, God created the heavens and the earth.",
        "EN el principio crió Dios los cielos y la tierra.",
    )
    assert shipped.skipped == 0
    assert load_pairs("web-rv1909") == shipped


def test_a_readers_file(tmp_path: Path) -> None:
    pairs = load_pairs(tsv(tmp_path, [f" one {i} \tuno {i}\tnot read" for i in range(40)]))
    assert [len(part) for part in (pairs.train, pairs.validation, pairs.test)] == [36, 2, 2]
    together = [*pairs.train, *pairs.validation, *pairs.test]
    assert sorted(together) == sorted((f"one {i}", f"uno {i}") for i in range(40))
    assert pairs.unread == "what follows the second tab is not read, in 40 of 40 lines, the first being line 1: 'not read'"
    assert load_pairs(tsv(tmp_path, ["a\tb"] * 9)).unread == load_pairs("web-rv1909").unread == ""
    assert pairs.test != [("one 38", "uno 38"), ("one 39", "uno 39")]  # shuffled
    assert pairs.train == sorted(pairs.train, key=lambda pair: int(pair[0].split()[1]))


def test_bad_lines_are_counted_up_to_one_percent(tmp_path: Path) -> None:
    good = [f"one {i}\tuno {i}" for i in range(198)]
    pairs = load_pairs(tsv(tmp_path, [*good[:100], "no tab here", *good[100:], "empty\t "]))
    assert pairs.skipped == 2
    assert pairs.first_skipped == "line 101 has no tab"
    assert len(pairs.train) + len(pairs.validation) + len(pairs.test) == 198
    with pytest.raises(DataError, match=r"3 of the 201 lines of .* more than 1 %: line 1 has an empty side"):
        load_pairs(tsv(tmp_path, ["\tx", "a", "b", *good]))


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such data: 'nowhere\.tsv'"):
        load_pairs("nowhere.tsv")
    with pytest.raises(DataError, match="no line that can be used, expected 'source TAB target': line 1 has no tab"):
        load_pairs(tsv(tmp_path, ["a", "b"]))
    with pytest.raises(DataError, match="has 2 pairs: expected at least 3"):
        load_pairs(tsv(tmp_path, ["a\tb", "c\td"]))


def test_ids(vocabulary: Vocabulary) -> None:
    pieces = vocabulary.tokenizer.vocab_size
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.size) == (pieces, pieces + 1, pieces + 2, pieces + 3)
    ids = vocabulary.encode("Dios, él — ☕")
    assert ids[-1] == vocabulary.eos
    assert ids[:-1].max() < pieces
    assert vocabulary.decode([vocabulary.bos, *ids, vocabulary.pad]) == "Dios, él — ☕"


def test_a_batch(vocabulary: Vocabulary) -> None:
    pad, bos, eos = vocabulary.pad, vocabulary.bos, vocabulary.eos
    batch = make_batch([(np.array([1, 2, eos]), np.array([3, eos])), (np.array([4, eos]), np.array([5, 6, eos]))], vocabulary)
    np.testing.assert_array_equal(batch.source, [[1, 2, eos], [4, eos, pad]])
    np.testing.assert_array_equal(batch.source_lengths, [3, 2])
    np.testing.assert_array_equal(batch.target_in, [[bos, 3, eos], [bos, 5, 6]])
    np.testing.assert_array_equal(batch.target_out, [[3, eos, pad], [5, 6, eos]])
    assert batch.target_tokens == 5


def numbered(count: int, longest: int, vocabulary: Vocabulary) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pairs with a number as the source and targets of random length."""
    rng = np.random.default_rng(3)
    return [(np.array([i, vocabulary.eos]), np.append(np.full(rng.integers(1, longest), 7), vocabulary.eos)) for i in range(count)]


def test_batches_hold_every_pair_once_per_epoch(vocabulary: Vocabulary) -> None:
    pairs = numbered(200, 12, vocabulary)
    batches = BucketedBatches(pairs, 40, 5, vocabulary)
    n = batches.batches_per_epoch
    orders = []
    for epoch in range(3):
        drawn = [batches[k] for k in range(epoch * n, (epoch + 1) * n)]
        assert all(b.target_out.size <= 40 for b in drawn)
        sources = [int(i) for b in drawn for i in b.source[:, 0]]
        assert sorted(sources) == list(range(200))
        orders.append(sources)
        padding = sum(b.target_out.size - b.target_tokens for b in drawn)
        assert padding < 0.1 * sum(b.target_out.size for b in drawn)
        lengths = [b.target_out.shape[1] for b in drawn]
        assert lengths not in (sorted(lengths), sorted(lengths)[::-1])
    assert orders[0] != orders[1]
    assert {frozenset(batches.rows(k)) for k in range(n)} != {frozenset(batches.rows(k)) for k in range(n, 2 * n)}
    assert batches.target_tokens(3, n + 2) == sum(batches[k].target_tokens for k in range(3, n + 2))


def test_a_batch_depends_on_seed_and_number_alone(vocabulary: Vocabulary) -> None:
    pairs = numbered(100, 9, vocabulary)
    forwards = BucketedBatches(pairs, 30, 5, vocabulary)
    rows = [forwards.rows(k).tolist() for k in range(3 * forwards.batches_per_epoch)]
    again = BucketedBatches(pairs, 30, 5, vocabulary)
    assert [again.rows(k).tolist() for k in reversed(range(len(rows)))] == rows[::-1]
    other = BucketedBatches(pairs, 30, 6, vocabulary)
    assert [other.rows(k).tolist() for k in range(len(rows))] != rows


def test_batches_that_cannot_be_made_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(DataError, match="no pairs"):
        BucketedBatches([], 10, 0, vocabulary)
    pairs = [(np.array([1]), np.arange(11))]
    with pytest.raises(ConfigError, match="batch_tokens is 10: expected at least 11"):
        BucketedBatches(pairs, 10, 0, vocabulary)
