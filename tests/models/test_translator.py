"""Translators compared with PyTorch, and what they must not see."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from helpers import assert_parity, randomise

from tinylm import nn
from tinylm.decode.beams import beam_search
from tinylm.engine.autograd import no_grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.models.translator import RecurrentTranslator, TranslationModel, Translator
from tinylm.verify.torch.models import TorchRecurrentTranslator, TorchTranslator

V, D, S, T, N = 11, 8, 6, 5, 4
LENGTHS = np.array([6, 3, 1, 5])


SIZES = V, D, 2, 12, 2, 0.0, 16


def transformer() -> Translator:
    return Translator(*SIZES)


def transformer_twin() -> TorchTranslator:
    return TorchTranslator(*SIZES)


def recurrent() -> RecurrentTranslator:
    return RecurrentTranslator(V, D, 2, dropout=0.0)


def recurrent_twin() -> TorchRecurrentTranslator:
    return TorchRecurrentTranslator(V, D, 2, dropout=0.0)


BOTH = pytest.mark.parametrize("make", [transformer, recurrent])


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, V, (N, S)), rng.integers(0, V, (N, T))


def logits(model: TranslationModel, source: np.ndarray, target: np.ndarray, lengths: np.ndarray = LENGTHS) -> np.ndarray:
    with no_grad():
        return model(Tensor(source), lengths, Tensor(target)).data


@pytest.mark.parametrize(("make", "twin"), [(transformer, transformer_twin), (recurrent, recurrent_twin)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parity_with_torch(make: Callable, twin: Callable, dtype: str, data: tuple[np.ndarray, np.ndarray]) -> None:
    theirs = twin()
    randomise(theirs, np.random.default_rng(2))

    def call(module, source, target, lengths):
        if isinstance(module, TranslationModel):
            return module(source, lengths.data, target)
        return module(source, lengths, target)

    assert_parity(make(), theirs, [*data, LENGTHS], call=call, dtype=dtype)


@BOTH
def test_future_targets_change_no_past_logits(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model, (source, target) = make(), data
    before = logits(model, source, target)
    for t in range(1, T):
        changed = target.copy()
        changed[:, t:] = (changed[:, t:] + 1) % V
        after = logits(model, source, changed)
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


@BOTH
def test_padding_changes_nothing_and_the_source_everything(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model, (source, target) = make().to(dtype="float64"), data
    padding = np.arange(S) >= LENGTHS[:, None]
    before = logits(model, source, target)
    np.testing.assert_array_equal(logits(model, np.where(padding, (source + 1) % V, source), target), before)
    for row, n in enumerate(LENGTHS):  # alone and without padding
        alone = logits(model, source[row : row + 1, :n], target[row : row + 1], LENGTHS[row : row + 1])
        np.testing.assert_allclose(alone[0], before[row], rtol=1e-12, atol=1e-12)
        for place in range(n):  # each token of the source matters, and so does its position
            changed = source[row : row + 1, :n].copy()
            changed[0, place] = (changed[0, place] + 1) % V
            assert np.abs(logits(model, changed, target[row : row + 1], LENGTHS[row : row + 1]) - alone).max() > 1e-6


@BOTH
def test_steps_give_the_logits_of_the_whole(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    """Also if rows change places in between; and the state that a step starts from is not changed."""
    model, (source, target) = make().to(dtype="float64"), data
    whole, rows = logits(model, source, target), np.array([2, 0, 0, 3, 1])
    with no_grad():
        state = model.encode(Tensor(source), LENGTHS)
        for t in range(T):
            if t == 2:
                state, target, whole = state.select(rows), target[rows], whole[rows]
            first, new = model.step(Tensor(target[:, t]), state)
            again, _ = model.step(Tensor(target[:, t]), state)
            np.testing.assert_array_equal(first.data, again.data)
            np.testing.assert_allclose(first.data, whole[:, t], rtol=1e-12, atol=1e-12)
            state = new


@BOTH
def test_one_source_serves_many_targets(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model, (source, target) = make().to(dtype="float64"), data
    source, lengths = np.repeat(source[:1], N, 0), np.full(N, S - 1)
    whole = logits(model, source, target, lengths)
    with no_grad():
        state = model.encode(Tensor(source[:1]), lengths[:1]).select(np.zeros(N, int))
        for t in range(T):
            y, state = model.step(Tensor(target[:, t]), state)
            np.testing.assert_allclose(y.data, whole[:, t], rtol=1e-12, atol=1e-12)
            state, target, whole = state.select(np.arange(N)[::-1]), target[::-1], whole[::-1]


def test_a_source_is_projected_once_and_not_copied(data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    model, (source, target) = transformer(), data
    with no_grad():
        first = model.encode(Tensor(source[:1]), LENGTHS[:1])
        monkeypatch.delattr(nn.MultiheadAttention, "keys_and_values")
        state = first.select(np.zeros(N, int))
        for t in range(T):
            state = model.step(Tensor(target[:, t]), state)[1].select(np.array([1, 0, 3, 3]))
    for before, after in zip(first.memory, state.memory, strict=True):
        assert all(np.shares_memory(a.data, b.data) for a, b in zip(before, after, strict=True))


class WholePrefix:
    """Decodes without a carried state: each step is `forward` on all tokens so far."""

    class State:
        def __init__(self, prefixes: np.ndarray) -> None:
            self.prefixes = prefixes

        def select(self, rows: np.ndarray) -> "WholePrefix.State":
            return WholePrefix.State(self.prefixes[rows])

    def __init__(self, model: TranslationModel, source: np.ndarray) -> None:
        self.model, self.source = model, source

    def step(self, ids: Tensor, state: "WholePrefix.State") -> tuple[Tensor, "WholePrefix.State"]:
        prefixes = np.concatenate([state.prefixes, ids.data[:, None]], axis=1)
        source = np.repeat(self.source, len(prefixes), 0)
        y = self.model(Tensor(source), np.full(len(source), source.shape[1]), Tensor(prefixes))
        return y[:, -1], WholePrefix.State(prefixes)


@BOTH
def test_beam_search_finds_what_it_finds_on_whole_prefixes(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model, (source, _) = make().to(dtype="float64"), data
    for p in model.parameters():  # far enough from the initial weights for every beam to differ
        p.data[:] *= 2
    search: dict = {"bos": 0, "eos": 1, "max_tokens": 10, "beams": 4, "forbidden": [0]}
    for row in source[:, None]:
        with no_grad():
            found = beam_search(model, model.encode(Tensor(row), [S]), **search)
        expected = beam_search(WholePrefix(model, row), WholePrefix.State(np.zeros((1, 0), int)), **search)
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        np.testing.assert_allclose([h.log_probability for h in found], [h.log_probability for h in expected], rtol=1e-12)


@BOTH
def test_one_embedding_serves_everything(make: Callable) -> None:
    model = make()
    assert [name for name, _ in model.named_parameters() if "embedding" in name] == ["embedding.weight"]
    assert not any(shape == (V,) for shape in (p.shape for p in model.parameters()))


def test_layers_of_a_translator_start_different() -> None:
    model = transformer()
    a, b = (layer.self_attn.in_proj_weight.data for layer in model.encoder.layers)
    assert (a != b).all()
    assert 0.5 < model.embedding.weight.data.std() * math.sqrt(D) < 1.5


@BOTH
def test_dropout_works_in_training_only(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model = Translator(V, D, 2, 12, 2, 0.5, 16) if make is transformer else RecurrentTranslator(V, D, 2, 0.5)
    assert (logits(model, *data) != logits(model, *data)).any()
    model.eval()
    np.testing.assert_array_equal(logits(model, *data), logits(model, *data))


@BOTH
def test_lengths_that_do_not_fit_are_refused(make: Callable, data: tuple[np.ndarray, np.ndarray]) -> None:
    model = make()
    with pytest.raises(ShapeError, match=r"source has shape \(4, 6\) and its lengths \(3,\)"):
        logits(model, *data, LENGTHS[:3])
    for bad in (0, 7):
        with pytest.raises(ShapeError, match=f"source lengths are .*{bad}.*, expected 1 to 6"):
            logits(model, *data, np.array([6, 3, 1, bad]))


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_layers is 0: expected at least 1"):
        RecurrentTranslator(V, D, 0)
    with pytest.raises(ConfigError, match="dim_feedforward is 0: expected at least 1"):
        Translator(V, D, 2, 0, 1)


def test_a_sentence_longer_than_max_len_is_refused() -> None:
    with pytest.raises(ShapeError, match="at most 16 positions"):
        logits(transformer(), np.zeros((1, 17), int), np.zeros((1, 1), int), np.array([17]))
