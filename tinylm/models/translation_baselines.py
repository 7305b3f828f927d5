"""Two translators that learn by counting, baselines for the neural ones: the translation of the
nearest known sentence, and word for word by a lexicon."""

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from tinylm.data.words import WORD_OR_SIGN, compiled
from tinylm.errors import DataError


def words_of(text: str) -> list[str]:
    """Returns the words, numbers and single punctuation marks of a text, in lower case."""
    return words_as_written(text.lower())


def words_as_written(text: str) -> list[str]:
    """Returns the words, numbers and single punctuation marks of a text."""
    return compiled(WORD_OR_SIGN).findall(text)


class NearestSentence:
    """Translates a sentence by the target of the training pair whose source has the largest cosine with it, the first
    of several.

    A sentence is the vector of tf idf, where tf is how often it has a word and
    idf = ln((1 + N) / (1 + N_w)) + 1 with N sentences, N_w of which have the word w (Spärck Jones
    1972, smoothed). A sentence with no known word has cosine 0 with all.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Raises DataError if there are no pairs."""
        if not pairs:
            raise DataError("there are no pairs to choose from")
        self.targets = [target for _, target in pairs]
        self._ids: dict[str, int] = {}
        for source, _ in pairs:
            for word in words_of(source):
                self._ids.setdefault(word, len(self._ids))
        counts = self._counts([source for source, _ in pairs])
        self._idf = np.log((1 + len(pairs)) / (1 + np.bincount(counts.indices, minlength=len(self._ids)))) + 1
        self._vectors = self._unit(counts)

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """Returns one target per sentence."""
        vectors = self._unit(self._counts(sentences))
        nearest = [int(np.argmax((row @ self._vectors.T).toarray())) for row in vectors]
        return [self.targets[i] for i in nearest]

    def _counts(self, sentences: Sequence[str]) -> sparse.csr_array:
        """Returns how often each sentence has each known word, (sentences, words)."""
        known = [[self._ids[w] for w in words_of(s) if w in self._ids] for s in sentences]
        rows = np.repeat(np.arange(len(known)), [len(k) for k in known])
        columns = np.array([i for k in known for i in k], np.int64)
        shape = (len(known), len(self._ids))
        return sparse.coo_array((np.ones(len(columns)), (rows, columns)), shape=shape).tocsr()  # adds repeats up

    def _unit(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Returns tf idf, each row of length 1 (or 0)."""
        weighted = sparse.csr_array(counts * self._idf)
        norms = np.sqrt(np.asarray((weighted * weighted).sum(axis=1)).ravel())
        return sparse.csr_array(sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ weighted)


class WordLexicon:
    """Word for word: each source word becomes argmax_f t(f | e), an unknown one is kept.

    t is IBM Model 1's (Brown et al. 1993, section 4): every target word f of a pair comes from one
    source word e of it, or from NULL, all equally likely a priori. EM, starting from a uniform t:
    c(f, e) = Σ over pairs of #f #e t(f|e) / Σ_e' #e' t(f|e'),  t(f|e) = c(f, e) / Σ_f' c(f', e).
    Source words are compared in lower case, target words as they are written.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], iterations: int = 5) -> None:
        """Raises DataError if there are no pairs."""
        if not pairs:
            raise DataError("there are no pairs to learn words from")
        sources, targets = {"": 0}, dict[str, int]()  # id 0 is NULL
        parts, groups = [], 0
        for source, target in pairs:
            words = [0, *(sources.setdefault(w, len(sources)) for w in words_of(source))]
            e, count_e = np.unique(np.array(words, np.int64), return_counts=True)
            words = [targets.setdefault(w, len(targets)) for w in words_as_written(target)]
            f, count_f = np.unique(np.array(words, np.int64), return_counts=True)
            each = groups + np.arange(len(f))
            groups += len(f)
            parts.append([np.repeat(x, len(e)) for x in (f, count_f, each)] + [np.tile(x, len(f)) for x in (e, count_e)])
        # A link joins a target word of a pair (its group) and a source word of it.
        f, count_f, group, e, count_e = (np.concatenate(column) for column in zip(*parts, strict=True))
        codes, place = np.unique(e * len(targets) + f, return_inverse=True)  # the (e, f) of each link
        self._e, self._f = np.divmod(codes, max(len(targets), 1))
        t = np.ones(len(codes))  # uniform: a constant factor cancels
        for _ in range(iterations):
            links = count_e * t[place]
            links *= count_f / np.bincount(group, links, groups)[group]
            counts = np.bincount(place, links, len(codes))
            t = counts / np.bincount(self._e, counts, len(sources))[self._e]
        self._t = t
        self._source_ids, self._target_words = sources, list(targets)
        order = np.lexsort((-self._f, t, self._e))  # the last entry of each e is its most likely f, the first seen of several
        self._best = dict(zip(self._e[order].tolist(), order.tolist(), strict=True))  # places in _e, _f and _t

    def probability(self, target: str, source: str) -> float:
        """Returns t(target | source) of two words; source "" is NULL."""
        e, words = self._source_ids.get(source, -1), self._target_words
        at = [t for t, i, j in zip(self._t, self._e, self._f, strict=True) if i == e and words[j] == target]
        return float(at[0]) if at else 0.0

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """Returns each sentence translated word for word, without spaces before punctuation."""
        return [re.sub(r" ([^\w\s])", r"\1", " ".join(map(self._word, words_as_written(s)))) for s in sentences]

    def likely(self, least: float) -> dict[str, str]:
        """Returns the most likely target word of each source word for which t(target | source) is at least so much."""
        best = ((word, self._best[e]) for word, e in self._source_ids.items() if e in self._best)
        return {word: self._target_words[self._f[place]] for word, place in best if word and self._t[place] >= least}

    def _word(self, word: str) -> str:
        place = self._best.get(self._source_ids.get(word.lower(), -1))
        return word if place is None else self._target_words[self._f[place]]
