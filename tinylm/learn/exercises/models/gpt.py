"""A whole GPT: tokens in, the scores of the next token out.

    x = wte[ids] + wpe[0, 1, ..., T-1]        an embedding of what stands there, and of where         (N, T, C)
    x = block(x), for each block in h
    logits = lm_head(ln_f(x))                 (N, T, V)

__init__ makes, under these names:
    wte      nn.Embedding(vocab, width)           wpe   nn.Embedding(context, width)
    h        nn.ModuleList([Block(config), ...])  of `layers` blocks
    ln_f     nn.LayerNorm(width, bias=False)
    lm_head  nn.Linear(width, vocab, bias=False), whose weight *is* that of wte: assign the one to the other (tied weights)
Block is tinylm's own, like the one that you wrote; block(x) calls it. ids (N, T) are integers, of at most `context` positions.
"""

import numpy as np

from tinylm import nn
from tinylm.models.gpt import Block, GPTConfig


class GPT(nn.Module):
    def __init__(self, vocab, context, width, layers, heads):
        super().__init__()
        config = GPTConfig(vocab_size=vocab, block_size=context, n_layer=layers, n_head=heads, n_embd=width)
        # >>> the five parts
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList([Block(config) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.wte.weight
        # <<<

    def forward(self, ids):
        """Returns logits (N, T, V).  ids (N, T) integers."""
        # >>> embed, blocks, norm, head
        x = self.wte(ids) + self.wpe(np.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))
        # <<<
