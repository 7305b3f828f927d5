"""The n-gram language model with interpolated modified Kneser-Ney smoothing.

Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling",
Computer Speech and Language 13, section 3, interpolated down to the uniform distribution.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinylm.engine.ids import check_ids
from tinylm.errors import CheckpointError, ConfigError, DataError, ShapeError


class _Level(NamedTuple):
    """The n-grams of one length n, sorted; an n-gram is identified by its row.

    The last entry of discounted and backoffs is that of an absent n-gram or context, whose row is -1.
    """

    codes: np.ndarray  # context * vocab_size + last token; the context is a row of the level n - 1
    counts: np.ndarray  # occurrences (longest n) or distinct left neighbours (shorter n)
    discounted: np.ndarray  # (count - discount) / total of the context; 0 if absent
    backoffs: np.ndarray  # gamma of every row of the level n - 1; 1 if it has no continuation or is absent


class NgramLM:
    """p(w | the last order-1 tokens), estimated by counting.

    For a context h of n-1 tokens, h' the same without its first token, and p_0 = 1 / vocab_size:

        p_n(w | h) = max(c(h w) - D(c(h w)), 0) / Σ_v c(h v) + γ(h) p_{n-1}(w | h')
        γ(h) = (D1 N1(h) + D2 N2(h) + D3 N3+(h)) / Σ_v c(h v)

    where N_k(h) is how many different tokens follow h with count k. If nothing follows h, γ = 1 and there is no
    first term. The model is p_order; for the first tokens of a text it is p_n with the n-1 tokens before. For n = order,
    c counts occurrences. For n < order it counts the different left neighbours of the n-gram, the start of a sentence
    being one of them. Each level has three discounts, see `estimate_discounts`. They are positive, so that
    every token of the vocabulary has a positive probability, seen or not.

    The n-grams are a trie of sorted arrays: n-gram number c of length n-1 followed by token w has
    the code c * vocab_size + w, which fits 64 bits for every order. Before `fit` the model is uniform.

    order: 1 to 9; vocab_size: 1 to 2**31. Raises ConfigError for others.
    """

    def __init__(self, vocab_size: int, order: int = 7) -> None:
        if not 1 <= order <= 9:
            raise ConfigError(f"order is {order}: expected 1 to 9")
        if not 1 <= vocab_size <= 2**31:
            raise ConfigError(f"vocab_size is {vocab_size}: expected 1 to 2**31")
        self.vocab_size, self.order = vocab_size, order
        self._levels: list[_Level] = []

    def config(self) -> dict[str, int]:
        """Returns the constructor's arguments."""
        return {"vocab_size": self.vocab_size, "order": self.order}

    def num_parameters(self) -> int:
        """Returns how many n-grams of all lengths are stored, each with one count."""
        return sum(level.counts.size for level in self._levels)

    # ---- counting

    def fit(self, ids: Any) -> "NgramLM":
        """Counts a text, ids (T,), or a list of them: sentences whose contexts do not cross. Returns self.

        Earlier counts are discarded. Raises RangeError for ids outside the vocabulary,
        ShapeError for ids that are not 1-D integers, DataError if no text has `order` tokens.
        """
        sentences = [self._checked(s) for s in ids] if isinstance(ids, (list, tuple)) else [self._checked(ids)]
        sentences = [s for s in sentences if s.size]
        longest = max((s.size for s in sentences), default=0)
        if longest < self.order:
            raise DataError(f"the longest text has {longest} tokens: expected at least {self.order}, the order of the model")
        tokens = np.concatenate(sentences)
        starts = np.cumsum([0] + [s.size for s in sentences[:-1]])
        del sentences

        codes, counts = [], []
        contexts, shorter = np.zeros_like(tokens), np.empty(0, np.int64)
        for n in range(1, self.order + 1):
            keys = contexts * self.vocab_size + tokens
            codes.append(np.unique(keys[contexts >= 0]))
            rows = _find(codes[-1], keys)  # of the n-gram that ends at each position, -1 where the sentence is too short
            inside = rows >= 0
            if n > 1:
                suffixes = np.empty(codes[-1].size, np.int64)
                suffixes[rows[inside]] = shorter[inside]
                neighbours = np.bincount(suffixes, minlength=codes[-2].size)
                neighbours[shorter[~inside & (shorter >= 0)]] += 1  # these begin a sentence, which counts as one neighbour
                counts.append(neighbours)
            shorter, contexts = rows, _shifted(rows, starts)
        counts.append(np.bincount(shorter[shorter >= 0]))
        self._set(codes, counts)
        return self

    def _set(self, codes: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> None:
        num_contexts = [1, *(c.size for c in codes[:-1])]  # the empty context
        self._levels = [_level(*arrays, self.vocab_size) for arrays in zip(codes, counts, num_contexts, strict=True)]

    def _checked(self, ids: Any) -> np.ndarray:
        array = np.asarray(ids, None if np.size(ids) else np.int64)
        if array.ndim != 1:
            raise ShapeError(f"token ids have shape {array.shape}: expected one dimension")
        check_ids(array, self.vocab_size, "token id")
        return array.astype(np.int64, copy=False)

    # ---- probabilities

    def log_probabilities(self, ids: Any, context: Any = None) -> np.ndarray:
        """Returns log p(ids[t] | context, ids[:t]) in nats: ids (T,) -> (T,) float64.

        context: the ids before, of which only the last order-1 are used; without it the text starts here.
        Raises RangeError and ShapeError as `fit` does.
        """
        before = self._recent(() if context is None else context)
        tokens = np.concatenate([before, self._checked(ids)])
        contexts = np.zeros_like(tokens)
        p = np.full(tokens.size, 1 / self.vocab_size)
        for level in self._levels:
            rows = _find(level.codes, contexts * self.vocab_size + tokens)
            p = level.discounted[rows] + level.backoffs[contexts] * p
            contexts = _shifted(rows, slice(1))
        return np.log(p[before.size :])

    def next_log_probabilities(self, context: Any) -> np.ndarray:
        """Returns log p(w | context) in nats for every token w of the vocabulary: context (T,) -> (vocab_size,) float64.

        The numbers are bit-equal to those of `log_probabilities`, and so are the exceptions.
        """
        before = self._recent(context)
        contexts = np.zeros(before.size + 1, np.int64)  # of the tokens before, then of the next one
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for level in self._levels:
            first = contexts[-1] * self.vocab_size
            start, stop = np.searchsorted(level.codes, [first, first + self.vocab_size])  # nothing for an absent context
            p *= level.backoffs[contexts[-1]]
            p[level.codes[start:stop] - first] += level.discounted[start:stop]
            contexts[1:] = _find(level.codes, contexts[:-1] * self.vocab_size + before)
            contexts[0] = -1
        return np.log(p)

    def _recent(self, context: Any) -> np.ndarray:
        """Returns the part of a context that matters: its last order-1 tokens."""
        return self._checked(context[max(len(context) - self.order + 1, 0) :])

    # ---- state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the counts, from which all else follows: for each length n three uint32 arrays, one entry per n-gram.

        "contexts.n": its first n-1 tokens, as a position in the arrays of n-1; "tokens.n": its last token;
        "counts.n". Sorted by context, then token.
        """
        state: dict[str, np.ndarray] = {}
        for n, level in enumerate(self._levels, 1):
            contexts, tokens = np.divmod(level.codes, self.vocab_size)
            for kind, values in (("contexts", contexts), ("tokens", tokens), ("counts", level.counts)):
                state[f"{kind}.{n}"] = values.astype(np.uint32)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads the counts of a model of the same order, from `state_dict`.

        Nothing is changed unless everything fits. Raises CheckpointError naming every missing,
        unexpected and misshapen key, or the length whose values are damaged.
        """
        lengths = range(1, self.order + 1)
        names = [f"{kind}.{n}" for n in lengths for kind in ("contexts", "tokens", "counts")]
        problems = [f"missing {name!r}" for name in names if name not in state]
        problems += [f"unexpected {name!r}" for name in state if name not in names]
        arrays = {name: np.asarray(state[name]) for name in names if name in state}
        for name, array in arrays.items():
            tokens = arrays.get(f"tokens.{name.split('.')[1]}", array)
            if array.ndim != 1 or array.size == 0 or array.shape != tokens.shape:
                problems.append(f"misshapen {name!r}: {array.shape}, expected one dimension, not empty, as long as its tokens")
            elif array.dtype.kind not in "iu":
                problems.append(f"{name!r} is {array.dtype}, expected integers")
        if problems:
            raise CheckpointError(f"the state does not fit an NgramLM of order {self.order}: {'; '.join(problems)}")
        all_codes, all_counts, num_contexts = [], [], 1
        for n in lengths:
            contexts, tokens, counts = (arrays[f"{kind}.{n}"].astype(np.int64) for kind in ("contexts", "tokens", "counts"))
            for kind, values, low, high in (
                ("contexts", contexts, 0, num_contexts - 1),
                ("tokens", tokens, 0, self.vocab_size - 1),
                ("counts", counts, 1, 2**32 - 1),
            ):
                if values.min() < low or values.max() > high:
                    raise CheckpointError(f"'{kind}.{n}' holds {values.min()} to {values.max()}: expected {low} to {high}")
            codes = contexts * self.vocab_size + tokens
            if (codes[1:] <= codes[:-1]).any():
                raise CheckpointError(f"'contexts.{n}' and 'tokens.{n}' are damaged: not in increasing order")
            all_codes.append(codes)
            all_counts.append(counts)
            num_contexts = codes.size
        self._set(all_codes, all_counts)


def estimate_discounts(counts: np.ndarray) -> np.ndarray:
    """Returns D1, D2, D3+ of one level, the discounts of counts of 1, 2, and 3 or more.

    With n_k of the n-grams having count k and Y = n1 / (n1 + 2 n2):
    D_k = k - (k+1) Y n_{k+1} / n_k.  Chen & Goodman 1999, section 3.
    Data too small for that (an n_k is zero, a D_k is not positive) gets 0.5, 1, 1.5.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == k)) for k in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        d = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if d.min() > 0:
            return d
    return np.array([0.5, 1.0, 1.5])


def _level(codes: np.ndarray, counts: np.ndarray, num_contexts: int, vocab_size: int) -> _Level:
    contexts = codes // vocab_size
    discounts = np.array([0.0, *estimate_discounts(counts)])[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, num_contexts)
    removed = np.bincount(contexts, discounts, num_contexts)
    backoffs = np.divide(removed, totals, out=np.ones(num_contexts), where=totals > 0)
    discounted = (counts - discounts) / totals[contexts]
    return _Level(codes, counts.astype(np.uint32), np.append(discounted, 0.0), np.append(backoffs, 1.0))


def _find(codes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Returns the rows of keys among the sorted codes, -1 where absent; a key with an absent context is negative."""
    rows = np.searchsorted(codes, keys, side="right") - 1
    return np.where(codes[rows] == keys, rows, -1)


def _shifted(rows: np.ndarray, starts: Any) -> np.ndarray:
    """Returns the rows of the contexts: those that end one position earlier, absent at a sentence's start."""
    contexts = np.roll(rows, 1)
    contexts[starts] = -1
    return contexts
