"""Where attention looks: the weights of every head, read from the tape of a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import as_array
from tinylm.explain.naming import Names, recorded_nodes
from tinylm.nn import Module


@dataclass(frozen=True)
class Attention:
    """One attention layer.  name: the path of its module.  weights (N, heads, T, S): how much of
    the value at s query t takes, before dropout. They sum to 1 over s; all are 0 if the mask excludes every s."""

    name: str
    weights: np.ndarray


def attention_weights(output: Any, *, model: Module | None = None) -> list[Attention]:
    """Returns the weights of the attention layers that led to `output`, the first layer first.

    output: a tensor of any model, computed with recording on (not in `no_grad`) and not freed by
    `backward`; the tape holds what each attention was given, and its weights are computed again. model: gives names.
    Raises AutogradError if there is no tape.
    """
    names = Names(model, output)
    found: list[Attention] = []
    for node in recorded_nodes(output):
        if node.op.name == "scaled_dot_product_attention":
            q, k, v, mask = (None if x is None else as_array(x) for x in node.inputs)
            kept = {name: node.settings[1][name] for name in ("causal", "scale") if name in node.settings[1]}
            (_, weights), _ = node.op.body(q, k, v, mask, return_weights=True, **kept)
            found.append(Attention(names.module(node) or f"attention {len(found)}", to_numpy(weights)))
    return found


def by_word(weights: np.ndarray, tokens: Sequence[str], sources: Sequence[str] | None = None) -> tuple[np.ndarray, list[str], list[str]]:
    """Returns attention between words, computed from attention between tokens: weights (..., T, S) -> (..., words,
    source words), then the words that look and the words looked at, each with the white space that follows it.

    The weight between two words is the sum over the tokens of the word looked at, averaged over the tokens of the
    word that looks; rows still sum to 1. sources: the S tokens looked at, if they are not the same as the T.
    """
    words, one = _grouped(tokens)
    source_words, other = (words, one) if sources is None else _grouped(sources)
    return (one / one.sum(axis=0)).T @ weights @ other, words, source_words


def _grouped(tokens: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the words, and a (T, words) array with a 1 where the token is part of the word."""
    words: list[str] = []
    member = []  # the word of each token
    for token in tokens:
        if not words or (words[-1][-1:].isspace() and not token[:1].isspace()) or (token[:1].isspace() and token.strip()):
            words.append("")
        words[-1] += token
        member.append(len(words) - 1)
    return words, np.eye(len(words))[member]


def strongest(weights: np.ndarray, position: int, count: int = 3, crossing: bool = False) -> list[tuple[int, float]]:
    """Returns where one head looks most from a position: (position, weight), the largest first, without weights of 0.
    The position itself is left out, unless the head is `crossing` from one text to another."""
    row = weights[position]
    order = [int(s) for s in np.argsort(-row, kind="stable") if row[s] > 0 and (crossing or s != position)]
    return [(s, float(row[s])) for s in order[:count]]
