"""Whoever uses a model finds it in the mode in which it was, part by part, and without dropout meanwhile."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinylm.data.tokenizers import CharTokenizer
from tinylm.decode import Sampling, Stepper, beam_search, generate, generate_batch, greedy, score_text, token_log_probabilities
from tinylm.decode.context import log_probabilities_given
from tinylm.engine.tensor import Tensor
from tinylm.errors import TinylmError
from tinylm.explain.reading import LanguageReading
from tinylm.models import GPT, Ensemble, GPTConfig, LanguageModel, RNNModel, TransformerModel
from tinylm.models.classifier import LSTMClassifier
from tinylm.models.translator import Translator
from tinylm.nn import Module
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.train.tasks.classification import logits_of
from tinylm.train.tasks.token_losses import token_losses

IDS = np.array([0, 1, 2, 3, 2, 1, 0, 4, 3, 2])
LETTERS = CharTokenizer("\nabcd")


def gpt() -> GPT:
    return GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=2, n_head=1, n_embd=4, dropout=0.5))


MODELS: dict[str, Callable[[], LanguageModel]] = {
    "gpt": gpt,
    "gru": lambda: RNNModel("gru", 5, 4, 6, 2, 0.5),
    "ensemble": lambda: Ensemble([gpt(), gpt()]),
}
USES: dict[str, Callable[[Any], Any]] = {
    "generate": lambda m: list(generate(m, [1, 2], 12, Sampling(greedy=True))),
    "batch": lambda m: list(generate_batch(m, [[1, 2], [3, 4]], 12, Sampling(greedy=True))),
    "without a cache": lambda m: list(generate(m, [1, 2], 12, Sampling(greedy=True), use_cache=False)),
    "stepper": lambda m: Stepper(m).feed(IDS[None, :4]).tolist(),
    "score": lambda m: token_log_probabilities(m, IDS).tolist(),
    "text": lambda m: score_text(m, LETTERS, "abcd").log_probability,
    "context": lambda m: log_probabilities_given(m, IDS, np.array([5]), 3).tolist(),
    "losses": lambda m: token_losses(m, IDS).tolist(),
    "explain": lambda m: LanguageReading(m, LETTERS, "abcd", "cpu").loss().item(),
    "lens": lambda m: LanguageReading(m, LETTERS, "abcd", "cpu").output().numpy().tolist(),
    "dynamic": lambda m: dynamic_losses(m, IDS, 1e-9).round(4).tolist(),
}


def modes(model: Module) -> list[bool]:
    return [module.training for module in model.modules()]


def partly_frozen(model: Module) -> list[bool]:
    """Puts every second part into evaluation mode, as one does with a frozen part of a model that learns."""
    for number, module in enumerate(model.modules()):
        module.training = number % 2 == 0
    return modes(model)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("use", USES)
def test_each_use_restores_the_mode(kind: str, use: str) -> None:
    model = MODELS[kind]()
    model.eval()
    expected = USES[use](model)
    assert not any(modes(model))
    model.train()
    assert USES[use](model) == expected  # dropout was off
    assert all(modes(model))
    before = partly_frozen(model)
    assert USES[use](model) == expected
    assert modes(model) == before


@pytest.mark.parametrize("kind", MODELS)
def test_between_two_tokens_and_after_a_stream_is_abandoned(kind: str) -> None:
    model = MODELS[kind]()
    before = partly_frozen(model)
    stream = generate(model, [1, 2], 10)
    next(stream)
    assert modes(model) == before  # so that training may go on between two tokens
    del stream
    gc.collect()
    assert modes(model) == before
    closed = generate(model, [1, 2], 10)
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert modes(model) == before


@pytest.mark.parametrize("kind", MODELS)
def test_after_an_error(kind: str) -> None:
    model = MODELS[kind]()
    before = partly_frozen(model)
    bad = np.array([1, 99])
    for use in (
        lambda: list(generate(model, bad, 2)), lambda: Stepper(model).feed(bad[None]), lambda: token_log_probabilities(model, bad),
        lambda: token_losses(model, bad), lambda: dynamic_losses(model, bad, 0.1), lambda: list(generate(model, [1], 2, Sampling(top_k=9))),
    ):  # fmt: skip
        with pytest.raises(TinylmError):
            use()
        assert modes(model) == before


def test_translations_and_labels() -> None:
    translator = Translator(6, 8, 2, 12, 2, dropout=0.5)
    source, ask = Tensor(np.array([[2, 3, 4]])), {"bos": 0, "eos": 1, "max_tokens": 5}
    translator.eval()
    state = translator.encode(source, np.array([3]))
    expected = [greedy(translator, state, **ask), *beam_search(translator, state, **ask)]
    before = partly_frozen(translator)
    assert [greedy(translator, state, **ask), *beam_search(translator, state, **ask)] == expected
    assert modes(translator) == before
    classifier = LSTMClassifier(6, 4, 5, 1, 0.5)
    labels = logits_of(classifier.eval(), [IDS[:3], IDS[:2]])
    before = partly_frozen(classifier)
    np.testing.assert_array_equal(logits_of(classifier, [IDS[:3], IDS[:2]]), labels)
    assert modes(classifier) == before


def test_a_transformer_without_a_cache() -> None:
    """nn.TransformerEncoder's layers, whose dropout is an argument of an op."""
    model = TransformerModel(5, 8, 2, 12, 2, 0.5)
    expected = USES["generate"](model.eval())
    before = partly_frozen(model)
    assert USES["generate"](model) == expected
    assert modes(model) == before
