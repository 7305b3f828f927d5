"""Embeddings to start a translator from: tokens that occur in the same pairs begin close together."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg
from threadpoolctl import ThreadpoolController

from tinylm.engine.random_keys import philox
from tinylm.files.notices import warn_once

_blas = threading.RLock()  # held while the number of BLAS threads, which the whole process shares, is 1
_NOISE = 1e-6  # singular values of a matrix of lower rank come out as about 1e-8 of the largest


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it, NumPy's and SciPy's linear algebra runs on the calling thread alone.

    With several threads a sum is added up in other parts, and the rounding of a decomposition decides the signs and directions of
    its vectors: a seed would give another embedding on a machine with other cores. BLAS threads also wait in a loop, for many times
    as long as they work if the cores are busy. Warns if that number cannot be set, since another thread of the program holds it or since
    threadpoolctl does not know the BLAS (on macOS, it does not know Accelerate: no warning).
    """
    blas = ThreadpoolController().select(user_api="blas")
    with _blas, blas.limit(limits=1):
        found = blas.info()
        if sys.platform != "darwin" and (not found or any((each["num_threads"] or 1) > 1 for each in found)):
            warn_once("the number of BLAS threads cannot be set: the embedding starts with digits that depend on it")
        yield


@one_blas_thread()
def latent_embedding(documents: Sequence[np.ndarray], vocab_size: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns (vocab_size, width) float64, rows of length 1, zero for a token that occurs nowhere or in all documents.

    A document is the ids of a pair, source and target together. M (vocab_size, documents) has
    idf = ln((1 + N) / (1 + N_w)) where a document has the token w, which N_w of N have, else 0. Of its
    singular value decomposition M = U S Vᵀ the `width` largest singular values are kept; a token's
    vector is its row of U √S, turned by a random rotation so that no direction is special, scaled to
    length 1. "king" and "rey" stand in the same pairs and get nearly the same vector: Dumais et al.
    1997, "Automatic cross-language retrieval using latent semantic indexing".
    With fewer than width + 1 tokens or documents the missing directions stay empty.
    The vectors do not depend on the number of BLAS threads, since one thread computes them (on macOS, Accelerate decides).
    """
    columns = [np.unique(ids) for ids in documents]
    rows = np.concatenate([*columns, np.empty(0, np.int64)]).astype(np.int64)
    counts = np.bincount(rows, minlength=vocab_size)
    idf = np.log((1 + len(documents)) / (1 + counts))
    places = np.repeat(np.arange(len(documents)), [len(column) for column in columns])
    m = sparse.csr_matrix((idf[rows], (rows, places)), shape=(vocab_size, len(documents)))
    random = np.random.Generator(philox((seed, 0)))
    kept = min(width, min(m.shape) - 1)
    vectors = np.zeros((vocab_size, width))
    if kept >= 1:
        start = random.standard_normal(min(m.shape))
        if m.data.any():  # in a corpus of equal pairs every token is in all documents
            u, s, _ = svds(m, k=kept, v0=start)
            vectors[:, :kept] = u * np.sqrt(np.where(s > _NOISE * s.max(), s, 0))
    rotation, _ = np.linalg.qr(random.standard_normal((width, width)))
    vectors = vectors @ rotation
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = (lengths > 1e-9) & (idf[:, None] > 0) & (counts[:, None] > 0)
    return np.where(known, vectors / np.where(known, lengths, 1), 0)


def svds(m: Any, k: int, v0: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
    """Returns (u, s, None): the k largest singular values of a sparse matrix, and their left vectors.

    A matrix with a short side is decomposed as a whole. In a toy corpus singular values are equal or zero, and scipy's
    iteration, which begins with v0, then goes on with random numbers that no seed decides: no two runs would start alike.
    """
    if min(m.shape) > 512:
        u, s, _ = linalg.svds(m, k=k, v0=v0)
        return u, s, None
    wide = m.shape[0] <= m.shape[1]
    squares, vectors = np.linalg.eigh((m @ m.T if wide else m.T @ m).toarray())
    s, vectors = np.sqrt(np.maximum(squares[-k:], 0)), vectors[:, -k:]
    return (vectors if wide else m @ vectors / np.where(s > 0, s, 1)), s, None
