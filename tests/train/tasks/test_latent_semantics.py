"""Embeddings from the pairs in which tokens occur together."""

import numpy as np
import pytest

from tinylm.train.tasks.latent_semantics import latent_embedding


def documents(pairs: int = 400, words: int = 30) -> list[np.ndarray]:
    """Returns documents in which each word w of the source occurs with its translation w + words, in any order; token
    60 is in all of them."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(words, 5, replace=False) for _ in range(pairs)]
    return [np.concatenate([rng.permutation(c), rng.permutation(c + words), [60, 60]]) for c in chosen]


def test_translations_are_nearest_neighbours() -> None:
    found = latent_embedding(documents(), 62, 16)
    similar = found[:30] @ found[30:60].T
    assert (similar.argmax(axis=1) == np.arange(30)).all()
    assert np.diag(similar).min() > 0.95
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths[:60], 1, rtol=1e-12)
    assert lengths[60] == lengths[61] == 0  # one occurs everywhere, one nowhere


def test_it_is_the_singular_value_decomposition() -> None:
    """Inner products, which do not depend on the rotation, equal those of U √S divided by the lengths of its rows."""
    docs = documents(40)
    m = np.zeros((62, 40))
    for j, ids in enumerate(docs):
        m[ids, j] = 1
    m *= np.log(41 / (1 + m.sum(axis=1, keepdims=True)))
    u, s, _ = np.linalg.svd(m)
    rows = u[:60, :9] * np.sqrt(s[:9])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = latent_embedding(docs, 62, 9)[:60]
    np.testing.assert_allclose(found @ found.T, rows @ rows.T, atol=1e-9)


def test_the_seed_decides_and_few_documents_leave_directions_empty() -> None:
    docs = documents(40)
    np.testing.assert_array_equal(latent_embedding(docs, 62, 8, seed=3), latent_embedding(docs, 62, 8, seed=3))
    assert np.abs(latent_embedding(docs, 62, 8, seed=3) - latent_embedding(docs, 62, 8, seed=4)).max() > 0.1
    few = latent_embedding(docs[:3], 62, 8)
    assert np.linalg.matrix_rank(few) == 2
    assert not latent_embedding(docs[:1], 62, 8).any()
    assert latent_embedding([], 5, 3).shape == (5, 3)


@pytest.mark.parametrize("repeats", [1, 4, 100])
@pytest.mark.parametrize("kinds", [1, 2, 9])
def test_a_toy_corpus_gives_the_same_each_time(kinds: int, repeats: int) -> None:
    """Its singular values are equal, or zero."""
    docs = [np.array([i % 3, 3 + i // 3, 9]) for i in range(kinds)] * repeats
    docs.append(np.array([6]))  # otherwise one kind alone would be in all documents
    first, *others = [latent_embedding(docs, 12, 8) for _ in range(5)]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("size", [300, 700])
def test_large_and_small_corpora_are_treated_alike(size: int) -> None:
    """On both sides of the size from which on the iteration is used: inner products are those of the decomposition."""
    rng = np.random.default_rng(0)
    docs = [rng.choice(size, 6, replace=False) for _ in range(size)]
    m = np.zeros((size, size))
    for j, ids in enumerate(docs):
        m[ids, j] = 1
    m *= np.log((1 + size) / (1 + m.sum(axis=1, keepdims=True)))
    u, s, _ = np.linalg.svd(m)
    rows = u[:, :5] * np.sqrt(s[:5])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    found = latent_embedding(docs, size, 5)
    seen = found.any(axis=1)
    np.testing.assert_allclose(found[seen] @ found[seen].T, rows[seen] @ rows[seen].T, atol=1e-6)


@pytest.mark.parametrize("width", [1, 61, 100])
def test_any_width(width: int) -> None:
    found = latent_embedding(documents(), 62, width)
    assert found.shape == (62, width)
    assert np.isfinite(found).all()


def ids(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, np.int64) for row in rows]


@pytest.mark.parametrize(
    ("docs", "found"),
    [
        (ids([0, 1], [0, 1]), []),  # all pairs are equal, and the matrix is zero
        (ids(*[[2, 2, 3]] * 40), []),
        (ids([], []), []),
        (ids([0], [0], [0]), []),  # one word
        (ids([], [0, 1]), [0, 1]),
        (ids(*[[0, 1]] * 5, *[[2, 3]] * 5), [0, 1, 2, 3]),  # of rank 2, with more directions asked for
        (ids(*[[i % 3, 3 + i % 2] for i in range(60)]), [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize(("tokens", "width"), [(6, 4), (300, 32), (20, 64)])
def test_toy_corpora(docs: list[np.ndarray], found: list[int], tokens: int, width: int) -> None:
    """Tokens that do not occur stay zero, also where rounding errors are all that is left in a direction."""
    vectors = latent_embedding(docs, tokens, width)
    assert np.flatnonzero(vectors.any(axis=1)).tolist() == found
    np.testing.assert_allclose(np.linalg.norm(vectors[found], axis=1), 1, rtol=1e-12)
