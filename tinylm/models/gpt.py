"""GPT: a decoder-only Transformer with learned positions and pre-norm blocks.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3. Parameter
names equal those of Hugging Face's GPT-2, except that projections are (out, in) as in nn.Linear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinylm import nn, ops
from tinylm.checks import check_positive, check_sizes
from tinylm.engine.devices import device_namespace
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
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
    tied: bool = True  # the output projection is the token embedding

    def __post_init__(self) -> None:
        check_sizes(vocab_size=self.vocab_size, block_size=self.block_size, n_layer=self.n_layer, n_head=self.n_head, n_embd=self.n_embd)
        if self.activation not in ("gelu", "gelu_tanh"):
            raise ConfigError(f"activation is {self.activation!r}: expected 'gelu' or 'gelu_tanh'")
        check_positive(norm_eps=self.norm_eps)
        if self.n_embd % self.n_head:
            raise ConfigError(f"the width n_embd {self.n_embd} is not divisible by n_head {self.n_head}")


class CausalSelfAttention(nn.Module):
    """x -> W_o Attention(W_q x, W_k x, W_v x), each position attending to itself and the ones before."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        """Returns residual + dropout(attention(x)), all (N, T, C). cache: of the earlier positions; the new ones are appended."""
        q, k, v = ops.split_heads(self.c_attn(x), 3, self.n_head)  # (N, T, 3C) -> each (N, heads, T, C/heads)
        if cache is not None:
            k, v = cache.extend(k, v)  # each (N, heads, past + T, C/heads)
        y = ops.scaled_dot_product_attention(q, k, v, causal=True, dropout=self.dropout if self.training else 0.0)
        y = ops.merge_heads(y)  # (N, heads, T, C/heads) -> (N, T, C)
        return self.c_proj.add_to(residual, y, self.resid_dropout)


class MLP(nn.Module):
    """x -> W_2 gelu(W_1 x), four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Returns residual + dropout(mlp(x)), all (N, T, C)."""
        if self.activation == "gelu_tanh":
            h = ops.gelu(self.c_fc(x), approximate="tanh")  # (N, T, 4C)
        else:
            h = self.c_fc(x, activation="gelu")
        return self.c_proj.add_to(residual, h, self.dropout)


class Block(nn.Module):
    """x = x + attention(norm(x)), then x + mlp(norm(x)), with dropout on both branches.

    Each branch adds itself to x: without dropout the sum and the branch's last projection are one op.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
        x = self.attn(self.ln_1(x), residual=x, cache=cache)
        return self.mlp(self.ln_2(x), residual=x)


class _Transformer(nn.Module):
    """All but the output projection, under the name it has in GPT-2's checkpoints."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)


class GPT(DecoderOnlyModel):
    """Logits of the next token at every position: ids (N, T) -> (N, T, vocab_size).

    The output projection is the token embedding itself, unless the config unties them. Initial weights: N(0, s²), the projections
    onto the residual stream N(0, s²/(2 n_layer)), biases zero. s = 0.02 √(768 / n_embd), which is
    GPT-2's 0.02 at GPT-2's width; a narrower model would learn slowly from such small weights.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size, self.block_size = config.vocab_size, config.block_size
        self.transformer = _Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.transformer.wte.weight
        nn.init.fill_transformer(self, ("c_proj.weight",), config.n_embd, config.n_layer)

    def blocks(self) -> nn.ModuleList[Block]:
        return self.transformer.h

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None, last: int | None = None) -> Tensor:
        """As DecoderOnlyModel.forward."""
        trunk, first = self.transformer, self.first_position(ids, cache)
        positions = Tensor(device_namespace(ids.device).arange(first, first + ids.shape[1]))  # (T,)
        x = trunk.drop(trunk.wte(ids) + trunk.wpe(positions))  # (N, T, C) + (T, C)
        x = trunk.ln_f(self.through_blocks(x, cache))
        return self.lm_head(x if last is None else x[:, -last:])  # (N, T, C) -> (N, T, vocab_size)
