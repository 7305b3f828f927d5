"""Llama: a decoder-only Transformer with rotary positions, RMS norm, SwiGLU and shared key and value heads.

Touvron et al. 2023, arXiv:2302.13971, section 2.2; Ainslie et al. 2023, arXiv:2305.13245, for the shared heads.
Parameter names equal those of Hugging Face's LlamaForCausalLM.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinylm import nn, ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.models.language_model import DecoderOnlyModel

WIDEST_HEAD = 4096  # entries; those of published models have at most 256


@dataclass(frozen=True)
class RotaryScaling:
    """Llama 3.1's stretched positions: frequencies of more than original_block_size / low_freq_factor positions a turn are
    divided by factor, those of less than original_block_size / high_freq_factor are kept, and those between go from one to
    the other linearly in the number of turns that original_block_size positions make.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_block_size: int = 8192

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "original_block_size"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"rotary scaling: {name} is {getattr(self, name)}: expected more than 0")
        if not self.high_freq_factor > self.low_freq_factor:
            raise ConfigError(
                f"rotary scaling: high_freq_factor is {self.high_freq_factor}: expected more than low_freq_factor, {self.low_freq_factor}"
            )

    def __call__(self, frequency: float) -> float:
        turns = self.original_block_size * frequency / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = min(max(kept, 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / self.factor


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama. The defaults, with 65 characters, have 0.8 million parameters."""

    vocab_size: int = 65
    block_size: int = 64  # the longest context, in tokens
    n_layer: int = 4
    n_head: int = 4
    n_kv_head: int = 2  # heads of keys and values; each serves n_head / n_kv_head heads of queries
    n_embd: int = 128
    head_dim: int | None = None  # n_embd / n_head
    n_hidden: int = 384  # width inside the feed-forward
    rope_theta: float = 10000.0  # the slowest pair turns about 2π rope_theta positions long
    rope_pairing: Literal["half", "interleaved"] = "half"
    rope_scaling: RotaryScaling | None = None
    norm_eps: float = 1e-5
    attention_bias: bool = False
    mlp_bias: bool = False
    tied: bool = True  # the output projection is the token embedding
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.n_head % self.n_kv_head:
            raise ConfigError(f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_head}")
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ConfigError(f"the width n_embd {self.n_embd} is not divisible by n_head {self.n_head}: give head_dim")
        if not 2 <= self.head_width <= WIDEST_HEAD or self.head_width % 2:
            raise ConfigError(f"heads are {self.head_width} wide: rotary positions need an even width up to {WIDEST_HEAD}")
        if self.rope_pairing not in ("half", "interleaved"):
            raise ConfigError(f"rope_pairing is {self.rope_pairing!r}: expected 'half' or 'interleaved'")
        for name in ("rope_theta", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected more than 0")

    @property
    def head_width(self) -> int:
        """head_dim, or what it is by default."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @functools.cached_property
    def frequencies(self) -> tuple[float, ...]:
        """Radians a position of each pair of a head's entries: rope_theta^(-2i/D), scaled."""
        plain = (self.rope_theta ** (-2 * i / self.head_width) for i in range(self.head_width // 2))
        return tuple(plain if self.rope_scaling is None else map(self.rope_scaling, plain))


class LlamaAttention(nn.Module):
    """x -> W_o Attention(R W_q x, R W_k x, W_v x), R turning each head's pairs by their position's angles."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.dropout = config.n_head, config.n_kv_head, config.dropout
        self.frequencies, self.pairing = config.frequencies, config.rope_pairing
        width, queries, keys = config.n_embd, config.n_head * config.head_width, config.n_kv_head * config.head_width
        self.q_proj = nn.Linear(width, queries, config.attention_bias)
        self.k_proj = nn.Linear(width, keys, config.attention_bias)
        self.v_proj = nn.Linear(width, keys, config.attention_bias)
        self.o_proj = nn.Linear(queries, width, config.attention_bias)

    def forward(self, x: Tensor, residual: Tensor | None, cache: nn.KeyValueCache | None = None) -> Tensor:
        """x (N, T, C) -> (N, T, C), plus residual. cache: of the earlier positions; it takes up the new ones."""
        q, k, v = self._heads(x, 0 if cache is None else cache.length)
        if cache is not None:
            k, v = cache.extend(k, v)
        dropout = self.dropout if self.training else 0.0
        y = ops.scaled_dot_product_attention(q, k, v, causal=True, dropout=dropout)
        return self.o_proj(ops.merge_heads(y), residual)

    def _heads(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, n_head, T, D), keys and values (N, n_kv_head, T, D) of the positions from `start` on."""
        q, k, v = self.q_proj, self.k_proj, self.v_proj
        if nn.joinable(q, k, v):
            return ops.rotary_heads(
                x, q.weight, k.weight, v.weight, q.bias, k.bias, v.bias,
                frequencies=self.frequencies, start=start, pairing=self.pairing, frozen=q.frozen and k.frozen and v.frozen,
            )  # fmt: skip
        (queries,) = ops.split_heads(q(x), 1, self.n_head)
        (keys,), (values,) = (ops.split_heads(projection(x), 1, self.n_kv_head) for projection in (k, v))
        queries, keys = (ops.rotary(heads, self.frequencies, start, pairing=self.pairing) for heads in (queries, keys))
        return queries, keys, values


class LlamaMLP(nn.Module):
    """x -> W_down (silu(W_gate x) ⊙ W_up x)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.n_embd, config.n_hidden, config.mlp_bias)
        self.up_proj = nn.Linear(config.n_embd, config.n_hidden, config.mlp_bias)
        self.down_proj = nn.Linear(config.n_hidden, config.n_embd, config.mlp_bias)

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        gate, up = self.gate_proj, self.up_proj
        if nn.joinable(gate, up):
            frozen = gate.frozen and up.frozen
            return self.down_proj(ops.swiglu_linear(x, gate.weight, up.weight, gate.bias, up.bias, frozen=frozen), residual)
        return self.down_proj(ops.swiglu(gate(x), up(x)), residual)


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout on both branches."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        if self.training and self.drop.p > 0:
            x = x + self.drop(self.self_attn(self.input_layernorm(x), None, cache))
            return x + self.drop(self.mlp(self.post_attention_layernorm(x), None))
        x = self.self_attn(self.input_layernorm(x), x, cache)  # without dropout the sum is part of the last projection
        return self.mlp(self.post_attention_layernorm(x), x)


class _Trunk(nn.Module):
    """All but the output projection, under the name that Llama's checkpoints give it."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)


class Llama(DecoderOnlyModel):
    """Logits of the next token at every position: ids (N, T) -> (N, T, vocab_size).

    Initial weights as GPT's: N(0, s²) with s = 0.02 √(768 / n_embd), the projections onto the residual stream
    N(0, s²/(2 n_layer)), biases zero, norms one.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.block_size = config.vocab_size, config.block_size
        self.model = _Trunk(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        nn.init.fill_transformer(self, ("o_proj.weight", "down_proj.weight"), config.n_embd, config.n_layer)

    def blocks(self) -> nn.ModuleList:
        return self.model.layers

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None) -> Tensor:
        """ids (N, T) integers -> logits (N, T, vocab_size).

        cache: for step-by-step decoding, one for each layer; ids are then the continuation of what it has seen.
        Errors: ShapeError when positions pass block_size; RangeError for ids outside the vocabulary.
        """
        past = cache[0].length if cache else 0
        if ids.ndim != 2 or past + ids.shape[1] > self.config.block_size:
            after = f" after {past}" if past else ""
            raise ShapeError(f"Llama: ids have shape {ids.shape}{after}, expected (N, T) within a block_size of {self.config.block_size}")
        x = self.model.drop(self.model.embed_tokens(ids))
        return self.lm_head(self.model.norm(self.through_blocks(x, cache)))
