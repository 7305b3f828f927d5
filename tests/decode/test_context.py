"""Probabilities under a limited context, compared with windows computed one by one; and the windows begin exactly where they should."""

import numpy as np
import pytest

from tinylm.decode import token_log_probabilities
from tinylm.decode.context import log_probabilities_given, sample_positions
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError, RangeError
from tinylm.models import GPT, GPTConfig, LanguageModel, NgramLM, RNNModel, TransformerModel

VOCABULARY, BLOCK = 7, 16
IDS = np.random.default_rng(0).integers(0, VOCABULARY, 60)


def built(kind: str) -> LanguageModel | NgramLM:
    if kind == "ngram":
        return NgramLM(VOCABULARY, 4).fit(np.random.default_rng(1).integers(0, VOCABULARY, 500))
    model: LanguageModel
    if kind == "gpt":
        model = GPT(GPTConfig(vocab_size=VOCABULARY, block_size=BLOCK, n_layer=1, n_head=2, n_embd=8))
    elif kind == "transformer":
        model = TransformerModel(VOCABULARY, 8, 2, 12, 1, 0.5)
        model.block_size = BLOCK
    else:
        model = RNNModel(kind, VOCABULARY, 8, 8, 2, 0.5)
    model.to(dtype="float64")
    for p in model.parameters():
        p.data += np.random.default_rng(2).standard_normal(p.shape) * 0.3
        p.bump_version()
    return model


@pytest.mark.parametrize("kind", ["ngram", "rnn", "lstm", "gru", "gpt", "transformer"])
@pytest.mark.parametrize("context", [1, 2, 5, BLOCK])
def test_each_position_is_the_end_of_a_separate_text(kind: str, context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring the window alone gives the same; one token more, fewer or later gives another result. Batches change nothing."""
    monkeypatch.setattr("tinylm.decode.context._ROWS", 4)
    model = built(kind)
    if isinstance(model, LanguageModel):
        model.train()
    positions = sample_positions(len(IDS), BLOCK + 1, 13)
    found = log_probabilities_given(model, IDS, positions, context)

    def alone(first: int, last: int) -> np.ndarray:
        return np.array([token_log_probabilities(model, IDS[t + first : t + last + 1])[-1] for t in positions])

    np.testing.assert_allclose(found, alone(-context, 0), rtol=1e-10)
    assert found.shape == (13,)
    assert np.abs(found - alone(-context - 1, -1)).max() > 1e-3
    if kind != "ngram" or context < 3:  # an order of 4 looks at 3 tokens
        assert np.abs(found - alone(-context - 1, 0)).max() > 1e-6
        if context > 1:
            assert np.abs(found - alone(-context + 1, 0)).max() > 1e-6
    if isinstance(model, LanguageModel):
        assert model.training


@pytest.mark.parametrize("kind", ["ngram", "lstm", "gpt"])
def test_with_everything_before_it_the_last_token_is_scored_as_in_the_whole_text(kind: str) -> None:
    model, ids = built(kind), IDS[: BLOCK + 1]
    found = log_probabilities_given(model, ids, np.array([BLOCK]), BLOCK)
    np.testing.assert_allclose(found, token_log_probabilities(model, ids)[-1:], rtol=1e-10)


class Counter(LanguageModel):
    """Is certain that the next token is the number of tokens that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.vocab_size, self.block_size = VOCABULARY, None

    def advance(self, ids: Tensor, state: object = None) -> tuple[Tensor, object]:
        n, t = ids.shape
        return Tensor(np.broadcast_to(1000.0 * np.eye(VOCABULARY)[1 : t + 1], (n, t, VOCABULARY)).copy()), state


def test_exactly_so_many_tokens_are_given() -> None:
    positions = sample_positions(len(IDS), 6, 30)
    for context in range(1, 7):
        found = log_probabilities_given(Counter(), IDS, positions, context)
        np.testing.assert_array_equal(found == 0, IDS[positions] == context)


def test_samples_of_positions() -> None:
    sample = sample_positions(1000, 100, 50, seed=3)
    assert len(set(sample.tolist())) == 50
    assert sample.min() >= 100
    assert sample.max() < 1000
    assert (np.diff(sample) > 0).all()
    np.testing.assert_array_equal(sample, sample_positions(1000, 100, 50, seed=3))
    assert not np.array_equal(sample, sample_positions(1000, 100, 50, seed=4))
    np.testing.assert_array_equal(sample_positions(12, 8, 50), [8, 9, 10, 11])  # all positions


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="8 tokens: expected more than 8"):
        sample_positions(8, 8, 5)
    with pytest.raises(ConfigError, match="0 positions"):
        sample_positions(9, 8, 0)
    some = np.array([20, 30])
    with pytest.raises(ConfigError, match="context is 17: expected 1 to 16, the block size"):
        log_probabilities_given(built("gpt"), IDS, some, BLOCK + 1)
    with pytest.raises(ConfigError, match="context is 0: expected at least 1"):
        log_probabilities_given(built("ngram"), IDS, some, 0)
    with pytest.raises(DataError, match="positions 20 to 30 of 60 tokens: expected 21 to 59"):
        log_probabilities_given(built("lstm"), IDS, some, 21)
    with pytest.raises(DataError, match="positions 20 to 30 of 30 tokens"):
        log_probabilities_given(built("lstm"), IDS[:30], some, 5)
    with pytest.raises(RangeError, match="token id 7"):
        log_probabilities_given(built("lstm"), IDS + 1, some, 5)


