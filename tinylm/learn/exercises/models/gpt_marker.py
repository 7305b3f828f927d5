"""Marks a GPT, on the weights of tinylm's."""

import numpy as np

from tinylm import models, ops
from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "forward: x = self.wte(ids) + self.wpe(np.arange(ids.shape[1])): (N, T, C) + (T, C). Then a loop over self.h.",
    "The tied weights: after making both, self.lm_head.weight = self.wte.weight. They are one parameter from then on.",
    "The last line is return self.lm_head(self.ln_f(x)).",
)
THEN = "tinylm/models/gpt.py. Train it: python scripts/train.py; look inside: python scripts/explain.py."
MISTAKES = (
    Mistake.of("no positions", " + self.wpe(np.arange(ids.shape[1]))", "", says="positions"),
    Mistake.of("weights that are not tied", "        self.lm_head.weight = self.wte.weight\n", "", says="tied"),
    Mistake.of("no last norm", "self.lm_head(self.ln_f(x))", "self.lm_head(x)", says="ln_f"),
    Mistake.of(
        "the first block alone",
        "        for block in self.h:\n            x = block(x)\n",
        "        x = self.h[0](x)\n",
        says="first block",
    ),
    Mistake.of(
        "a list instead of a ModuleList",
        "nn.ModuleList([Block(config) for _ in range(layers)])",
        "[Block(config) for _ in range(layers)]",
        says="ModuleList",
    ),
    Mistake.of("the last block first", "for block in self.h:", "for block in reversed(list(self.h)):", says="wrong order"),
    Mistake.of("positions from 1", "np.arange(ids.shape[1])", "np.arange(1, ids.shape[1] + 1)", says="from 0"),
    Mistake.of("one block, several times", "[Block(config) for _ in range(layers)]", "[Block(config)] * layers", says="one block"),
)


def mark(work: Work) -> None:
    vocab, context, width, layers, heads = 11, 8, 8, 2, 2
    kind = work.get("GPT")
    work.begin("the parameters: names, shapes, tied weights")
    model = kind(vocab, context, width, layers, heads)
    config = models.GPTConfig(vocab_size=vocab, block_size=context, n_layer=layers, n_head=heads, n_embd=width)
    right = models.GPT(config).to(dtype="float64")
    for k, (_, p) in enumerate(right.named_parameters()):
        p.data[...] = normal(*p.shape, seed=k) * 0.5
    theirs = {k.removeprefix("transformer."): v for k, v in right.state_dict().items()}
    mine = model.state_dict()
    missing = [k for k in theirs if k not in mine or mine[k].shape != theirs[k].shape]
    missing += [f"{k} (not in a GPT)" for k in mine if k not in theirs]
    plain = isinstance(getattr(model, "h", None), list | tuple)
    cause = "the blocks in a plain list are not found: nn.ModuleList" if plain else ""
    work.expect(not missing, f"missing or of another shape: {', '.join(missing[:4])}", cause, kind)
    tied = getattr(model.lm_head, "weight", None) is model.wte.weight
    work.expect(tied, "lm_head.weight is not wte.weight", "the weights are not tied: assign the one to the other", kind)
    blocks = {id(block) for block in model.h}
    work.expect(
        len(blocks) == layers, f"{layers} blocks were asked for, there is {len(blocks)}", "the list has one block several times", kind
    )

    model = model.to(dtype="float64")
    model.load_state_dict(theirs)
    work.begin("the logits, on equal weights")
    ids = np.random.default_rng(0).integers(0, vocab, (2, 6))
    trunk = right.transformer

    def logits(positions: np.ndarray | None = None, count: int = layers, norm: bool = True, order: int = 1) -> Tensor:
        x = trunk.wte(ids) + (0 if positions is None else trunk.wpe(positions))
        for block in list(trunk.h)[:count][::order]:
            x = block(x)
        return right.lm_head(trunk.ln_f(x) if norm else x)

    at = np.arange(6)
    causes = {
        "the positions are missing: wpe": logits(),
        "the positions count from 1: they count from 0": logits(at + 1),
        "only the first block is used": logits(at, 1),
        "the blocks run in the wrong order": logits(at, order=-1),
        "the last norm, ln_f, is missing": logits(at, norm=False),
    }
    expected = right(Tensor(ids))
    compare(work, "GPT(ids)", model(Tensor(ids)), expected, causes=causes, tolerance=1e-9, where=kind.forward)
    work.begin("the gradients of a loss")
    for m in (model, right):
        ops.cross_entropy(m(Tensor(ids[:, :-1])), ids[:, 1:]).backward()
    gradients = {name.removeprefix("transformer."): q.grad for name, q in right.named_parameters()}
    gradients["lm_head.weight"] = gradients["wte.weight"]  # one parameter, which goes by the name that was made first
    for name, p in model.named_parameters():
        work.expect(p.grad is not None, f"{name} gets no gradient", "", kind.forward)
        compare(work, f"the gradient of {name}", p.grad, gradients[name], tolerance=1e-8, where=kind.forward)
