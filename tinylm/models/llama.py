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
from tinylm.checks import check_positive, check_sizes
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import DecoderOnlyModel

WIDEST_HEAD = 4096  # entries; those of published models have at most 256


@dataclass(frozen=True)
class RotaryScaling:
    """Llama 3.1's scaling of rotary frequencies for contexts longer than original_block_size, in which t turns are made.

    Frequencies with t below low_freq_factor are divided by factor, those with t above high_freq_factor are kept, and those
    between are interpolated linearly in t.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_block_size: int = 8192

    def __post_init__(self) -> None:
        check_positive(factor=self.factor, low_freq_factor=self.low_freq_factor, original_block_size=self.original_block_size)
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
    rope_theta: float = 10000.0  # the slowest pair takes about 2π rope_theta positions for one turn
    rope_pairing: Literal["half", "interleaved"] = "half"
    rope_scaling: RotaryScaling | None = None
    norm_eps: float = 1e-5
    attention_bias: bool = False
    mlp_bias: bool = False
    tied: bool = True  # the output projection is the token embedding
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(
            vocab_size=self.vocab_size, block_size=self.block_size, n_layer=self.n_layer, n_head=self.n_head,
            n_kv_head=self.n_kv_head, n_embd=self.n_embd, n_hidden=self.n_hidden,
        )  # fmt: skip
        if self.n_head % self.n_kv_head:
            raise ConfigError(f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_head}")
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ConfigError(f"the width n_embd {self.n_embd} is not divisible by n_head {self.n_head}: give head_dim")
        if not 2 <= self.head_width <= WIDEST_HEAD or self.head_width % 2:
            raise ConfigError(f"heads are {self.head_width} wide: rotary positions need an even width up to {WIDEST_HEAD}")
        if self.rope_pairing not in ("half", "interleaved"):
            raise ConfigError(f"rope_pairing is {self.rope_pairing!r}: expected 'half' or 'interleaved'")
        check_positive(rope_theta=self.rope_theta, norm_eps=self.norm_eps)

    @property
    def head_width(self) -> int:
        """The width of a head: head_dim, or n_embd / n_head if it is None."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @functools.cached_property
    def frequencies(self) -> tuple[float, ...]:
        """Radians per position of each pair of a head's entries: rope_theta^(-2i/D), scaled."""
        plain = (self.rope_theta ** (-2 * i / self.head_width) for i in range(self.head_width // 2))
        return tuple(plain if self.rope_scaling is None else map(self.rope_scaling, plain))


class LlamaAttention(nn.Module):
    """x -> W_o Attention(R W_q x, R W_k x, W_v x), where R rotates each head's pairs by the angles of their position."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.dropout, self.frequencies, self.pairing = config.dropout, config.frequencies, config.rope_pairing
        width, queries, keys = config.n_embd, config.n_head * config.head_width, config.n_kv_head * config.head_width
        self.q_proj = nn.Linear(width, queries, config.attention_bias)
        self.k_proj = nn.Linear(width, keys, config.attention_bias)
        self.v_proj = nn.Linear(width, keys, config.attention_bias)
        self.o_proj = nn.Linear(queries, width, config.attention_bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        """Returns residual + dropout(attention(x)), all (N, T, C). cache: of the earlier positions; the new ones are appended."""
        start = 0 if cache is None else cache.length
        q, k, v = nn.rotary_heads(  # (N, T, C) -> (N, n_head, T, D) and twice (N, n_kv_head, T, D)
            x, self.q_proj, self.k_proj, self.v_proj, frequencies=self.frequencies, start=start, pairing=self.pairing
        )
        if cache is not None:
            k, v = cache.extend(k, v)  # each (N, n_kv_head, past + T, D)
        y = ops.scaled_dot_product_attention(q, k, v, causal=True, dropout=self.dropout if self.training else 0.0)
        y = ops.merge_heads(y)  # (N, n_head, T, D) -> (N, T, n_head D)
        return self.o_proj.add_to(residual, y, self.resid_dropout)


class LlamaMLP(nn.Module):
    """x -> W_down (silu(W_gate x) ⊙ W_up x)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.n_embd, config.n_hidden, config.mlp_bias)
        self.up_proj = nn.Linear(config.n_embd, config.n_hidden, config.mlp_bias)
        self.down_proj = nn.Linear(config.n_hidden, config.n_embd, config.mlp_bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Returns residual + dropout(mlp(x)), all (N, T, C)."""
        h = nn.swiglu_linear(x, self.gate_proj, self.up_proj)  # (N, T, n_hidden)
        return self.down_proj.add_to(residual, h, self.dropout)


class LlamaBlock(nn.Module):
    """As GPT's block: x = x + attention(norm(x)), then x + mlp(norm(x)), with dropout on both branches."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = nn.RMSNorm(config.n_embd, config.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.n_embd, config.norm_eps)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), residual=x, cache=cache)
        return self.mlp(self.post_attention_layernorm(x), residual=x)


class _Trunk(nn.Module):
    """All but the output projection, under the name it has in Llama's checkpoints."""

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

    def blocks(self) -> nn.ModuleList[LlamaBlock]:
        return self.model.layers

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None, last: int | None = None) -> Tensor:
        """As DecoderOnlyModel.forward."""
        self.first_position(ids, cache)
        x = self.model.drop(self.model.embed_tokens(ids))  # (N, T, C)
        x = self.model.norm(self.through_blocks(x, cache))
        return self.lm_head(x if last is None else x[:, -last:])  # (N, T, C) -> (N, T, vocab_size)
