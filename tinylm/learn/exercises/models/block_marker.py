"""Marks a Transformer block, on the weights of tinylm's."""

import numpy as np

from tinylm import nn, ops
from tinylm.engine.random_keys import manual_seed
from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work
from tinylm.models import gpt as ours

HINTS = (
    "n, t, c = x.shape. Split c_attn(x) into three, and bring each to (n, heads, t, c // heads): reshape first, then swapaxes(1, 2).",
    (
        "A reshape straight to (n, heads, t, D) has the right shape and mixes positions with heads. "
        "The way back is swapaxes(1, 2), then reshape(n, t, c)."
    ),
    "Block: x = x + self.attn(self.ln_1(x)), and then x + self.mlp(self.ln_2(x)), which takes the new x.",
)
THEN = "tinylm/models/gpt.py: `Block`, with a cache and dropout; `split_heads` in tinylm/ops/attention.py is one op."
MISTAKES = (
    Mistake.of("no residual around attention", "x = x + self.attn(self.ln_1(x))", "x = self.attn(self.ln_1(x))", says="no residual"),
    Mistake.of(
        "norms after the sums",
        "x = x + self.attn(self.ln_1(x))\n        return x + self.mlp(self.ln_2(x))",
        "x = self.ln_1(x + self.attn(x))\n        return self.ln_2(x + self.mlp(x))",
        says="after the sums",
    ),
    Mistake.of(
        "heads mixed with positions",
        "a.reshape(n, t, self.heads, c // self.heads).swapaxes(1, 2)",
        "a.reshape(n, self.heads, t, c // self.heads)",
        says="mixes positions",
    ),
    Mistake.of("the heads are not swapped back", "y.swapaxes(1, 2).reshape", "y.reshape", says="the way back is missing"),
    Mistake.of("an MLP without return", "return self.c_proj(tinylm", "self.c_proj(tinylm", says="MLP.forward (line 37) returns None"),
    Mistake.of("one norm for both", "self.mlp(self.ln_2(x))", "self.mlp(self.ln_1(x))", says="ln_1"),
    Mistake.of("not causal", "causal=True", "causal=False", says="later positions"),
    Mistake.of(
        "the MLP takes the old x",
        "x = x + self.attn(self.ln_1(x))\n        return x + self.mlp(self.ln_2(x))",
        "return x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))",
        says="the x before attention",
    ),
    Mistake.of("relu", "tinylm.gelu", "tinylm.relu", says="relu"),
)


def _variants(block: ours.Block, x: Tensor, heads: int) -> dict[str, np.ndarray]:
    """Returns what known mistakes give, by their phrases."""
    attn, mlp = block.attn, block.mlp

    def attention(x, causal=True, mixed=False, back=True):
        n, t, c = x.shape
        parts = ops.split(attn.c_attn(x), 3, axis=-1)
        if mixed:
            q, k, v = (a.reshape(n, heads, t, c // heads) for a in parts)
        else:
            q, k, v = (a.reshape(n, t, heads, c // heads).swapaxes(1, 2) for a in parts)
        y = ops.scaled_dot_product_attention(q, k, v, causal=causal)
        return attn.c_proj((y.swapaxes(1, 2) if back else y).reshape(n, t, c))

    def thought(x, activation=ops.gelu):
        return mlp.c_proj(activation(mlp.c_fc(x)))

    def whole(a, activation=ops.gelu):
        return (x + a) + thought(block.ln_2(x + a), activation)

    y = attention(block.ln_1(x))
    post = block.ln_1(x + attention(x))
    return {
        "a position sees later positions: causal=True is missing": whole(attention(block.ln_1(x), causal=False)),
        "a reshape straight to (N, H, T, D) mixes positions with heads": whole(attention(block.ln_1(x), mixed=True)),
        "the way back is missing: swap axes 1 and 2 of y, (N, H, T, D), before the reshape": whole(attention(block.ln_1(x), back=False)),
        "there is no residual around attention: x = x + ...": y + thought(block.ln_2(y)),
        "there is no residual around the MLP": thought(block.ln_2(x + y)),
        "the norms stand after the sums, and not before attention and MLP": block.ln_2(post + thought(post)),
        "the two norms are exchanged": x + attention(block.ln_2(x)) + thought(block.ln_1(x + attention(block.ln_2(x)))),
        "both use the norm ln_1": x + y + thought(block.ln_1(x + y)),
        "the MLP takes the x before attention": x + y + thought(block.ln_2(x)),
        "the activation is relu": whole(y, ops.relu),
        "the activation is missing": whole(y, lambda x: x),
    }


def mark(work: Work) -> None:
    width, heads = 8, 2
    work.begin("the layers have the names and shapes of tinylm's")
    manual_seed(0)
    right = ours.Block(ours.GPTConfig(n_embd=width, n_head=heads)).to(dtype="float64")
    for k, (_, p) in enumerate(right.named_parameters()):
        p.data[...] = normal(*p.shape, seed=k) * 0.5
    block = work.get("Block")(width, heads)
    work.expect(isinstance(block, nn.Module), "Block is no nn.Module", "", work.get("Block"))
    block = block.to(dtype="float64")
    mine, theirs = block.state_dict(), right.state_dict()
    odd = sorted({k for k in mine | theirs if k not in mine or k not in theirs or mine[k].shape != theirs[k].shape})
    work.expect(not odd, f"other parameters than tinylm's Block: {', '.join(odd)}", "", work.get("Block"))
    block.load_state_dict(theirs)
    work.begin("the value, on equal weights")
    x = Tensor(normal(2, 5, width))
    expected = right(x)
    causes = _variants(right, x, heads)
    compare(work, "Block(x)", block(x), expected, causes=causes, tolerance=1e-9, where=getattr(type(block), "forward", None))
    work.begin("the gradients of all parameters")
    dy = normal(2, 5, width, seed=1)
    block(x).backward(dy)
    expected.backward(dy)
    gradients = {name: q.grad for name, q in right.named_parameters()}
    for name, p in block.named_parameters():
        cause = "a tensor was turned into an array: the tape ends there"
        work.expect(p.grad is not None, f"{name} gets no gradient", cause, type(block).forward)
        compare(work, f"the gradient of {name}", p.grad, gradients[name], tolerance=1e-9, where=type(block).forward)
