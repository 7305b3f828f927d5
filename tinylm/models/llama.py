"""Llama: a decoder-only Transformer with rotary positions, RMS norm, SwiGLU and shared key and value heads.

Touvron et al. 2023, arXiv:2302.13971, section 2.2; Ainslie et al. 2023, arXiv:2305.13245, for the shared heads.
Parameter names equal those of Hugging Face's LlamaForCausalLM.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinylm import nn, ops
from tinylm.checks import check_positive, check_sizes
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import DecoderOnlyModel
from tinylm.models.rotary_scaling import Scaling, plain_frequencies

WIDEST_HEAD = 4096  # entries; those of published models have at most 256


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
    rope_scaling: Scaling | None = None  # a rule of rotary_scaling.py for texts longer than those of training
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
        if self.rope_scaling is not None:
            self.frequencies_at(self.block_size)  # which raises if the rule does not fit heads of this width

    @property
    def head_width(self) -> int:
        """The width of a head: head_dim, or n_embd / n_head if it is None."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @functools.cached_property
    def frequencies(self) -> tuple[float, ...]:
        """Radians per position of each pair of a head's entries: rope_theta^(-2i/D), scaled; with a rule that depends on the length
        of a text (`rope_scaling.by_length`), those of a short one."""
        return self.frequencies_at(1)

    def frequencies_at(self, length: int) -> tuple[float, ...]:
        """Returns the frequencies in a text of so many tokens."""
        if self.rope_scaling is None:
            return plain_frequencies(self.rope_theta, self.head_width)
        return self.rope_scaling.frequencies(self.rope_theta, self.head_width, length)

    @property
    def rope_attention(self) -> float:
        """What queries and keys are each multiplied by: 1, except with YaRN."""
        return 1.0 if self.rope_scaling is None else self.rope_scaling.attention


class LlamaAttention(nn.Module):
    """x -> W_o Attention(R W_q x, R W_k x, W_v x), where R rotates each head's pairs by the angles of their position."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config, self.dropout = config, config.dropout
        self.frequencies, self.pairing = config.frequencies, config.rope_pairing
        width, queries, keys = config.n_embd, config.n_head * config.head_width, config.n_kv_head * config.head_width
        self.q_proj = nn.Linear(width, queries, config.attention_bias)
        self.k_proj = nn.Linear(width, keys, config.attention_bias)
        self.v_proj = nn.Linear(width, keys, config.attention_bias)
        self.o_proj = nn.Linear(queries, width, config.attention_bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def heads(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries (N, n_head, T, D), and keys and values (N, n_kv_head, S, D) with those of the cache, for x (N, T, C).

        YaRN multiplies queries and keys by a factor each; here the queries get both.
        """
        start, scaling = 0 if cache is None else cache.length, self.config.rope_scaling
        if scaling is not None and scaling.by_length:
            return self._turned_anew(x, start, cache)
        q, k, v = nn.rotary_heads(x, self.q_proj, self.k_proj, self.v_proj, frequencies=self.frequencies, start=start, pairing=self.pairing)
        if self.config.rope_attention != 1:
            q = q * self.config.rope_attention**2
        return (q, k, v) if cache is None else (q, *cache.extend(k, v))

    def _turned_anew(self, x: Tensor, start: int, cache: nn.KeyValueCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """As `heads` for frequencies that change with the length: the cache holds keys that are not rotated yet."""
        length, still = start + x.shape[1], (0.0,) * len(self.frequencies)  # an angle of 0 changes nothing
        q, k, v = nn.rotary_heads(x, self.q_proj, self.k_proj, self.v_proj, frequencies=still, start=0, pairing=self.pairing)
        if cache is not None:
            k, v = cache.extend(k, v)
        now = self.config.frequencies_at(length)
        return ops.rotary(q, now, start, pairing=self.pairing), ops.rotary(k, now, 0, pairing=self.pairing), v

    def forward(self, x: Tensor, residual: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        """Returns residual + dropout(attention(x)), all (N, T, C). cache: of the earlier positions; the new ones are appended."""
        q, k, v = self.heads(x, cache)  # (N, T, C) -> (N, n_head, T, D) and twice (N, n_kv_head, past + T, D)
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
