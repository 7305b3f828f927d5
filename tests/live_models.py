"""Small models of every kind that the live page computes, edits with what they mean for the weights, and a page that computes."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from browser import opened

import tinylm
from tinylm import nn
from tinylm.explain.live.scripts import engine_scripts
from tinylm.explain.live.weights import rounded
from tinylm.models import GPT, Ensemble, GPTConfig, Llama, LlamaConfig, RNNModel, classifier
from tinylm.models.classifier import LSTMClassifier, TransformerClassifier
from tinylm.models.rotary_scaling import RotaryScaling, YarnScaling
from tinylm.nn.lora import adapt
from tinylm.pages.document import document

V = 11
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 10, 0]
SMALL: dict[str, Any] = {"vocab_size": V, "block_size": 16, "n_layer": 2}


def made_models() -> dict[str, Any]:
    """Returns a model of each kind, and of each setting that changes a formula."""
    tinylm.manual_seed(1)
    scaling = RotaryScaling(factor=4.0, original_block_size=16)
    llama: dict[str, Any] = {**SMALL, "n_hidden": 12, "attention_bias": True, "mlp_bias": True, "rope_scaling": scaling, "rope_theta": 20.0}
    made = {
        "gpt": GPT(GPTConfig(**SMALL, n_head=2, n_embd=8)),
        "gpt, tanh, biases": GPT(GPTConfig(**SMALL, n_head=4, n_embd=12, activation="gelu_tanh", bias=True)),
        "llama": Llama(LlamaConfig(**SMALL, n_head=4, n_kv_head=2, n_embd=16, n_hidden=12)),
        "llama, interleaved": Llama(
            LlamaConfig(**llama, n_head=2, n_kv_head=1, n_embd=12, head_dim=8, rope_pairing="interleaved", tied=False)
        ),
        "rnn": RNNModel("rnn", V, 6, 7, 2),
        "rnn, relu": RNNModel("rnn", V, 6, 6, 1, tie_weights=True, nonlinearity="relu"),
        "rnn, sigmoid": RNNModel("rnn", V, 6, 7, 2, nonlinearity="sigmoid"),
        "lstm": RNNModel("lstm", V, 6, 6, 2, tie_weights=True),
        "gru": RNNModel("gru", V, 6, 7, 2),
        "lstm classifier": LSTMClassifier(V, 5, 4, 2),
        "transformer classifier": TransformerClassifier(V, 8, 2, 7, 2),
        "ensemble of classifiers": classifier.Ensemble([LSTMClassifier(V, 5, 4), LSTMClassifier(V, 5, 4)]),
        "calibrated classifiers": classifier.Ensemble([LSTMClassifier(V, 5, 4), LSTMClassifier(V, 5, 4)], calibrated=True),
        "ensemble of language models": Ensemble([RNNModel("gru", V, 6, 7, 2), RNNModel("rnn", V, 5, 7, 1)]),
    }
    made["calibrated classifiers"].set_prior(np.array([0.2, 0.8]))
    single = RNNModel("gru", V, 6, 7, 2)
    single.rnn = nn.GRU(6, 7, 2, single_bias=True)
    rng = np.random.default_rng(0)
    last = {
        "gru, single bias": single,
        "gpt, untied": GPT(GPTConfig(**SMALL, n_head=2, n_embd=8, tied=False)),
        "llama, YaRN": Llama(LlamaConfig(**SMALL, n_head=2, n_kv_head=1, n_embd=8, n_hidden=6, rope_scaling=YarnScaling(4.0, 8))),
    }
    for model in (*made.values(), *last.values()):
        for p in model.parameters():  # biases and norms too, which start at 0 and 1
            p.data[...] = 1.5 * p.data + rng.normal(0, 0.2, p.shape)
    return made | last


MODELS = made_models()
REFERENCES = {name: rounded(model) for name, model in MODELS.items()}


def adapted() -> GPT:
    """Returns a GPT with adapters that do something."""
    tinylm.manual_seed(2)
    model = GPT(GPTConfig(**SMALL, n_head=2, n_embd=8))
    adapt(model, 2, 4.0, lambda path: path != "lm_head")
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data[...] = np.random.default_rng(0).normal(0, 0.3, p.shape)
    return model


def times(**factors: Any) -> Any:
    """Returns a function of a state dict that multiplies the arrays by the factors; __ stands for a point."""

    def change(state: dict[str, np.ndarray]) -> None:
        for name, factor in factors.items():
            state[name.replace("__", ".")] *= factor

    return change


def but(size: int, start: int, stop: int, factor: float = 0.0) -> np.ndarray:
    """Returns ones, and the factor from start to stop."""
    return np.where((np.arange(size) >= start) & (np.arange(size) < stop), factor, 1.0)


# (model, edits, the same done to the weights)
EDITS: list[tuple[str, list[dict[str, Any]], Any]] = [
    ("gpt", [{"name": "h.0.attn.head_out", "index": 1, "scale": 0}], times(transformer__h__0__attn__c_proj__weight=but(8, 4, 8))),
    ("gpt", [{"name": "h.1.attn.z", "index": 0, "scale": 3}], times(transformer__h__1__attn__c_proj__weight=but(8, 0, 4, 3))),
    ("gpt", [{"name": "h.1.mlp.hidden", "index": 5, "scale": -1}], times(transformer__h__1__mlp__c_proj__weight=but(32, 5, 6, -1))),
    ("gpt", [{"name": "h.1.attn.q", "index": 1, "scale": 2}], times(transformer__h__1__attn__c_attn__weight=but(24, 4, 8, 2)[:, None])),
    (
        "gpt, tanh, biases",
        [{"name": "h.0.mlp.out", "scale": 0}],
        times(transformer__h__0__mlp__c_proj__weight=0, transformer__h__0__mlp__c_proj__bias=0),
    ),
    (
        "gpt",
        [{"name": "h.0.attn.out", "scale": 0.5}, {"parameter": "transformer.wpe.weight", "scale": 2}],
        times(transformer__h__0__attn__c_proj__weight=0.5, transformer__wpe__weight=2),
    ),
    ("gpt", [{"parameter": "lm_head.weight", "index": 25, "scale": -2}], times(transformer__wte__weight=but(88, 25, 26, -2).reshape(V, 8))),
    (
        "llama",
        [{"name": "h.0.attn.head_out", "index": 2, "scale": 0}, {"name": "h.1.mlp.up", "index": 3, "scale": 2}],
        times(model__layers__0__self_attn__o_proj__weight=but(16, 8, 12), model__layers__1__mlp__up_proj__weight=but(12, 3, 4, 2)[:, None]),
    ),
    (
        "llama, interleaved",
        [{"name": "h.0.attn.k", "index": 0, "scale": 0.5}],
        times(model__layers__0__self_attn__k_proj__weight=0.5, model__layers__0__self_attn__k_proj__bias=0.5),
    ),
    ("rnn", [{"name": "rnn.0.h", "index": 2, "scale": 0}], times(rnn__weight_hh_l0=but(7, 2, 3), rnn__weight_ih_l1=but(7, 2, 3))),
    ("gru, single bias", [{"parameter": "rnn.bias_h_l1", "scale": 0}], times(rnn__bias_h_l1=0)),
    ("lstm", [{"name": "rnn.0.h", "index": 1, "scale": 2}], times(rnn__weight_hh_l0=but(6, 1, 2, 2), rnn__weight_ih_l1=but(6, 1, 2, 2))),
    ("gru", [{"name": "rnn.1.h", "scale": 0}], times(rnn__weight_hh_l1=0, decoder__weight=0)),
    ("lstm classifier", [{"name": "pooled", "index": 6, "scale": 3}], times(decoder__weight=but(8, 6, 7, 3))),
    (
        "lstm classifier",
        [{"name": "rnn.0.reverse.h", "index": 1, "scale": 0}],
        times(rnn__weight_hh_l0_reverse=but(4, 1, 2), rnn__weight_ih_l1=but(8, 5, 6), rnn__weight_ih_l1_reverse=but(8, 5, 6)),
    ),
    (
        "transformer classifier",
        [{"name": "h.1.attn.v", "index": 0, "scale": 0}],
        times(transformer_encoder__layers__1__self_attn__out_proj__weight=but(8, 0, 4)),
    ),
    (
        "ensemble of classifiers",
        [{"name": "members.1.embed", "scale": 2}, {"parameter": "members.0.decoder.bias", "scale": -1}],
        times(members__1__encoder__weight=2, members__0__decoder__bias=-1),
    ),
]

# (model, settings of its record, which are then wrong)
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("gpt", {"activation": "gelu_tanh"}),
    ("gpt", {"norm_eps": 1e-4}),
    ("gpt", {"n_head": 4}),
    ("llama", {"rope_pairing": "interleaved"}),
    ("llama, interleaved", {"rope_pairing": "half"}),
    ("llama, interleaved", {"frequencies": [1.0, 0.4, 0.2, 0.1]}),
    ("llama, YaRN", {"rope_attention": 1.0}),
    ("rnn", {"nonlinearity": "sigmoid"}),
    ("transformer classifier", {"n_head": 4}),
    ("transformer classifier", {"norm_eps": 1e-3}),
]


def computed(script: str, data: Any, folder: Path) -> Any:
    """Returns what a script, the body of a function of `data` that the engine's scripts precede, returns in Chromium."""
    ending = f"""
      const compute = data => {{{script}}};
      const data = JSON.parse(document.getElementById("data").textContent);
      document.getElementById("found").textContent = JSON.stringify(compute(data));
    """
    page = folder / "computed.html"
    page.write_bytes(document("", '<pre id="found"></pre>', scripts=[*engine_scripts(), ending], data=data))
    console, dom = opened(page)
    assert console == [], console
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert found is not None
    return json.loads(html.unescape(found[1]))
