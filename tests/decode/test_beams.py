"""Beam search compared with all sequences, and greedy decoding with one beam."""

import itertools
import math

import numpy as np
import pytest

from tinylm.decode.beams import Hypothesis, beam_search, greedy, length_penalty
from tinylm.decode.stepping import log_softmax
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError, RangeError

BOS, EOS, A, B = range(4)
V, LONGEST = 4, 4
ASK = {"bos": BOS, "eos": EOS, "max_tokens": LONGEST}


class Prefixes:
    """A state: the tokens that each row has read."""

    def __init__(self, rows: list[tuple[int, ...]]) -> None:
        self.rows = rows

    def select(self, rows: np.ndarray) -> "Prefixes":
        return Prefixes([self.rows[i] for i in rows])


class Table:
    """A model with different logits after every prefix."""

    def __init__(self, seed: int, spread: float = 2.0) -> None:
        self.seed, self.spread = seed, spread

    def logits(self, prefix: tuple[int, ...]) -> np.ndarray:
        return self.spread * np.random.default_rng([self.seed, *prefix]).standard_normal(V)

    def step(self, ids: Tensor, state: Prefixes) -> tuple[Tensor, Prefixes]:
        assert len(ids.data) == len(state.rows)
        rows = [(*row, int(i)) for row, i in zip(state.rows, ids.data, strict=True)]
        return Tensor(np.stack([self.logits(row) for row in rows])), Prefixes(rows)


START = Prefixes([()])


def log_p(model: Table, tokens: list[int]) -> float:
    """Returns log p of the tokens and the end after them."""
    row, total = (BOS,), 0.0
    for token in [*tokens, EOS]:
        total += log_softmax(model.logits(row)[None])[0, token]
        row = (*row, token)
    return total


def every_finished(model: Table, alpha: float, forbidden: tuple[int, ...] = ()) -> list[tuple[float, list[int]]]:
    """Returns (score, tokens) of all sequences with at most LONGEST tokens, including the end; the best comes first."""
    words = [t for t in range(V) if t != EOS and t not in forbidden]
    every = [list(tokens) for n in range(LONGEST) for tokens in itertools.product(words, repeat=n)]
    return sorted(((log_p(model, t) / ((5 + len(t) + 1) / 6) ** alpha, t) for t in every), reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0, 5.0])
@pytest.mark.parametrize("forbidden", [(), (BOS,)])
def test_a_wide_beam_is_exact(alpha: float, forbidden: tuple[int, ...]) -> None:
    lengths = set()
    for seed in range(20):
        model = Table(seed)
        best, tokens = every_finished(model, alpha, forbidden)[0]
        found = beam_search(model, START, **ASK, beams=300, alpha=alpha, forbidden=forbidden)
        assert found[0].tokens == tokens
        assert found[0].finished
        assert found[0].score(alpha) == pytest.approx(best, rel=1e-12)
        scores = [h.score(alpha) for h in found]
        assert scores == sorted(scores, reverse=True)
        assert all(h.log_probability == pytest.approx(log_p(model, h.tokens), rel=1e-12) for h in found)
        lengths.add(len(tokens))
    assert len(lengths) > 1  # the penalty made a difference


def test_the_penalty_makes_longer_ones_win() -> None:
    models = [Table(seed) for seed in range(20)]
    total = [sum(len(beam_search(m, START, **ASK, beams=300, alpha=alpha)[0].tokens) for m in models) for alpha in (0.0, 3.0)]
    assert total[1] > total[0]


@pytest.mark.parametrize("seed", range(30))
def test_greedy_is_one_beam(seed: int) -> None:
    model = Table(seed)
    one = greedy(model, START, **ASK)
    assert beam_search(model, START, **ASK, beams=1) == [one]
    row = (BOS,)
    for token in one.tokens:
        assert token == int(np.argmax(model.logits(row)))
        row = (*row, token)
    assert one.finished == (len(one.tokens) < LONGEST)
    if one.finished:
        assert int(np.argmax(model.logits(row))) == EOS
        assert one.log_probability == pytest.approx(log_p(model, one.tokens), rel=1e-12)


