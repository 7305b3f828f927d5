"""The context of a Stepper, compared with its rule: where it slides, what is computed again, and what is not."""

import numpy as np
import pytest

from tinylm.decode.stepping import Stepper, evaluation_mode, log_softmax
from tinylm.engine.tensor import Tensor
from tinylm.models import GPT, GPTConfig, LanguageModel, NgramLM, RNNModel

VOCABULARY = 7


class Recording(GPT):
    """A GPT that notes how many tokens each call of advance gets."""

    def __init__(self, block: int) -> None:
        super().__init__(GPTConfig(vocab_size=VOCABULARY, block_size=block, n_layer=2, n_head=2, n_embd=8, dropout=0.5))
        self.to(dtype="float64")
        for p in self.parameters():
            p.data += np.random.default_rng(0).standard_normal(p.shape) * 0.3
            p.bump_version()
        self.given: list[int] = []
        self.eval()

    def advance(self, ids, state=None):  # type: ignore[no-untyped-def]
        self.given.append(ids.shape[1])
        return super().advance(ids, state)


def beginnings(block: int, sizes: list[int]) -> list[int]:
    """Returns where the context begins after each feed: at 0, and once it is longer than the block, at its newest block/2 tokens."""
    start, total, found = 0, 0, []
    for size in sizes:
        total += size
        if total - start > block:
            start = total - max(block // 2, 1)
        found.append(start)
    return found


@pytest.mark.parametrize("block", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("first", [1, 2, 6, 7, 8, 20])
def test_where_the_context_slides(block: int, first: int) -> None:
    """With and without the cache, the same distributions: those of the model on exactly the tokens of the context."""
    model, sizes = Recording(block), [first, *[1] * 12, 2, 1, 3, 1]
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (2, sum(sizes)))
    cached, uncached = Stepper(model), Stepper(model, use_cache=False)
    total, before = 0, 0
    for size, start in zip(sizes, beginnings(block, sizes), strict=True):
        piece = ids[:, total : total + size]
        total += size
        expected = log_softmax(LanguageModel.logits(model, Tensor(ids[:, start:total])).data[:, -1])
        model.given.clear()
        np.testing.assert_allclose(uncached.feed(piece), expected, rtol=0, atol=1e-12)
        found = cached.feed(piece)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert model.given == [total - start, size if start == before else total - start]
        assert (found.dtype, found.shape) == (np.float64, (2, VOCABULARY))
        before = start


def test_the_cache_is_the_default_and_scores_are_the_models_own_numbers() -> None:
    """Whoever keeps scores keeps them: a later step does not change them, and changing them changes nothing."""
    model = Recording(8).to(dtype="float32")
    stepper, ids = Stepper(model), np.array([[1, 2, 3]])
    scores = stepper.scores(ids[:, :2])
    assert model.given == [2]
    expected = LanguageModel.logits(model, Tensor(ids[:, :2])).data[:, -1]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    assert scores.dtype == np.float32
    assert scores.base is None
    kept = scores.copy()
    model.given.clear()
    stepper.scores(ids[:, 2:])
    assert model.given == [1]
    np.testing.assert_array_equal(scores, kept)


def test_dropout_is_off_and_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recording(8)
    model.train()
    stepper, ids = Stepper(model), np.array([[1, 2, 3]])
    np.testing.assert_array_equal(stepper.feed(ids), Stepper(model).feed(ids))
    outputs = []
    advance = model.advance
    monkeypatch.setattr(model, "advance", lambda *given: outputs.append(advance(*given)) or outputs[-1])
    stepper.feed(ids)
    assert not outputs[0][0].requires_grad


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_recurrent_model_never_forgets(kind: str) -> None:
    model = RNNModel(kind, VOCABULARY, 4, 6, 2, 0.5).to(dtype="float64").eval()
    ids = np.random.default_rng(2).integers(0, VOCABULARY, (3, 30))
    for use_cache in (True, False):
        stepper = Stepper(model, use_cache=use_cache)
        for t in (0, 1, 2, 5, 29):
            found = stepper.feed(ids[:, t:30] if t == 29 else ids[:, t : {0: 1, 1: 2, 2: 5, 5: 29}[t]])
        np.testing.assert_allclose(found, log_softmax(LanguageModel.logits(model, Tensor(ids)).data[:, -1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 9])
def test_an_ngram_model_sees_the_rows_last_tokens(order: int) -> None:
    """An order of 9, the largest, looks at 8 tokens; each row has its own."""
    rng = np.random.default_rng(3)
    text = rng.integers(0, 2, 5000)
    model = NgramLM(2, order).fit(text)
    ids = rng.integers(0, 2, (3, 20))
    stepper = Stepper(model)
    for t in range(20):
        found = stepper.feed(ids[:, t : t + 1])
        np.testing.assert_array_equal(found, [model.next_log_probabilities(row[: t + 1]) for row in ids])
    if order == 9:  # the eighth-last token matters
        changed = ids.copy()
        changed[:, -8] ^= 1
        assert (Stepper(model).feed(changed) != found).any(axis=1).all()


def test_evaluation_mode_and_back() -> None:
    for training in (True, False):
        model = Recording(8).train(training)
        with evaluation_mode(model):
            assert not any(m.training for m in model.modules())
            assert not model.advance(Tensor(np.array([[1]])))[0].requires_grad
        assert all(m.training == training for m in model.modules())
        with pytest.raises(ZeroDivisionError), evaluation_mode(model):
            raise ZeroDivisionError
        assert model.training == training


def test_log_softmax_row_by_row() -> None:
    """In float64, of numbers whose exponentials overflow, and without changing them."""
    logits = np.array([[[1e4, 1e4, -1e4], [0.0, 1.0, 2.0]], [[-5e3, -5e3 + 1, 0.0], [3.0, 3.0, 3.0]]], np.float32)
    kept = logits.copy()
    found = log_softmax(logits)
    e = np.exp([0.0, 1.0, 2.0])
    expected = [[[-np.log(2), -np.log(2), -2e4 - np.log(2)], np.log(e / e.sum())], [[-5e3, -5e3 + 1, 0.0], [-np.log(3)] * 3]]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(logits, kept)
