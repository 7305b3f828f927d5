"""The blocks of GPT and Llama written out: x = x + attention(norm(x)), then x + mlp(norm(x))."""

from tinylm import nn, ops
from tinylm.engine.tensor import Tensor
from tinylm.explain.forward.attention import INSIDE, OF_HEADS, attention, attention_output
from tinylm.explain.forward.taps import Tap
from tinylm.models.gpt import Block
from tinylm.models.llama import LlamaBlock

_ATTENTION = [f"attn.{name}" for name in (*INSIDE, *OF_HEADS)]
GPT_NAMES = ["resid_pre", "norm_1", *_ATTENTION, "resid_mid", "norm_2", "mlp.pre", "mlp.hidden", "mlp.out", "resid_post"]
LLAMA_NAMES = ["resid_pre", "norm_1", *_ATTENTION, "resid_mid", "norm_2", "mlp.gate", "mlp.up", "mlp.hidden", "mlp.out", "resid_post"]


def gpt_block(block: Block, tap: Tap, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
    """Returns what `Block.forward` returns, x (N, T, C) -> (N, T, C)."""
    attn, mlp = block.attn, block.mlp
    x = tap("resid_pre", x)
    h = tap("norm_1", block.ln_1(x))
    q, k, v = ops.split_heads(attn.c_attn(h), 3, attn.n_head)
    if cache is not None:
        k, v = cache.extend(k, v)
    z = attention(tap.within("attn."), q, k, v, causal=True, dropout=attn.dropout if attn.training else 0.0)
    x = tap("resid_mid", x + attn.resid_dropout(attention_output(tap.within("attn."), z, attn.c_proj)))
    h = tap("norm_2", block.ln_2(x))
    h = tap("mlp.pre", mlp.c_fc(h))
    h = tap("mlp.hidden", ops.gelu(h, approximate="tanh") if mlp.activation == "gelu_tanh" else ops.gelu(h))
    h = tap("mlp.out", mlp.c_proj(h))
    return tap("resid_post", x + mlp.dropout(h))


def llama_block(block: LlamaBlock, tap: Tap, x: Tensor, cache: nn.KeyValueCache | None = None) -> Tensor:
    """Returns what `LlamaBlock.forward` returns, x (N, T, C) -> (N, T, C). Queries and keys are shown after their rotation,
    and YaRN's factors with the queries."""
    attn, mlp = block.self_attn, block.mlp
    x = tap("resid_pre", x)
    h = tap("norm_1", block.input_layernorm(x))
    q, k, v = attn.heads(h, cache)
    z = attention(tap.within("attn."), q, k, v, causal=True, dropout=attn.dropout if attn.training else 0.0)
    x = tap("resid_mid", x + attn.resid_dropout(attention_output(tap.within("attn."), z, attn.o_proj)))
    h = tap("norm_2", block.post_attention_layernorm(x))
    h = tap("mlp.hidden", ops.swiglu(tap("mlp.gate", mlp.gate_proj(h)), tap("mlp.up", mlp.up_proj(h))))
    h = tap("mlp.out", mlp.down_proj(h))
    return tap("resid_post", x + mlp.dropout(h))
