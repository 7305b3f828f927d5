"""Sampling: each setting compared with its definition, generation from a known chain, stop strings."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinylm
from tinylm.decode import Sampling, generate, generate_batch
from tinylm.decode.sampling import cut_at_stops, draw
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError
from tinylm.models import LanguageModel

P = np.array([0.1, 0.4, 0.3, 0.2])
LOG_P = np.log(P)


class Chain(LanguageModel):
    """p(next | last token) is one row of a table; counts the calls."""

    def __init__(self, table):
        super().__init__()
        self.table, self.vocab_size, self.block_size = np.log(np.array(table)), len(table), None

    def advance(self, ids, state=None):
        return Tensor(self.table[ids.data]), state


# ---------------------------------------------------------------- the distribution


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), P),
        (Sampling(greedy=True), [0, 1, 0, 0]),
        (Sampling(temperature=0.5), P**2 / sum(P**2)),
        (Sampling(temperature=2), np.sqrt(P) / sum(np.sqrt(P))),
        (Sampling(temperature=1e-320), [0, 1, 0, 0]),
        (Sampling(temperature=1e300), [0.25] * 4),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 3 / 7, 0]),
        (Sampling(top_k=4), P),
        (Sampling(top_p=0.01), [0, 1, 0, 0]),
        (Sampling(top_p=0.4), [0, 1, 0, 0]),  # reached exactly
        (Sampling(top_p=0.41), [0, 4 / 7, 3 / 7, 0]),
        (Sampling(top_p=0.9), [0, 4 / 9, 3 / 9, 2 / 9]),
        (Sampling(top_p=0.91), P),
        (Sampling(min_p=0.5), [0, 4 / 9, 3 / 9, 2 / 9]),  # 0.2 is half of 0.4
        (Sampling(min_p=0.51), [0, 4 / 7, 3 / 7, 0]),
        (Sampling(min_p=1), [0, 1, 0, 0]),
        (Sampling(temperature=0.5, top_p=0.5), [0, 1, 0, 0]),  # of 0.53 after the temperature
        (Sampling(temperature=0.5, min_p=0.5), [0, 16 / 25, 9 / 25, 0]),
        (Sampling(top_k=3, top_p=0.7), [0, 4 / 7, 3 / 7, 0]),  # of the three that top_k keeps: 0.44, 0.33, 0.22
        (Sampling(top_k=2, top_p=0.57), [0, 1, 0, 0]),
    ],
    ids=str,
)
def test_each_setting(sampling, expected):
    given_p = LOG_P.copy()
    np.testing.assert_allclose(sampling.distribution(given_p), expected, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(given_p, LOG_P)  # unchanged
    assert sampling.distribution(LOG_P.astype(np.float32)).dtype == np.float64


def test_repetition_makes_what_occurred_less_likely():
    """A penalty of r turns p into p^r (r log p), whether the token occurred once or more often."""
    context = np.array([1, 3, 1, 1])
    weights = np.array([P[0], P[1] ** 1.5, P[2], P[3] ** 1.5])
    np.testing.assert_allclose(Sampling(repetition_penalty=1.5).distribution(LOG_P, context), weights / weights.sum(), rtol=1e-12)
    np.testing.assert_array_equal(Sampling(repetition_penalty=1.5).distribution(LOG_P), Sampling().distribution(LOG_P))
    np.testing.assert_array_equal(Sampling(greedy=True, repetition_penalty=1.5).distribution(LOG_P, context), [0, 0, 1, 0])
    # the penalty comes before the temperature
    tempered = weights**2 / sum(weights**2)
    np.testing.assert_allclose(Sampling(temperature=0.5, repetition_penalty=1.5).distribution(LOG_P, context), tempered, rtol=1e-12)


def test_ties_go_to_the_smaller_id():
    tied = np.log([0.2, 0.3, 0.3, 0.2])
    np.testing.assert_array_equal(Sampling(greedy=True).distribution(tied), [0, 1, 0, 0])
    np.testing.assert_array_equal(Sampling(top_k=1).distribution(tied), [0, 1, 0, 0])
    np.testing.assert_allclose(Sampling(top_k=3).distribution(tied), [2 / 8, 3 / 8, 3 / 8, 0], rtol=1e-12)
    np.testing.assert_allclose(Sampling(top_p=0.7).distribution(tied), [2 / 8, 3 / 8, 3 / 8, 0], rtol=1e-12)
    np.testing.assert_allclose(Sampling(top_p=1e-3).distribution(np.zeros(4) - math.log(4)), [1, 0, 0, 0])


@given(
    weights=st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any),
    square=st.booleans(),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.integers(1, 100),
    min_p=st.integers(0, 99),
)
def test_what_is_kept_is_the_least_that_the_settings_ask_for(weights, square, top_k, top_p, min_p):
    """Applies the settings one after the other in whole numbers: a limit is reached or missed without rounding."""
    top_k = None if top_k is None else min(top_k, len(weights))
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array(weights) / sum(weights))
    # between whole percents, where there is no weight
    sampling = Sampling(temperature=0.5 if square else 1.0, top_k=top_k, top_p=top_p / 100, min_p=min_p / 100 + 1e-6)
    tempered = [w**2 if square else w for w in weights]
    best = sorted(range(len(weights)), key=lambda i: (-tempered[i], i))[:top_k]
    total, reached, expected = sum(tempered[i] for i in best), 0, np.zeros(len(weights))
    for i in best:
        if 100 * reached < top_p * total and tempered[i] >= sampling.min_p * max(tempered):
            expected[i] = tempered[i]
        reached += tempered[i]
    np.testing.assert_allclose(sampling.distribution(log_p), expected / expected.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("size", "kept"), [(10, 8), (12, 6), (20, 1), (20, 13)])
def test_a_nucleus_reached_but_for_rounding(size, kept):
    """`kept` of `size` equal tokens have exactly top_p; their floating-point sum is slightly less."""
    p = Sampling(top_p=kept / size).distribution(np.log(np.ones(size) / size))
    assert np.count_nonzero(p) == kept


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0}, r"temperature 0: expected more than 0 \(.* use greedy\)"),
        ({"temperature": -0.5}, "temperature -0.5"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"top_k": 0}, "top_k 0: expected at least 1"),
        ({"top_k": -3}, "top_k -3"),
        ({"top_p": 0}, "top_p 0 is out of range: expected more than 0, at most 1"),
        ({"top_p": 1.1}, "top_p 1.1"),
        ({"top_p": math.nan}, "top_p nan"),
        ({"min_p": -0.1}, "min_p -0.1 is out of range: expected 0 to 1"),
        ({"min_p": 1.5}, "min_p 1.5"),
        ({"repetition_penalty": 0.9}, "repetition_penalty 0.9: expected at least 1"),
        ({"repetition_penalty": math.nan}, "repetition_penalty nan"),
        ({"repetition_penalty": math.inf}, "repetition_penalty inf"),
    ],
    ids=str,
)
def test_invalid_settings(setting, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**setting)


def test_a_top_k_larger_than_the_vocabulary():
    for greedy in (False, True):
        with pytest.raises(ConfigError, match="top_k 5 is larger than the vocabulary, 4"):
            Sampling(greedy, top_k=5).distribution(LOG_P)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(greedy=True), Sampling(top_k=2)])
def test_a_nan_is_never_drawn_from(sampling):
    for bad, shown in (([0.0, math.nan, -1.0], "nan"), ([-math.inf] * 3, "-inf")):
        with pytest.raises(AnomalyError, match=f"no token can be drawn: the largest log-probability is {shown}"):
            sampling.distribution(np.array(bad))


# ---------------------------------------------------------------- one draw


class Fixed:
    """A generator whose next number is known."""

    def __init__(self, u):
        self.u = u

    def random(self):
        return self.u


def test_a_draw_inverts_the_distribution_function():
    p = np.array([0, 0.25, 0, 0.5, 0.25, 0])
    for u, token in [(0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (1 - 2**-53, 4)]:
        assert draw(p, Fixed(u)) == token
    random = np.random.default_rng(0)
    counts = np.bincount([draw(p, random) for _ in range(4000)], minlength=6)
    assert (counts[p == 0] == 0).all()
    assert np.abs(counts / 4000 - p).max() < 0.03  # four standard deviations


# ---------------------------------------------------------------- generation


CYCLE = Chain([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])


def test_greedy_takes_the_most_likely_token():
    assert list(generate(CYCLE, [2, 0], 5, Sampling(greedy=True))) == [1, 2, 0, 1, 2]
    assert list(generate(CYCLE, np.array([0]), 0)) == []


def test_forbidden_tokens_are_never_drawn():
    assert list(generate(CYCLE, [0], 4, Sampling(greedy=True), forbidden=[1])) == [0, 0, 0, 0]
    assert 1 not in list(generate(CYCLE, [0], 200, forbidden=[1]))
    assert set(generate(CYCLE, [0], 20, Sampling(temperature=5), forbidden=[0, 2])) == {1}


def test_the_distribution_is_followed():
    tokens = np.array(list(generate(CYCLE, [0], 3000, random=np.random.default_rng(1))))
    after_zero = np.bincount(tokens[1:][tokens[:-1] == 0], minlength=3)
    assert np.abs(after_zero / after_zero.sum() - [0.1, 0.8, 0.1]).max() < 0.05


def test_the_repetition_penalty_sees_prompt_and_text():
    free = Chain([[0.4, 0.3, 0.2, 0.1]] * 4)
    tokens = list(generate(free, [0], 4, Sampling(greedy=True, repetition_penalty=100)))
    assert tokens == [1, 2, 3, 0]  # each once, then the most likely again


def test_the_seed_decides():
    def text(random=None):
        return list(generate(CYCLE, [0], 30, random=random))

    def seeded(seed):
        tinylm.manual_seed(seed)
        return text()

    assert seeded(1) == seeded(1) != seeded(2)
    assert text() != text()  # each call takes the next stream
    assert text(np.random.default_rng(5)) == text(np.random.default_rng(5))


def test_generation_is_lazy():
    """A token is computed when it is asked for."""
    stream = generate(CYCLE, [0], 10**9)
    assert len([next(stream) for _ in range(3)]) == 3


def test_invalid_generation():
    for prompts, message in [([], "the prompt is empty"), ([[]], "the prompt is empty"), ([[0], [1, 2]], "the same length in tokens")]:
        with pytest.raises(ConfigError, match=message):
            next(generate_batch(CYCLE, prompts, 1))
    with pytest.raises(ConfigError, match="tokens -1: expected at least 0"):
        next(generate(CYCLE, [0], -1))
    with pytest.raises(ConfigError, match="top_k 4 is larger than the vocabulary, 3"):
        next(generate(CYCLE, [0], 1, Sampling(top_k=4)))
    with pytest.raises(ConfigError, match="every token of the vocabulary is forbidden"):
        next(generate(CYCLE, [0], 1, forbidden=[0, 1, 2]))
    with pytest.raises(AnomalyError, match="largest log-probability is nan"), np.errstate(invalid="ignore"):
        next(generate(Chain(np.full((3, 3), np.nan)), [0], 1))


# ---------------------------------------------------------------- stop strings


def cut(text, stops):
    """Returns the text up to a stop string, found by reading one character at a time."""
    for end in range(len(text) + 1):
        found = [s for s in stops if text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(
    pieces=st.lists(st.text("ab.", max_size=4), max_size=12),
    stops=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3),
)
@example(["ab", "c", "d"], ["abcx", "c"])
@example(["ab", "c"], ["abc", "b"])
@example(["ab", "c"], ["abc", "d"])
@example(["b", "ab"], ["d", "aab", "bab"])
@example(["abc"], ["abc", "b"])
@example(["a", "ab"], ["aab", "ab"])
def test_until_stops_wherever_the_text_is_cut(pieces, stops):
    whole = "".join(pieces)
    given_out = list(cut_at_stops(iter(pieces), stops))
    assert "".join(given_out) == cut(whole, stops)
    assert "".join(cut_at_stops(iter([whole]), stops)) == "".join(cut_at_stops(iter(whole), stops)) == cut(whole, stops)


def test_until_passes_on_what_cannot_be_a_stop_string():
    consumed = []

    def pieces():
        for piece in ("ab", "c", "x", "end", "never"):
            consumed.append(piece)
            yield piece

    stream = cut_at_stops(pieces(), ["bcd", "nd"])
    assert next(stream) == "a"
    assert consumed == ["ab"]
    assert next(stream) == "bcx"  # held back until it was no stop string
    assert next(stream) == "e"
    assert list(stream) == []
    assert consumed[-1] == "end"
    assert list(cut_at_stops(iter(["one", "two"]), [])) == ["one", "two", ""]
    with pytest.raises(ConfigError, match="a stop string is empty"):
        next(cut_at_stops(iter(["a"]), ["b", ""]))