def test_the_drawn_positions_are_these_on_every_machine() -> None:
    """Figures that were published with them can be computed again."""
    assert sample_positions(1000, 100, 5).tolist() == [126, 254, 479, 552, 756]
    assert sample_positions(1000, 100, 1, seed=3).tolist() == [361]


@pytest.mark.parametrize("kind", ["ngram", "gpt"])
def test_no_positions_have_no_probabilities(kind: str) -> None:
    found = log_probabilities_given(built(kind), IDS, np.array([], np.int64), 5)
    assert (found.dtype, found.shape) == (np.float64, (0,))


def test_the_limits_themselves_are_in_range() -> None:
    positions = np.array([BLOCK, len(IDS) - 1])
    assert log_probabilities_given(built("gpt"), IDS, positions, BLOCK).shape == (2,)
    with pytest.raises(DataError, match="positions 16 to 60 of 60 tokens: expected 16 to 59"):
        log_probabilities_given(built("gpt"), IDS, positions + np.array([0, 1]), BLOCK)
    with pytest.raises(DataError, match="positions 15 to 58 of 60 tokens: expected 16 to 59"):
        log_probabilities_given(built("gpt"), IDS, positions - 1, BLOCK)


def test_windows_per_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 128, fewer if their logits would take too much memory, and at least one."""
    model, given = built("lstm"), []
    assert isinstance(model, LanguageModel)
    advance = model.advance
    monkeypatch.setattr(model, "advance", lambda ids: given.append(ids.shape) or advance(ids))  # type: ignore[func-returns-value]
    ids = np.random.default_rng(4).integers(0, VOCABULARY, 400)
    positions = np.arange(10, 310)
    expected = log_probabilities_given(model, ids, positions, 2)
    assert given == [(128, 2), (128, 2), (44, 2)]
    for elements, rows in ((VOCABULARY * 2 * 100, 100), (VOCABULARY * 2 * 100 - 1, 99), (1, 1)):
        given.clear()
        monkeypatch.setattr("tinylm.decode.context._ELEMENTS", elements)
        np.testing.assert_allclose(log_probabilities_given(model, ids, positions, 2), expected, rtol=1e-12)
        assert given[0] == (rows, 2)
        assert sum(n for n, _ in given) == 300


@pytest.mark.parametrize("kind", ["ngram", "gpt"])
@pytest.mark.parametrize("bad", [-1, VOCABULARY])
def test_a_scored_token_outside_the_vocabulary_is_refused(kind: str, bad: int) -> None:
    """Also one that is no model's input."""
    ids = np.array([1, 2, 3, bad])
    with pytest.raises(RangeError, match=f"token id {bad} is out of range"):
        log_probabilities_given(built(kind), ids, np.array([3]), 2)
