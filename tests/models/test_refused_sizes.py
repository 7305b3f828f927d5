"""Every size that a model is made of: one of 0 is refused by name, before anything is built."""

import dataclasses
import math
from typing import Any

import pytest

from tinylm.errors import ConfigError
from tinylm.models import GPTConfig, LlamaConfig, RNNModel, TransformerModel
from tinylm.models.classifier import BagClassifier, LSTMClassifier, TransformerClassifier
from tinylm.models.sizes import parameter_count
from tinylm.models.translator import RecurrentTranslator, Translator

SIZES: dict[Any, dict[str, int]] = {
    BagClassifier: {"vocab_size": 13, "width": 8, "buckets": 17},
    LSTMClassifier: {"vocab_size": 13, "width": 8, "hidden": 6, "num_layers": 1},
    TransformerClassifier: {"vocab_size": 13, "width": 8, "heads": 2, "hidden": 6, "num_layers": 1},
    TransformerModel: {"ntoken": 13, "ninp": 8, "nhead": 2, "nhid": 6, "nlayers": 1},
    Translator: {"vocab_size": 13, "d_model": 8, "nhead": 2, "dim_feedforward": 6, "num_layers": 1},
    RecurrentTranslator: {"vocab_size": 13, "width": 8, "num_layers": 1},
    GPTConfig: {"vocab_size": 13, "block_size": 4, "n_layer": 1, "n_head": 2, "n_embd": 8},
    LlamaConfig: {"vocab_size": 13, "block_size": 4, "n_layer": 1, "n_head": 2, "n_kv_head": 1, "n_embd": 8, "n_hidden": 6},
}
CASES = [(model, name) for model, sizes in SIZES.items() for name in sizes]
OTHER_NAMES = {(LSTMClassifier, "hidden"): "hidden_size"}  # the layer's


@pytest.mark.parametrize(("model", "name"), CASES, ids=lambda part: getattr(part, "__name__", part))
@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_is_refused(model: Any, name: str, size: int) -> None:
    sizes = SIZES[model]
    with pytest.raises(ConfigError, match=f"{OTHER_NAMES.get((model, name), name)} is {size}[:,] expected at least 1"):
        model(**{**sizes, name: size})
    assert model(**sizes) is not None


@pytest.mark.parametrize("name", ["ntoken", "ninp", "nhid", "nlayers"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_recurrent_models_sizes(kind: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0: expected at least 1"):
        RNNModel(kind, **{**{"ntoken": 13, "ninp": 8, "nhid": 6, "nlayers": 1}, name: 0})


def test_the_sizes_of_a_configuration_are_its_fields() -> None:
    assert {field.name for field in dataclasses.fields(GPTConfig)} >= SIZES[GPTConfig].keys()


@pytest.mark.parametrize(("config", "name"), [(GPTConfig, "norm_eps"), (LlamaConfig, "norm_eps"), (LlamaConfig, "rope_theta")])
@pytest.mark.parametrize("bad", [0.0, -1e-5, math.nan])
def test_what_must_be_positive(config: Any, name: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {bad}"):
        config(**{**SIZES[config], name: bad})


@pytest.mark.parametrize("unit", [1, 4])
def test_the_number_of_parameters_without_building(unit: int) -> None:
    def build(width: int, hidden: int) -> RNNModel:
        return RNNModel("lstm", 50, width, hidden, 2)

    count = parameter_count(build, unit)
    for width, hidden in ((4, 1), (8, 40), (100, 7), (400, 300)):
        assert count(width, hidden) == build(width, hidden).num_parameters()
