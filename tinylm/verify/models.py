"""The layers and models that are checked: name -> a function that builds one, its PyTorch twin and a batch.

To add one, write a function that returns its `Twins`, small and with dropout off, and decorate it
with @twins. PyTorch is imported only where the twin is built.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinylm import nn
from tinylm.engine.random_keys import default_generator
from tinylm.errors import ConfigError


class Twins(NamedTuple):
    """A model, a function that builds the same one in PyTorch, and the arguments of both as `parity.compare` takes them."""

    ours: nn.Module
    theirs: Callable[[], Any]
    batch: Any


MODELS: dict[str, Callable[[], Twins]] = {}


def twins(builder: Callable[[], Twins]) -> Callable[[], Twins]:
    """Registers a builder under its own name."""
    MODELS[builder.__name__] = builder
    return builder


def model_names(name: str | None = None) -> list[str]:
    """Every model, or the one of that name. Errors: ConfigError for a name that is none."""
    if name is not None and name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: expected one of {', '.join(sorted(MODELS))}")
    return sorted(MODELS) if name is None else [name]


def model_of(name: str) -> tuple[nn.Module, Any]:
    """The model of that name with the same weights at each call, no bias being zero, and its batch."""
    before = default_generator.state
    default_generator.seed(0)
    ours, _, batch = MODELS[name]()
    default_generator.state = before
    rng = np.random.default_rng(0)
    for p in ours.parameters():
        p.data[...] += 0.3 * rng.standard_normal(p.shape)
    return ours, batch


def twins_of(name: str) -> tuple[nn.Module, Any, Any]:
    """The model of that name, its PyTorch twin, whose weights count, and the batch: as `parity.compare` takes them."""
    ours, batch = model_of(name)
    import torch

    theirs = MODELS[name]().theirs()
    state = {key: torch.from_numpy(np.asarray(array)) for key, array in ours.state_dict().items()}
    theirs.load_state_dict(state)
    return ours, theirs, batch


@twins
def multihead_attention() -> Twins:
    """Self-attention over 3 sequences of 5 steps, with a causal mask and padding."""
    x = np.random.default_rng(0).standard_normal((5, 3, 8))
    batch = {
        "query": x,
        "key": x,
        "value": x,
        "key_padding_mask": np.arange(5) >= np.array([[5], [3], [4]]),
        "attn_mask": np.triu(np.ones((5, 5), bool), 1),
    }
    return Twins(nn.MultiheadAttention(8, 2), lambda: _torch_nn().MultiheadAttention(8, 2), batch)


def _recurrent(name: str) -> Twins:
    """2 layers in both directions, from given initial states."""
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    states = [rng.standard_normal((4, 3, 6)) for _ in range(2 if name == "LSTM" else 1)]
    batch = [rng.standard_normal((5, 3, 4)), tuple(states) if name == "LSTM" else states[0]]
    return Twins(getattr(nn, name)(4, 6, **settings), lambda: getattr(_torch_nn(), name)(4, 6, **settings), batch)


@twins
def rnn() -> Twins:
    """The simple recurrent layer, 5 steps of 3 sequences."""
    return _recurrent("RNN")


@twins
def lstm() -> Twins:
    """The LSTM layer, 5 steps of 3 sequences."""
    return _recurrent("LSTM")


@twins
def gru() -> Twins:
    """The GRU layer, 5 steps of 3 sequences."""
    return _recurrent("GRU")


@twins
def gpt() -> Twins:
    """GPT with tied embeddings: 2 blocks, on 3 sequences of 7 tokens."""
    from tinylm.models.gpt import GPT, GPTConfig

    config = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=12, bias=True)
    ids = np.random.default_rng(0).integers(0, 17, (3, 7))
    return Twins(GPT(config), lambda: _torch_models().TorchGPT(config), [ids])


@twins
def llama() -> Twins:
    """Llama with 4 heads of queries on 2 of keys, tied embeddings: 2 blocks, on 3 sequences of 7 tokens."""
    from tinylm.models.llama import Llama, LlamaConfig

    config = LlamaConfig(vocab_size=17, block_size=8, n_layer=2, n_head=4, n_embd=12, head_dim=6, n_hidden=20, attention_bias=True)
    ids = np.random.default_rng(0).integers(0, 17, (3, 7))
    return Twins(Llama(config), lambda: _torch_models().TorchLlama(config), [ids])


@twins
def transformer_model() -> Twins:
    """The language model of 2 encoder layers, on 3 sequences of 7 tokens."""
    from tinylm.models import TransformerModel

    shape = (17, 16, 2, 24, 2, 0.0)
    ids = np.random.default_rng(0).integers(0, 17, (7, 3))
    return Twins(TransformerModel(*shape), lambda: _torch_models().TorchTransformerModel(*shape), {"src": ids})


@twins
def transformer_decoder() -> Twins:
    """2 pre-norm decoder layers with GELU: a causal target of 5 steps, a padded memory of 4."""
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"dim_feedforward": 12, "dropout": 0.0, "activation": "gelu", "norm_first": True}
    batch = {
        "tgt": rng.standard_normal((5, 3, 8)),
        "memory": rng.standard_normal((4, 3, 8)),
        "tgt_mask": np.triu(np.ones((5, 5), bool), 1),
        "memory_key_padding_mask": np.arange(4) >= np.array([[4], [2], [3]]),
    }
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **settings), 2, nn.LayerNorm(8))

    def theirs() -> Any:
        layers = _torch_nn()
        return layers.TransformerDecoder(layers.TransformerDecoderLayer(8, 2, **settings), 2, layers.LayerNorm(8))

    return Twins(ours, theirs, batch)


@twins
def rnn_model() -> Twins:
    """The language model of 2 LSTM layers, on 3 sequences of 7 tokens."""
    from tinylm.models import RNNModel

    shape = ("lstm", 17, 8, 12, 2, 0.0)
    ids = np.random.default_rng(0).integers(0, 17, (7, 3))
    return Twins(RNNModel(*shape), lambda: _torch_models().TorchRNNModel(*shape), [ids])


def _sentences() -> list[np.ndarray]:
    """Ids of 3 sources side by side, their lengths, and ids of 3 targets."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 11, (3, 6)), np.array([6, 2, 4]), rng.integers(0, 11, (3, 5))]


