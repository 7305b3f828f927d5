"""A model packed for the live page, and which models can be."""

import base64
import copy
import json
import re

import numpy as np
import pytest
from live_models import IDS, MODELS, V

from tinylm import nn
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, WordTokenizer
from tinylm.errors import ConfigError, RangeError
from tinylm.explain.live.scripts import engine_scripts
from tinylm.explain.live.weights import live_problem, packed, rounded, rounding_shift
from tinylm.models import GPT, GPTConfig, TransformerModel, classifier
from tinylm.models.classifier import BagClassifier


def test_the_record() -> None:
    record = packed(MODELS["lstm"])
    assert (record["kind"], record["dtype"]) == ("lstm", "float16")
    assert record["config"] == {"block_size": None, "vocab_size": V, "n_layer": 2, "n_embd": 6, "n_hidden": 6, "bidirectional": False}
    assert record["parameters"]["encoder.weight"] == record["parameters"]["decoder.weight"] == {"shape": [V, 6], "offset": 0}
    assert len(base64.b64decode(record["weights"])) == 2 * MODELS["lstm"].num_parameters(), "tied weights are there once"
    json.dumps(record, allow_nan=False)


def test_rounded_weights() -> None:
    model = copy.deepcopy(MODELS["gpt"])
    model.transformer.wte.weight.data[0, 0] = 0.1
    assert rounded(model).lm_head.weight.data[0, 0] == np.float32(np.float16(0.1))
    assert rounded(model).lm_head.weight is not model.lm_head.weight
    assert rounded(model, exact=True).lm_head.weight.data[0, 0] == model.lm_head.weight.data[0, 0] == np.float32(0.1)
    assert 0 < rounding_shift(model, IDS) < 0.02
    assert rounding_shift(model, IDS, exact=True) == 0


def test_weights_that_do_not_fit_are_refused() -> None:
    model = copy.deepcopy(MODELS["rnn"])
    model.decoder.bias.data[3] = -65520
    too_large = r"a weight of decoder.bias is -65520, more than float16 can hold \(65504\): write the page with exact=True"
    for pack in (packed, rounded):
        with pytest.raises(RangeError, match=too_large):
            pack(model)
    assert packed(model, exact=True)["dtype"] == "float32"
    model.decoder.bias.data[3] = np.nan
    with pytest.raises(RangeError, match=r"decoder\.bias hold a NaN"):
        packed(model, exact=True)


def test_which_models_can_be_live() -> None:
    words, pieces = WordTokenizer([" the", " cat"]), BpeTokenizer.train("to be or not to be", 256)
    for name in MODELS:
        assert live_problem(MODELS[name], words) == "", name
    assert "TransformerModel" in live_problem(TransformerModel(V, 8, 2, 8, 1), CharTokenizer("ab"))
    assert "BagClassifier" in live_problem(classifier.Ensemble([BagClassifier(V, 4, 16)]), words)
    assert live_problem(MODELS["gpt"], pieces) == "its tokens are 'bpe', neither characters nor words"
    assert live_problem(MODELS["lstm classifier"], CharTokenizer("ab")) != ""
    with nn.init.shapes_only():
        large = GPT(GPTConfig(n_embd=256))
    assert live_problem(large, CharTokenizer("ab")) == f"the model has {large.num_parameters():,} parameters, more than 3,000,000"
    with pytest.raises(ConfigError, match="not a TransformerModel"):
        packed(TransformerModel(V, 8, 2, 8, 1))


def test_the_scripts_touch_no_page() -> None:
    text = "".join(engine_scripts())
    assert not re.search(r"\b(document|window|fetch|import|require|localStorage)\b", text)
