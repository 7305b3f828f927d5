"""The models that are compared with PyTorch: name -> a function that builds both and a batch.

To add one, write a function that returns (tinylm model, torch model, batch) as `parity.compare`
takes them, small and with dropout off, and decorate it with @comparison. PyTorch is imported inside.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm import nn

Builder = Callable[[], tuple[nn.Module, Any, Any]]
MODELS: dict[str, Builder] = {}


def comparison(builder: Builder) -> Builder:
    """Registers a builder under its own name."""
    MODELS[builder.__name__] = builder
    return builder


@comparison
def multihead_attention() -> tuple[nn.Module, Any, Any]:
    """Self-attention over 3 sequences of 5 steps, with a causal mask and padding."""
    import torch

    x = np.random.default_rng(0).standard_normal((5, 3, 8))
    batch = {
        "query": x,
        "key": x,
        "value": x,
        "key_padding_mask": np.arange(5) >= np.array([[5], [3], [4]]),
        "attn_mask": np.triu(np.ones((5, 5), bool), 1),
    }
    return nn.MultiheadAttention(8, 2), _randomised(torch.nn.MultiheadAttention(8, 2)), batch


def _recurrent(name: str) -> tuple[nn.Module, Any, Any]:
    """2 layers in both directions, from given initial states."""
    import torch

    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    states = [rng.standard_normal((4, 3, 6)) for _ in range(2 if name == "LSTM" else 1)]
    batch = [rng.standard_normal((5, 3, 4)), tuple(states) if name == "LSTM" else states[0]]
    return getattr(nn, name)(4, 6, **settings), _randomised(getattr(torch.nn, name)(4, 6, **settings)), batch


@comparison
def rnn() -> tuple[nn.Module, Any, Any]:
    """The simple recurrent layer, 5 steps of 3 sequences."""
    return _recurrent("RNN")


@comparison
def lstm() -> tuple[nn.Module, Any, Any]:
    """The LSTM layer, 5 steps of 3 sequences."""
    return _recurrent("LSTM")


@comparison
def gru() -> tuple[nn.Module, Any, Any]:
    """The GRU layer, 5 steps of 3 sequences."""
    return _recurrent("GRU")


@comparison
def gpt() -> tuple[nn.Module, Any, Any]:
    """GPT with tied embeddings: 2 blocks, on 3 sequences of 7 tokens."""
    from tinylm.models.gpt import GPT, GPTConfig
    from tinylm.verify.torch_models import TorchGPT

    config = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=12, bias=True)
    ids = np.random.default_rng(0).integers(0, 17, (3, 7))
    return GPT(config), _randomised(TorchGPT(config)), [ids]


@comparison
def transformer_model() -> tuple[nn.Module, Any, Any]:
    """The language model of 2 encoder layers, on 3 sequences of 7 tokens."""
    from tinylm.models import TransformerModel
    from tinylm.verify.torch_models import TorchTransformerModel

    shape = (17, 16, 2, 24, 2, 0.0)
    ids = np.random.default_rng(0).integers(0, 17, (7, 3))
    return TransformerModel(*shape), _randomised(TorchTransformerModel(*shape)), {"src": ids}


@comparison
def transformer_decoder() -> tuple[nn.Module, Any, Any]:
    """2 pre-norm decoder layers with GELU: a causal target of 5 steps, a padded memory of 4."""
    import torch

    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"dim_feedforward": 12, "dropout": 0.0, "activation": "gelu", "norm_first": True}
    batch = {
        "tgt": rng.standard_normal((5, 3, 8)),
        "memory": rng.standard_normal((4, 3, 8)),
        "tgt_mask": np.triu(np.ones((5, 5), bool), 1),
        "memory_key_padding_mask": np.arange(4) >= np.array([[4], [2], [3]]),
    }
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **settings), 2, nn.LayerNorm(8))
    theirs = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, **settings), 2, torch.nn.LayerNorm(8))
    return ours, _randomised(theirs), batch


def _randomised(torch_model: Any) -> Any:
    """Every parameter moved off its initial value, so that biases are not zero."""
    import torch

    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in torch_model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=random)
    return torch_model
