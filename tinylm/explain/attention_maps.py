"""Where attention looks: the weights of every head in a forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.array_summaries import short_html
from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.explain.activations import cache, names
from tinylm.nn import Module


@dataclass(frozen=True)
class Attention:
    """One attention layer.  name: such as 'h.0.attn'.  weights (N, heads, T, S): how much of
    the value at s query t takes, before dropout. They sum to 1 over s; all are 0 if the mask excludes every s."""

    name: str
    weights: np.ndarray

    def __repr__(self) -> str:
        return f"<Attention {self.name}: weights {self.weights.shape}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the maps of the first text, one head below the other."""
        return short_html(self.weights[0], f"{self.name}: the first of {len(self.weights)} texts, {self.weights.shape[1]} heads")


def attention_weights(model: Module, *inputs: Any, **named: Any) -> list[Attention]:
    """Returns the weights of every attention layer while the model reads `inputs`, the first layer first; [] if it has none.

    inputs, named: what the model's forward pass takes, such as ids. Raises ConfigError for something else than a model.
    """
    if patterns := _names(model, "attention_weights"):
        with cache(model, patterns) as seen:
            model(*inputs, **named)
        return attention_of(seen)
    return []


def _names(model: Module, function: str) -> list[str]:
    """Returns the names of the patterns. Raises ConfigError if `model` is something else."""
    if not isinstance(model, Module):
        raise ConfigError(f"explain.{function} got {type(model).__name__}: expected the model and its inputs, {function}(model, ids)")
    return [name for name in names(model) if name.split(".")[-1] == "pattern"]


def attention_of(seen: Mapping[str, Tensor]) -> list[Attention]:
    """Returns the weights among activations that a `cache` has kept."""
    patterns = {name: value for name, value in seen.items() if name.split(".")[-1] == "pattern"}
    return [Attention(name.removesuffix("pattern").rstrip("."), to_numpy(value.data)) for name, value in patterns.items()]


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
