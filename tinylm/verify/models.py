"""The layers and models that are checked: name -> a function that builds one and the batch that it is checked on.

To add one, put a function `builder(of)` into MODELS that builds it, small and with dropout off, of the classes `of(Class)`:
with tinylm's classes themselves it gives the model, with those that `verify/torch/twins.py` has in their place its PyTorch twin.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm import nn
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.errors import ConfigError
from tinylm.models import GPT, GPTConfig, Llama, RNNModel, TransformerModel
from tinylm.models.classifier import BagClassifier, Ensemble, LinearClassifier, LSTMClassifier, TransformerClassifier
from tinylm.models.llama import LlamaConfig
from tinylm.models.translator import RecurrentTranslator, Translator

Classes = Callable[[type[nn.Module]], Any]  # a class of tinylm -> the class to build of
Builder = Callable[[Classes], tuple[Any, Any]]  # -> the model and its batch, as `compare` takes it


def model_names(name: str | None = None) -> list[str]:
    """Returns the names of all models, or the one that is given. Raises ConfigError if no model has it."""
    if name is not None and name not in MODELS:
        raise ConfigError(f"unknown model {name!r}: expected one of {', '.join(sorted(MODELS))}")
    return sorted(MODELS) if name is None else [name]


def model_of(name: str) -> tuple[nn.Module, Any]:
    """Returns the model of that name, with the same weights at each call and no bias at zero, and its batch."""
    with drawing_from(Generator(0)):
        model, batch = MODELS[name](lambda kind: kind)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] += 0.3 * rng.standard_normal(p.shape)
    return model, batch


def _multihead_attention(of: Classes) -> tuple[Any, Any]:
    """Self-attention over 3 sequences of 5 steps, with a causal mask and padding."""
    x = np.random.default_rng(0).standard_normal((5, 3, 8))
    padding = np.arange(5) >= np.array([[5], [3], [4]])
    batch = {"query": x, "key": x, "value": x, "key_padding_mask": padding, "attn_mask": np.triu(np.ones((5, 5), bool), 1)}
    return of(nn.MultiheadAttention)(8, 2), batch


def _recurrent(kind: Any, states: int) -> tuple[Any, Any]:
    """A recurrent layer: 2 layers in both directions, on 5 steps of 3 sequences, from given initial states."""
    rng = np.random.default_rng(0)
    initial = [rng.standard_normal((4, 3, 6)) for _ in range(states)]
    x = rng.standard_normal((5, 3, 4))
    return kind(4, 6, num_layers=2, bidirectional=True), [x, tuple(initial) if states > 1 else initial[0]]


def _transformer_decoder(of: Classes) -> tuple[Any, Any]:
    """2 pre-norm decoder layers with GELU: a causal target of 5 steps, a padded memory of 4."""
    rng = np.random.default_rng(0)
    batch = {
        "tgt": rng.standard_normal((5, 3, 8)),
        "memory": rng.standard_normal((4, 3, 8)),
        "tgt_mask": np.triu(np.ones((5, 5), bool), 1),
        "memory_key_padding_mask": np.arange(4) >= np.array([[4], [2], [3]]),
    }
    layer = of(nn.TransformerDecoderLayer)(8, 2, dim_feedforward=12, dropout=0.0, activation="gelu", norm_first=True)
    return of(nn.TransformerDecoder)(layer, 2, of(nn.LayerNorm)(8)), batch


def _transformer(of: Classes) -> tuple[Any, Any]:
    """An encoder layer and a decoder layer, post-norm with GELU: padded sources of 4 steps, causal targets of 5."""
    rng = np.random.default_rng(0)
    padding = np.arange(4) >= np.array([[4], [2], [3]])
    batch = {
        "src": rng.standard_normal((3, 4, 8)), "tgt": rng.standard_normal((3, 5, 8)), "tgt_mask": np.triu(np.ones((5, 5), bool), 1),
        "src_key_padding_mask": padding, "memory_key_padding_mask": padding,
    }  # fmt: skip
    return of(nn.Transformer)(8, 2, 1, 1, 12, 0.0, "gelu", batch_first=True), batch


def _ids(*shape: int) -> np.ndarray:
    """Token ids."""
    return np.random.default_rng(0).integers(0, 17, shape)


def _sentences() -> list[np.ndarray]:
    """The ids of 3 sources side by side, their lengths, and the ids of 3 targets."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 11, (3, 6)), np.array([6, 2, 4]), rng.integers(0, 11, (3, 5))]


def _texts() -> list[np.ndarray]:
    """The word ids of 3 texts side by side, and their lengths."""
    return [np.random.default_rng(0).integers(0, 13, (3, 6)), np.array([6, 1, 4])]


def _bag_classifier(of: Classes) -> tuple[Any, Any]:
    """The classifier by words and word pairs, of 3 texts; each row of its table has a ratio of its own."""
    model = of(BagClassifier)(13, 8, 17)
    ratios = np.asarray(model.ratios)  # the memory of the tensor, whichever library's it is
    ratios[...] = np.random.default_rng(1).standard_normal(ratios.shape)
    return model, _texts()


_GPT = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=12, bias=True)
_LLAMA = LlamaConfig(vocab_size=17, block_size=8, n_layer=2, n_head=4, n_embd=12, head_dim=6, n_hidden=20, attention_bias=True)

MODELS: dict[str, Builder] = {
    "multihead_attention": _multihead_attention,
    "rnn": lambda of: _recurrent(of(nn.RNN), 1),
    "lstm": lambda of: _recurrent(of(nn.LSTM), 2),
    "gru": lambda of: _recurrent(of(nn.GRU), 1),
    "transformer_decoder": _transformer_decoder,
    "transformer": _transformer,
    # Language models with 2 layers, on 3 sequences of 7 tokens; GPT and Llama with tied embeddings
    "gpt": lambda of: (of(GPT)(_GPT), [_ids(3, 7)]),
    "llama": lambda of: (of(Llama)(_LLAMA), [_ids(3, 7)]),
    "transformer_model": lambda of: (of(TransformerModel)(17, 16, 2, 24, 2, 0.0), {"src": _ids(7, 3)}),
    "rnn_model": lambda of: (of(RNNModel)("lstm", 17, 8, 12, 2, 0.0), [_ids(7, 3)]),
    # Translators with 2 layers on each side: 3 padded sources of up to 6 tokens, targets of 5
    "translator": lambda of: (of(Translator)(11, 8, 2, 12, 2, 0.0, 16), _sentences()),
    "recurrent_translator": lambda of: (of(RecurrentTranslator)(11, 8, 2, 0.0), _sentences()),
    # Classifiers of 3 padded texts; the ensemble as a run of scripts/classify.py stores it
    "linear_classifier": lambda of: (of(LinearClassifier)(13, 17, classes=3), _texts()),
    "bag_classifier": _bag_classifier,
    "lstm_classifier": lambda of: (of(LSTMClassifier)(13, 8, 6, 2), _texts()),
    "transformer_classifier": lambda of: (of(TransformerClassifier)(13, 8, 2, 12, 2), _texts()),
    "ensemble_classifier": lambda of: (of(Ensemble)([of(LSTMClassifier)(13, 8, 6) for _ in range(2)]), _texts()),
}
