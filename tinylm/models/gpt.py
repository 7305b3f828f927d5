"""GPT: a decoder-only Transformer with learned positions and pre-norm blocks.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3. Parameter
names equal those of Hugging Face's GPT-2, except that projections are (out, in) as in nn.Linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinylm import nn, ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.models.language_model import DecoderOnlyModel


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. The defaults, with 65 characters, have 0.8 million parameters."""

    vocab_size: int = 65
    block_size: int = 64  # the longest context, in tokens
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = False  # in projections and layer norms
    activation: Literal["gelu", "gelu_tanh"] = "gelu"  # gelu_tanh: the approximation by tanh that GPT-2 was trained with
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.activation not in ("gelu", "gelu_tanh"):
            raise ConfigError(f"activation is {self.activation!r}: expected 'gelu' or 'gelu_tanh'")
        if not self.norm_eps > 0:
            raise ConfigError(f"norm_eps is {self.norm_eps}: expected more than 0")
        if self.n_embd % self.n_head:
            raise ConfigError(f"the width n_embd {self.n_embd} is not divisible by n_head {self.n_head}")


class CausalSelfAttention(nn.Module):
    """x -> W_o Attention(W_q x, W_k x, W_v x), each position looking at itself and the ones before."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, config.bias)

    def forward(self, x: Tensor, residual: Tensor | None, cache: nn.KeyValueCache | None = None) -> Tensor:
        """x (N, T, C) -> (N, T, C), plus residual. cache: of the earlier positions; it takes up the new ones."""
        q, k, v = ops.split_heads(self.c_attn(x), 3, self.n_head)  # each (N, heads, T, C/heads)
        if cache is not None:
            k, v = cache.extend(k, v)
        dropout = self.dropout if self.training else 0.0
        y = ops.scaled_dot_product_attention(q, k, v, causal=True, dropout=dropout)
        return self.c_proj(ops.merge_heads(y), residual)


class MLP(nn.Module):
    """x -> W_2 gelu(W_1 x), four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, config.bias)

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if self.activation == "gelu_tanh":
            return self.c_proj(ops.gelu(self.c_fc(x), approximate="tanh"), residual)
        return self.c_proj(self.c_fc(x, activation="gelu"), residual)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout on both branches."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        if self.training and self.drop.p > 0:
            x = x + self.drop(self.attn(self.ln_1(x), None, cache))
            return x + self.drop(self.mlp(self.ln_2(x), None))
        x = self.attn(self.ln_1(x), x, cache)  # without dropout the sum is part of the last projection
        return self.mlp(self.ln_2(x), x)


class _Transformer(nn.Module):
    """The trunk, under the name that GPT-2's checkpoints give it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)


class GPT(DecoderOnlyModel):
    """Logits of the next token at every position: ids (N, T) -> (N, T, vocab_size).

    The output projection is the token embedding itself. Initial weights: N(0, s²), the projections
    onto the residual stream N(0, s²/(2 n_layer)), biases zero. s = 0.02 √(768 / n_embd), which is
    GPT-2's 0.02 at GPT-2's own width; narrower models would learn slowly from weights so small.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.block_size = config.vocab_size, config.block_size
        self.transformer = _Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        nn.init.fill_transformer(self, ("c_proj.weight",), config.n_embd, config.n_layer)

    def blocks(self) -> nn.ModuleList:
        return self.transformer.h

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None) -> Tensor:
        """ids (N, T) integers -> logits (N, T, vocab_size).

        cache: for step-by-step decoding, one for each layer; ids are then the continuation of what it has seen.
        Errors: ShapeError when positions pass block_size; RangeError for ids outside the vocabulary.
        """
        past = cache[0].length if cache else 0
        if ids.ndim != 2 or past + ids.shape[1] > self.config.block_size:
            after = f" after {past}" if past else ""
            raise ShapeError(f"GPT: ids have shape {ids.shape}{after}, expected (N, T) within a block_size of {self.config.block_size}")
        trunk = self.transformer
        positions = ops.arange(past, past + ids.shape[1], device=ids.device)
        x = trunk.drop(trunk.wte(ids) + trunk.wpe(positions))
        return self.lm_head(trunk.ln_f(self.through_blocks(x, cache)))
