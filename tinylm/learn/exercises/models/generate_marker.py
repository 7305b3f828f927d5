"""Marks cached generation."""

from typing import Any

import numpy as np

from tinylm import models
from tinylm.engine.autograd import no_grad
from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "Before the loop: ids = np.array([prompt]), which is (1, T), and state = None.",
    "In the loop: logits, state = model.advance(tinylm.Tensor(ids), state). The scores after the last token are logits.numpy()[0, -1].",
    "token = int(...argmax()); append it; then ids = np.array([[token]]): only the new one.",
)
THEN = "tinylm/decode/sampling.py and stepping.py: temperature, top-k, many texts at once."
MISTAKES = (
    Mistake.of("everything is read again", "ids = np.array([[token]])", "ids, state = np.array([[*prompt, *found]]), None", says="once"),
    Mistake.of(
        "everything is read again, after the state", "ids = np.array([[token]])", "ids = np.array([[*prompt, *found]])", says="one token"
    ),
    Mistake.of("the state is thrown away", "logits, state = model", "logits, _ = model", says="the state"),
    Mistake.of("the scores after the first token", "[0, -1].argmax", "[0, 0].argmax", says="first token"),
    Mistake.of("the lowest score", "argmax", "argmin", says="the highest score"),
    Mistake.of("one token too many", "len(found) < count", "len(found) <= count", says="tokens"),
)


class _Counting:
    """A model that notes what it is given."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.lengths: list[int] = []
        self.fresh: list[bool] = []

    def advance(self, ids: Any, state: Any = None) -> Any:
        self.lengths.append(Tensor.as_tensor(ids).shape[-1])
        self.fresh.append(not state)
        return self.model.advance(Tensor.as_tensor(ids), state)


def mark(work: Work) -> None:
    generate, count = work.get("generate"), 5
    model = models.GPT(models.GPTConfig(vocab_size=13, block_size=64, n_layer=2, n_head=2, n_embd=8, tied=False))
    for k, (_, p) in enumerate(model.named_parameters()):
        p.data[...] = normal(*p.shape, seed=k + 12)
    prompt = [3, 1, 4, 1]

    def greedy(begun: list[int]) -> list[int]:
        """Returns `count` tokens that begin with these, without a state."""
        found = list(begun)
        while len(found) < count:
            found.append(int(model(Tensor(np.array([[*prompt, *found]]))).numpy()[0, -1].argmax()))
        return found

    with no_grad():
        right = greedy([])
        of_first = greedy([int(model(Tensor(np.array([prompt]))).numpy()[0, 0].argmax())])
    work.begin("the tokens, against a model without a state")
    counting = _Counting(model)
    found = generate(counting, list(prompt), count)
    work.expect(
        isinstance(found, list) and len(found) == count, f"{found!r:.80} is returned: expected a list of {count} tokens", "", generate
    )
    if list(found) != right:
        lengths = counting.lengths
        cause = ""
        if list(found) == of_first:
            cause = "these are the scores after the first token: take those after the last, [0, -1]"
        elif found[0] != right[0]:
            cause = "the choice of the token is wrong: the one with the highest score, argmax, of the last row, [0, -1]"
        elif any(n > 1 for n in lengths[1:]):
            cause = "the state has seen the earlier tokens: give the model one token, the new one"
        elif any(counting.fresh[1:]):
            cause = "the state is not handed on: the model has forgotten the prompt"
        raise work.wrong(f"the tokens are {found}: expected {right}", cause, generate)
    work.begin("nothing is read twice")
    read, least = sum(counting.lengths), len(prompt) + count - 1
    cause = "each token is read once: give the model the new token and the state"
    work.expect(read == least, f"the model has read {read} tokens: {least} are enough", cause, generate)