@twins
def translator() -> Twins:
    """The Transformer translator, 2 layers a side: 3 padded sources of up to 6 tokens, targets of 5."""
    from tinylm.models.translator import Translator

    shape = (11, 8, 2, 12, 2, 0.0, 16)
    return Twins(Translator(*shape), lambda: _torch_models().TorchTranslator(*shape), _sentences())


@twins
def recurrent_translator() -> Twins:
    """The translator of two LSTMs without attention, 2 layers a side: sources and targets as the Transformer's."""
    from tinylm.models.translator import RecurrentTranslator

    shape = (11, 8, 2, 0.0)
    return Twins(RecurrentTranslator(*shape), lambda: _torch_models().TorchRecurrentTranslator(*shape), _sentences())


def _texts() -> list[np.ndarray]:
    """Word ids of 3 texts side by side, and their lengths."""
    return [np.random.default_rng(0).integers(0, 13, (3, 6)), np.array([6, 1, 4])]


@twins
def bag_classifier() -> Twins:
    """The classifier by words and word pairs, of 3 texts; each row of its table has a ratio of its own."""
    from tinylm.models.classifier import BagClassifier

    shape = (13, 8, 17)
    ours = BagClassifier(*shape)
    ours.ratios.data[...] = np.random.default_rng(1).standard_normal(ours.ratios.shape)
    return Twins(ours, lambda: _torch_classifiers().TorchBagClassifier(*shape), _texts())


@twins
def lstm_classifier() -> Twins:
    """The classifier of 2 bidirectional LSTM layers, of 3 padded texts."""
    from tinylm.models.classifier import LSTMClassifier

    shape = (13, 8, 6, 2)
    return Twins(LSTMClassifier(*shape), lambda: _torch_classifiers().TorchLSTMClassifier(*shape), _texts())


@twins
def transformer_classifier() -> Twins:
    """The classifier of 2 encoder layers, of 3 padded texts."""
    from tinylm.models.classifier import TransformerClassifier

    shape = (13, 8, 2, 12, 2)
    return Twins(TransformerClassifier(*shape), lambda: _torch_classifiers().TorchTransformerClassifier(*shape), _texts())


@twins
def ensemble_classifier() -> Twins:
    """Two LSTM classifiers whose logits are averaged, as a run of scripts/classify.py keeps them."""
    from tinylm.models.classifier import Ensemble, LSTMClassifier

    shape = (13, 8, 6)

    def theirs() -> Any:
        made = _torch_classifiers()
        return made.TorchEnsemble([made.TorchLSTMClassifier(*shape) for _ in range(2)])

    return Twins(Ensemble([LSTMClassifier(*shape) for _ in range(2)]), theirs, _texts())


def _torch_nn() -> Any:
    import torch

    return torch.nn


def _torch_models() -> Any:
    from tinylm.verify.torch import models

    return models


def _torch_classifiers() -> Any:
    from tinylm.verify.torch import classifiers

    return classifiers
