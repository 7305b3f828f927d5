"""Cached generation: a text from a model, without reading it again and again.

A GPT that has read T tokens knows the scores of the next one. To go on, it needs only the new token, if it has kept the keys
and values of the others: the state.
    logits, state = model.advance(ids, state)      ids (1, T) follow what `state` has seen; None at the start
                                                   logits (1, T, V), one row for each of these T tokens
Read the prompt once; then, `count` times: choose the token with the highest score after the last one (greedy), and
give the model that one token. Return the new tokens as a list of integers.
The model must see len(prompt) + count - 1 tokens in all: the last token that is chosen need not be read.
"""

import numpy as np

import tinylm


def generate(model, prompt, count):
    """Returns `count` new tokens as a list.  prompt: a list of tokens, not empty; count: at least 1."""
    found: list[int] = []
    with tinylm.no_grad():
        # >>> ids and state before, a loop
        ids, state = np.array([prompt]), None
        while len(found) < count:
            logits, state = model.advance(tinylm.Tensor(ids), state)
            token = int(logits.numpy()[0, -1].argmax())
            found.append(token)
            ids = np.array([[token]])
        # <<<
    return found
