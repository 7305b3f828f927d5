"""The n-gram model compared with the formula written with dictionaries; its distributions, saving, errors."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import numpy as safetensors

from tinylm.errors import CheckpointError, ConfigError, DataError, RangeError, ShapeError
from tinylm.models.ngram import NgramLM


def random_ids(seed, size, vocab_size, skew=2.0):
    """Returns ids with some frequent and some rare tokens, so that all counts from 1 to 4 occur."""
    return (np.random.default_rng(seed).random(size) ** skew * vocab_size).astype(np.int64)


# ---------------------------------------------------------------- the formula with dictionaries


class Dictionaries:
    """Interpolated modified Kneser-Ney, one n-gram at a time."""

    def __init__(self, sentences, vocab_size, order):
        self.vocab_size, self.order = vocab_size, order
        self.counts = {}
        for n in range(1, order + 1):
            seen, neighbours = Counter(), defaultdict(set)
            for sentence in sentences:
                for i in range(len(sentence) - n + 1):
                    gram = tuple(sentence[i : i + n])
                    seen[gram] += 1
                    neighbours[gram].add(sentence[i - 1] if i else "start")
            self.counts[n] = dict(seen) if n == order else {gram: len(left) for gram, left in neighbours.items()}
        self.discounts = {n: self.discounts_of(counts.values()) for n, counts in self.counts.items()}

    @staticmethod
    def discounts_of(counts):
        of = Counter(counts)
        if all(of[k] for k in (1, 2, 3, 4)):
            y = of[1] / (of[1] + 2 * of[2])
            d = {k: k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3)}
            if all(v > 0 for v in d.values()):
                return d
        return {1: 0.5, 2: 1.0, 3: 1.5}

    def probability(self, token, context):
        if len(context) >= self.order:
            context = context[len(context) - self.order + 1 :]
        n = len(context) + 1
        lower = 1 / self.vocab_size if n == 1 else self.probability(token, context[1:])
        followers = {gram[-1]: c for gram, c in self.counts[n].items() if gram[:-1] == context}
        if not followers:
            return lower
        d, total = self.discounts[n], sum(followers.values())
        gamma = sum(d[min(c, 3)] for c in followers.values()) / total
        count = followers.get(token, 0)
        return (max(count - d[min(count, 3)], 0) / total if count else 0.0) + gamma * lower


@st.composite
def corpora(draw):
    vocab_size, order = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    lengths = [*draw(st.lists(st.integers(0, 40), max_size=3)), draw(st.integers(order, 150))]
    seed = draw(st.integers(0, 1000))
    return vocab_size, order, [random_ids(seed + i, size, vocab_size) for i, size in enumerate(lengths)], seed


@given(corpora())
def test_equals_the_formula_with_dictionaries(corpus):
    vocab_size, order, sentences, seed = corpus
    model = NgramLM(vocab_size, order).fit(sentences)
    reference = Dictionaries([s.tolist() for s in sentences], vocab_size, order)
    ids = np.random.default_rng(seed).integers(0, vocab_size, 12)  # unlike the training data, with unseen n-grams
    expected = [reference.probability(int(w), tuple(ids[:t].tolist())) for t, w in enumerate(ids)]
    np.testing.assert_allclose(np.exp(model.log_probabilities(ids)), expected, rtol=1e-12)
    context = tuple(sentences[-1][:order].tolist())
    following = [reference.probability(w, context) for w in range(vocab_size)]
    np.testing.assert_allclose(np.exp(model.next_log_probabilities(context)), following, rtol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_equals_it_with_estimated_discounts(order):
    """The data are large enough for every level but the first to have its own discounts."""
    training, ids = random_ids(2, 3000, 20, 3.0), random_ids(3, 60, 20)
    reference = Dictionaries([training.tolist()], 20, order)
    assert all(reference.discounts[n] != {1: 0.5, 2: 1.0, 3: 1.5} for n in range(2, order + 1))
    expected = [reference.probability(int(w), tuple(ids[:t].tolist())) for t, w in enumerate(ids)]
    np.testing.assert_allclose(np.exp(NgramLM(20, order).fit(training).log_probabilities(ids)), expected, rtol=1e-12)


# ---------------------------------------------------------------- a distribution over what may follow


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_all_sequences_of_three_sum_to_one(order):
    model = NgramLM(5, order).fit(random_ids(1, 100, 4))  # token 4 is never seen
    sequences = np.array(list(itertools.product(range(5), repeat=3)))
    log_p = np.array([model.log_probabilities(s).sum() for s in sequences])
    assert np.isfinite(log_p).all()
    assert abs(np.exp(log_p).sum() - 1) < 1e-9


def test_next_sums_to_one_and_equals_scoring_to_the_bit():
    vocab_size, order = 11, 4
    model = NgramLM(vocab_size, order).fit(random_ids(5, 800, vocab_size - 1))
    ids = np.concatenate([random_ids(6, 60, vocab_size), np.arange(vocab_size)])
    scored = model.log_probabilities(ids)
    for t in range(ids.size):
        following = model.next_log_probabilities(ids[:t])
        assert following.shape == (vocab_size,)
        assert following.dtype == np.float64
        assert abs(np.exp(following).sum() - 1) < 1e-9
        assert following[ids[t]] == scored[t]


def test_context_is_the_text_before():
    ids = random_ids(8, 300, 7)
    model = NgramLM(7, order=4).fit(ids)
    ids = ids[:50]
    whole = model.log_probabilities(ids)
    for cut in (0, 1, 2, 3, 20, 50):
        np.testing.assert_array_equal(model.log_probabilities(ids[cut:], context=ids[:cut]), whole[cut:])
    # exactly order - 1 tokens of it matter
    np.testing.assert_array_equal(model.log_probabilities(ids[20:], context=ids[17:20]), whole[20:])
    assert (model.log_probabilities(ids[20:], context=ids[18:20]) != whole[20:])[0]


def test_the_future_changes_nothing_before_it():
    model = NgramLM(6, order=5).fit(random_ids(10, 500, 6))
    ids = random_ids(11, 40, 6)
    before = model.log_probabilities(ids)
    changed = ids.copy()
    changed[25:] = (changed[25:] + 1) % 6
    after = model.log_probabilities(changed)
    np.testing.assert_array_equal(after[:25], before[:25])
    assert (after[25:] != before[25:]).any()


def test_a_large_vocabulary_and_the_highest_order():
    """50000 ** 9 is far above 2 ** 63: the codes must not overflow."""
    vocab_size = 50_000
    ids = np.tile(np.arange(vocab_size - 30, vocab_size), 3)
    model = NgramLM(vocab_size, order=9).fit(ids)
    following = model.next_log_probabilities(ids[:8])
    assert abs(np.exp(following).sum() - 1) < 1e-9
    assert following.argmax() == ids[8]
    assert following[ids[8]] == model.log_probabilities(ids[:9])[8]


# ---------------------------------------------------------------- sentences


def test_contexts_do_not_cross_sentences():
    model = NgramLM(4, order=2).fit([np.array([0, 1]), np.array([2, 3])])
    np.testing.assert_array_equal(model.next_log_probabilities([1]), model.next_log_probabilities([]))  # nothing follows 1
    joined = NgramLM(4, order=2).fit(np.array([0, 1, 2, 3]))
    assert joined.next_log_probabilities([1])[2] > joined.next_log_probabilities([])[2]


def test_the_order_of_sentences_and_empty_ones_do_not_matter():
    sentences = [random_ids(i, size, 5) for i, size in enumerate((30, 1, 0, 2, 50, 0))]
    one, other = (NgramLM(5, order=3).fit(s).state_dict() for s in (sentences, sentences[::-1]))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert one["counts.3"].sum() == 28 + 48


# ---------------------------------------------------------------- little data


@pytest.mark.parametrize("ids", [[0], [0] * 50, [0, 1], list(range(6)), [0, 1] * 30])
@pytest.mark.parametrize("order", [1, 2, 9])
def test_degenerate_data(ids, order):
    model = NgramLM(6, order)
    if len(ids) < order:
        with pytest.raises(DataError, match=f"has {len(ids)} tokens: expected at least {order}"):
            model.fit(np.array(ids))
        return
    model.fit(np.array(ids))
    for context in ([], [0], [5], ids[:8]):
        following = model.next_log_probabilities(context)
        assert np.isfinite(following).all()
        assert abs(np.exp(following).sum() - 1) < 1e-9


def test_before_fit_uniform_and_fit_forgets():
    model = NgramLM(8, order=3)
    np.testing.assert_allclose(model.log_probabilities([1, 2, 3]), -np.log(8), rtol=1e-15)
    np.testing.assert_allclose(model.next_log_probabilities([1, 2]), -np.log(8), rtol=1e-15)
    ids = random_ids(1, 60, 8)
    again = model.fit(random_ids(2, 90, 8)).fit(ids)
    assert again is model
    np.testing.assert_array_equal(again.log_probabilities(ids), NgramLM(8, order=3).fit(ids).log_probabilities(ids))
    assert model.log_probabilities([]).shape == (0,)


# ---------------------------------------------------------------- saving


def test_saved_and_loaded_is_the_same_to_the_bit():
    model = NgramLM(9, order=4).fit([random_ids(1, 700, 9), random_ids(2, 40, 9)])
    state = safetensors.load(safetensors.save(model.state_dict()))
    loaded = NgramLM(**model.config())
    loaded.load_state_dict(state)
    ids = random_ids(3, 200, 9)
    np.testing.assert_array_equal(loaded.log_probabilities(ids), model.log_probabilities(ids))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array)
    assert loaded.num_parameters() == model.num_parameters() == sum(v.size for k, v in state.items() if k.startswith("counts"))


def test_states_that_do_not_fit():
    model = NgramLM(9, order=2).fit(random_ids(1, 100, 9))
    state = model.state_dict()
    before = model.log_probabilities(random_ids(2, 20, 9))
    with pytest.raises(CheckpointError, match=r"missing 'contexts.3'; missing 'tokens.3'; missing 'counts.3'"):
        NgramLM(9, order=3).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"unexpected 'contexts.2'"):
        NgramLM(9, order=1).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"'tokens.1' holds 0 to 8: expected 0 to 3"):
        NgramLM(4, order=2).load_state_dict(state)
    damages = {
        r"misshapen 'counts.2': \(3,\)": ("counts.2", state["counts.2"][:3]),
        r"misshapen 'tokens.1': \(9, 1\)": ("tokens.1", state["tokens.1"][:, None]),
        r"misshapen 'contexts.1': \(0,\)": ("contexts.1", state["contexts.1"][:0]),
        "'counts.2' is float32": ("counts.2", state["counts.2"].astype(np.float32)),
        "'counts.1' holds 0 to 0: expected 1": ("counts.1", state["counts.1"] * 0),
        "'contexts.1' holds 1 to 1: expected 0 to 0": ("contexts.1", state["contexts.1"] + 1),
        "'contexts.2' holds .*: expected 0 to 8": ("contexts.2", state["contexts.2"] + 5),
        "'contexts.1' and 'tokens.1' are damaged": ("tokens.1", state["tokens.1"][::-1]),
    }
    for message, (name, array) in damages.items():
        with pytest.raises(CheckpointError, match=message):
            model.load_state_dict({**state, name: array})
    np.testing.assert_array_equal(model.log_probabilities(random_ids(2, 20, 9)), before)


# ---------------------------------------------------------------- errors


def test_errors():
    for order in (0, 10, -1):
        with pytest.raises(ConfigError, match=f"order is {order}: expected 1 to 9"):
            NgramLM(5, order)
    for vocab_size in (0, -3, 2**31 + 1):
        with pytest.raises(ConfigError, match=f"vocab_size is {vocab_size}"):
            NgramLM(vocab_size)
    model = NgramLM(5, order=2)
    for empty in ([], np.array([], np.int64), [np.array([], np.int64)]):
        with pytest.raises(DataError, match="has 0 tokens"):
            model.fit(empty)
    with pytest.raises(RangeError, match="token id 5 is out of range: expected 0 to 4"):
        model.fit(np.array([0, 5]))
    with pytest.raises(ShapeError, match=r"shape \(2, 2\)"):
        model.fit(np.zeros((2, 2), int))
    with pytest.raises(ShapeError, match="float64"):
        model.fit(np.array([0.0, 1.0]))
    model.fit(np.array([0, 1, 2]))
    for call in (model.next_log_probabilities, model.log_probabilities, lambda x: model.log_probabilities([0], context=x)):
        with pytest.raises(RangeError, match="token id -1"):
            call(np.array([-1]))
        with pytest.raises(ShapeError, match="one dimension"):
            call(np.zeros((1, 1), int))