def narrow(model: Table, beams: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Returns what the search finds by sorting lists, without an early end."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(LONGEST):
        grown = [
            (total + log_softmax(model.logits((BOS, *tokens))[None])[0, t], [*tokens, t]) for total, tokens in live for t in range(V)
        ]  # fmt: skip
        grown = sorted(grown, reverse=True)[: beams - len(finished)]
        finished += [(total / length_penalty(len(tokens), alpha), tokens[:-1]) for total, tokens in grown if tokens[-1] == EOS]
        live = [(total, tokens) for total, tokens in grown if tokens[-1] != EOS]
    return sorted(finished, reverse=True)


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("alpha", [0.6, 5.0])
def test_narrow_beams_against_lists(beams: int, alpha: float) -> None:
    ended_early = 0
    for seed in range(60):
        expected = narrow(Table(seed), beams, alpha)
        found = beam_search(Table(seed), START, **ASK, beams=beams, alpha=alpha)
        if not expected:
            assert not any(h.finished for h in found)
            continue
        assert found[0].tokens == expected[0][1]
        assert found[0].score(alpha) == pytest.approx(expected[0][0], rel=1e-12)
        ended_early += len(found) < len(expected)
    assert ended_early > 0  # some searches ended before every place of the beam was filled, with the same result


def test_what_never_ends_is_given_unfinished() -> None:
    model = Table(0)
    found = beam_search(model, START, **ASK, beams=3, forbidden=[EOS])
    assert len(found) == 3
    assert not any(h.finished for h in found)
    assert all(len(h.tokens) == LONGEST and EOS not in h.tokens for h in found)
    one = greedy(model, START, **ASK, forbidden=[EOS, A])
    assert not one.finished
    assert len(one.tokens) == LONGEST
    assert not {EOS, A} & set(one.tokens)


def test_the_score() -> None:
    assert length_penalty(1, 0.7) == 1
    assert length_penalty(7, 0.5) == pytest.approx(math.sqrt(2))
    assert Hypothesis([A] * 6, -3.0, True).score(0.5) == pytest.approx(-3 / math.sqrt(2))  # the end token counts
    assert Hypothesis([A] * 7, -3.0, False).score(0.5) == pytest.approx(-3 / math.sqrt(2))


def test_bad_settings_and_nan_are_refused() -> None:
    with pytest.raises(ConfigError, match="beams is 0"):
        beam_search(Table(0), START, **ASK, beams=0)
    with pytest.raises(ConfigError, match="alpha is -1"):
        beam_search(Table(0), START, **ASK, alpha=-1)
    broken = Table(0, spread=math.nan)
    with pytest.raises(AnomalyError, match="NaN"):
        greedy(broken, START, **ASK)
    with pytest.raises(AnomalyError, match="NaN"):
        beam_search(broken, START, **ASK)


# ---------------------------------------------------------------- required tokens, and the best n


def valid(model: Table, tokens: list[int], required: dict[int, int]) -> bool:
    """Whether a sequence has every required token so often, and has one wherever it would most likely end before it has them all."""
    for i, token in enumerate([*tokens, EOS]):
        missing = {t: n - tokens[:i].count(t) for t, n in required.items()}
        possible = [t for t in range(V) if missing.get(t, 1) > 0]
        likely = max(possible, key=model.logits((BOS, *tokens[:i])).__getitem__)
        if any(missing.values()) and (token == EOS or (likely == EOS and token not in missing)):
            return False
    return all(tokens.count(token) == n for token, n in required.items())


@pytest.mark.parametrize("required", [{A: 1}, {B: 2}, {A: 1, B: 1}, {A: 0}, {A: 2, B: 1}])
def test_required_tokens(required: dict[int, int]) -> None:
    """Every sequence has each exactly so often; a wide beam finds the best of those that are possible."""
    changed = 0
    for seed in range(20):
        model = Table(seed)
        expected = [(score, t) for score, t in every_finished(model, 0.6) if valid(model, t, required)]
        found = beam_search(model, START, **ASK, beams=300, required=required)
        assert found[0].tokens == expected[0][1]
        assert found[0].score(0.6) == pytest.approx(expected[0][0], rel=1e-12)
        narrow_ones = [greedy(model, START, **ASK, required=required), *beam_search(model, START, **ASK, beams=3, required=required)]
        assert all(h.tokens.count(t) == n for h in narrow_ones for t, n in required.items())
        changed += found[0].tokens != beam_search(model, START, **ASK, beams=300)[0].tokens
    assert changed > 0


class Ending:
    """A model that likes to end after a word, and almost never writes A."""

    def step(self, ids: Tensor, state: Prefixes) -> tuple[Tensor, Prefixes]:
        rows = [(*row, int(i)) for row, i in zip(state.rows, ids.data, strict=True)]
        return Tensor(np.stack([np.log([1e-9, 0.6 if row[-1] == B else 0.05, 1e-6, 0.4]) for row in rows])), Prefixes(rows)


def test_a_required_token_stands_where_the_sequence_would_end() -> None:
    """Also in a beam whose other hypotheses, which go on without it, are far more likely."""
    ask = {"bos": BOS, "eos": EOS, "max_tokens": 30, "forbidden": [BOS], "required": {A: 1}}
    one = greedy(Ending(), START, **ask)
    assert one.tokens[:2] == [B, A]
    assert beam_search(Ending(), START, **ask, beams=3)[0].tokens in ([B, A], [B, A, B])


def test_required_tokens_that_are_refused() -> None:
    for search in (greedy, beam_search):
        with pytest.raises(ConfigError, match="max_tokens is 4: expected at least 5, the number of required tokens"):
            search(Table(0), START, **ASK, required={A: 3, B: 2})
        with pytest.raises(ConfigError, match="the number of required tokens 2 is -1: expected at least 0, a whole number"):
            search(Table(0), START, **ASK, required={A: -1})
        with pytest.raises(RangeError, match="a required token is 9, which is out of range: expected 0 to 3"):
            search(Table(0), START, **ASK, required={9: 1})
        with pytest.raises(ConfigError, match="most_repeats is -1: expected at least 0"):
            search(Table(0), START, **ASK, most_repeats=-1)
    with pytest.raises(ConfigError, match="best is 0: expected at least 1"):
        beam_search(Table(0), START, **ASK, best=0)


@pytest.mark.parametrize("best", [2, 5])
def test_the_best_n_are_exact_in_a_wide_beam(best: int) -> None:
    """The search for one may end before it has found the others."""
    missed = 0
    for seed in range(20):
        model = Table(seed)
        expected = [t for _, t in every_finished(model, 0.6)[:best]]
        assert [h.tokens for h in beam_search(model, START, **ASK, beams=300, best=best)[:best]] == expected
        missed += [h.tokens for h in beam_search(model, START, **ASK, beams=300)[:best]] != expected
    assert missed > 0
