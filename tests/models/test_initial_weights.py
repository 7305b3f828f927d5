"""What untrained models begin with: bounds and standard deviations as their docstrings say; gains of 1 and shifts of 0."""

import math
from typing import Any

import numpy as np
import pytest

import tinylm
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinylm.models.classifier import BagClassifier, LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.nn import LayerNorm, Module, TransformerDecoderLayer, TransformerEncoderLayer


def assert_uniform(weight: np.ndarray, bound: float) -> None:
    """Asserts that 1,000 or more numbers fill the interval and no more."""
    assert weight.size >= 1000
    assert 0.98 * bound < np.abs(weight).max() <= bound
    assert abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.06


def assert_normal(weight: np.ndarray, std: float) -> None:
    assert weight.size >= 1000
    assert abs(weight.std() / std - 1) < 0.06
    assert abs(weight.mean()) < 0.1 * std
    assert np.abs(weight).max() > 2.5 * std, "not uniform"


def assert_norms_do_nothing(model: Module) -> int:
    norms = [m for m in model.modules() if isinstance(m, LayerNorm)]
    for norm in norms:
        np.testing.assert_array_equal(norm.weight.data, 1)
        np.testing.assert_array_equal(norm.bias.data, 0)
    return len(norms)


def test_a_translator() -> None:
    tinylm.manual_seed(1)
    model = Translator(300, 32, 2, 64, 2)
    assert_normal(model.embedding.weight.data, 32**-0.5)
    matrices = [p for stack in (model.encoder, model.decoder) for p in stack.parameters() if p.ndim == 2]
    assert len(matrices) == 2 * 4 + 2 * 6
    for p in matrices:
        assert_uniform(p.data, math.sqrt(6 / sum(p.shape)))
    assert all(not np.array_equal(p.data, q.data) for i, p in enumerate(matrices) for q in matrices[:i] if p.shape == q.shape)
    assert assert_norms_do_nothing(model) == 2 * 2 + 2 * 3 + 2


def test_a_recurrent_translator() -> None:
    tinylm.manual_seed(1)
    model = RecurrentTranslator(300, 32, 2)
    assert_uniform(model.embedding.weight.data, 0.1)
    for p in [*model.encoder.parameters(), *model.decoder.parameters()]:
        if p.size >= 1000:
            assert_uniform(p.data, 32**-0.5)
        assert np.abs(p.data).max() <= 32**-0.5


def test_classifiers() -> None:
    tinylm.manual_seed(1)
    transformer = TransformerClassifier(200, 25, 5, 40)
    assert_normal(transformer.encoder.weight.data, 0.2)
    assert_norms_do_nothing(transformer)
    lstm = LSTMClassifier(200, 25, 16)
    assert lstm.encoder.weight.shape == (200, 25)
    bag = BagClassifier(200, 25, 100)
    assert sum(p.size for p in bag.parameters()) >= 300 * 25


@pytest.mark.parametrize("layer", [TransformerEncoderLayer, TransformerDecoderLayer])
def test_a_transformer_layer_as_pytorchs(layer: type[Module]) -> None:
    """The attention's joint projection Glorot-uniform, other matrices U(-1/sqrt(in), 1/sqrt(in)), as their biases; attention's are 0."""
    tinylm.manual_seed(1)
    model = layer(32, 2, 64)  # type: ignore[call-arg]
    assert_norms_do_nothing(model)
    for name, p in model.named_parameters():
        if name.endswith("in_proj_weight"):
            assert_uniform(p.data, math.sqrt(6 / (32 + 96)))
        elif name.endswith(("in_proj_bias", "out_proj.bias")):
            np.testing.assert_array_equal(p.data, 0)
        elif p.ndim == 2:
            assert_uniform(p.data, p.shape[1] ** -0.5)
        elif name.startswith("linear"):
            bound = 32**-0.5 if "1" in name else 64**-0.5
            assert 0 < np.abs(p.data).max() <= bound


def test_decoders() -> None:
    """What is added to the residual stream is smaller, as there are 2 layers additions of it."""
    tinylm.manual_seed(1)
    shape: dict[str, Any] = {"vocab_size": 100, "block_size": 32, "n_layer": 3, "n_head": 2, "n_embd": 48}
    std = 0.02 * math.sqrt(768 / 48)
    for model in (GPT(GPTConfig(**shape, bias=True)), Llama(LlamaConfig(**shape, n_hidden=64))):
        matrices = {name: p.data for name, p in model.named_parameters() if p.ndim == 2}
        onto_residual = {name for name in matrices if name.endswith(("c_proj.weight", "o_proj.weight", "down_proj.weight"))}
        assert len(onto_residual) == 6
        for name, weight in matrices.items():
            assert_normal(weight, std / math.sqrt(6) if name in onto_residual else std)
