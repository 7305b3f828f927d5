"""A Transformer block: attention looks around, the MLP thinks, and both only add to what is there.

    x = x + attention(norm_1(x))         x (N, T, C): N sequences, T positions, width C
    x = x + mlp(norm_2(x))               mlp(x) = c_proj(gelu(c_fc(x))), inside four times as wide

attention(x), with H heads of width D = C/H:
    qkv = c_attn(x) (N, T, 3C); q, k, v = its three parts (N, T, C) along the last axis, in this order
    each to (N, H, T, D): reshape to (N, T, H, D), then swap axes 1 and 2
    y = scaled dot product attention, causal, (N, H, T, D); back to (N, T, C) the same way; then the projection c_proj
The layers are made in __init__, with the names of GPT-2's checkpoints. x.reshape(...), x.swapaxes(1, 2), tinylm.split(x, 3, axis=-1),
tinylm.gelu and tinylm.scaled_dot_product_attention(q, k, v, causal=True) are at hand.
"""

import tinylm
from tinylm import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        """x (N, T, C) -> (N, T, C)."""
        # >>> q, k, v by head; attention; back; the projection
        n, t, c = x.shape
        q, k, v = (a.reshape(n, t, self.heads, c // self.heads).swapaxes(1, 2) for a in tinylm.split(self.c_attn(x), 3, axis=-1))
        y = tinylm.scaled_dot_product_attention(q, k, v, causal=True)
        return self.c_proj(y.swapaxes(1, 2).reshape(n, t, c))
        # <<<


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        # >>> one line
        return self.c_proj(tinylm.gelu(self.c_fc(x)))
        # <<<


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attn, self.mlp = Attention(width, heads), MLP(width)

    def forward(self, x):
        """x (N, T, C) -> (N, T, C)."""
        # >>> two lines
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))
        # <<<
