"""The logit lens: what a model would say if it ended after each of its layers.

nostalgebraist 2020, "interpreting GPT: the logit lens". A residual stream is what the layers add to, so the final norm and the output
layer can read it after any of them. They were trained for the last one only: early layers are read in a basis that they
need not use, and what the lens does not show there may well be in the stream.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm import ops
from tinylm.checks import check_integer
from tinylm.engine.autograd import no_grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError, RangeError, listed
from tinylm.explain.activations import Activations, cache, names
from tinylm.explain.answers import Answer
from tinylm.explain.questions.readout import readout
from tinylm.explain.questions.subjects import Texts, called, subject_of
from tinylm.models import Ensemble
from tinylm.models.classifier import Ensemble as ClassifierEnsemble
from tinylm.models.classifier import TextClassifier
from tinylm.nn import Module

_STREAM = re.compile(r"(?:decoder\.)?(?:(h\.0)\.resid_pre|(h\.\d+)\.resid_post|(rnn\.\d+)\.(?:reverse\.)?h)")
_MOST_COLUMNS = 7  # layers side by side in the table


@dataclass(frozen=True)
class Lens(Answer):
    """What the lens shows for L layers (the embedding is one of them, except in recurrent models) and T positions.

    layers: their names.  tokens: what is read at each position.  targets: the ids of the right next tokens (T,), -1 if unknown.
    top: the ids of the most likely next tokens, the most likely first, (L, T, k), and their probabilities.  loss: of the right one in
    nats (L, T), NaN if unknown.  rank: of the right one, 1 if it is the most likely, 0 if unknown (L, T).  decided: for each position
    the first layer, as an index, from which on the last layer's top token stays the top one (T,).  A classifier has one
    position, the whole text, and its classes are the tokens.
    """

    layers: list[str]
    tokens: list[str]
    targets: np.ndarray
    top: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray
    rank: np.ndarray
    decided: np.ndarray
    texts: Texts | None = None

    def __repr__(self) -> str:
        return f"Lens({len(self.layers)} layers, {len(self.tokens)} positions)"

    def __rich__(self) -> Group:
        return Group(self.by_position(), "", self.by_layer())

    def answer(self, token: int) -> str:
        """Returns what a token id is called, nothing for -1."""
        return called(self.texts, [token])[0] if token >= 0 else ""

    def by_position(self) -> Table:
        """Returns one row per position: the top token of each layer with its probability, from which layer on it is the last one's, and
        the loss and rank of the right one. Of many layers every k-th is shown."""
        count = len(self.layers)
        shown = sorted({round(i) for i in np.linspace(0, count - 1, min(count, _MOST_COLUMNS))})
        table = Table("", "reads", *(self.layers[i] for i in shown), "decided at", "right", "loss", "rank", box=None)
        for t, token in enumerate(self.tokens):
            cells = []
            for i in shown:
                said = self.top[i, t, 0]
                style = "bold green" if i >= self.decided[t] else "" if said == self.top[-1, t, 0] else "dim"
                cells.append(Text(f"{self.answer(said)!r} {self.probabilities[i, t, 0]:.2f}", style))
            known = self.targets[t] >= 0
            right = (repr(self.answer(self.targets[t])), f"{self.loss[-1, t]:.2f}", str(self.rank[-1, t])) if known else ("", "", "")
            table.add_row(str(t), Text(repr(token)), *cells, self.layers[self.decided[t]], *map(Text, right))
        return table

    def by_layer(self) -> Table:
        """Returns one row per layer: at how many positions it decides, and how well it predicts the right token."""
        table = Table("layer", "decides at", "decided so far", "mean loss", "right token on top", box=None)
        known = self.targets >= 0
        for i, layer in enumerate(self.layers):
            here, so_far = (self.decided == i).sum(), (self.decided <= i).mean()
            quality = (f"{self.loss[i, known].mean():.3f}", f"{100 * (self.rank[i, known] == 1).mean():.0f} %") if known.any() else ("", "")
            table.add_row(layer, f"{here} of {len(self.tokens)} positions", f"{100 * so_far:.0f} %", *quality)
        return table

    def at(self, position: int) -> Table:
        """Returns one row per layer for one position: the most likely tokens with probabilities, and the right one's loss and rank.

        Raises RangeError for a position outside the text."""
        if not 0 <= position < len(self.tokens):
            raise RangeError(f"position is {position}: expected 0 to {len(self.tokens) - 1}, the text has {len(self.tokens)}")
        table = Table("layer", "says, the most likely first", "right", "loss", "rank", box=None)
        known = self.targets[position] >= 0
        for i, layer in enumerate(self.layers):
            pairs = zip(self.top[i, position], self.probabilities[i, position], strict=True)
            says = ",  ".join(f"{self.answer(token)!r} {p:.2f}" for token, p in pairs)
            right = (repr(self.answer(self.targets[position])), f"{self.loss[i, position]:.3f}", str(self.rank[i, position]))
            mark = " *" if i == self.decided[position] else ""
            table.add_row(layer + mark, Text(says), *map(Text, right if known else ("", "", "")))
        return table

    def to_json(self) -> dict[str, Any]:
        """Returns all of it by position and layer."""
        positions = []
        for t, token in enumerate(self.tokens):
            layers = []
            for i, layer in enumerate(self.layers):
                says = zip(self.top[i, t], self.probabilities[i, t], strict=True)
                known = {"loss": float(self.loss[i, t]), "rank": int(self.rank[i, t])} if self.targets[t] >= 0 else {}
                layers.append({"layer": layer, "says": [{"token": self.answer(k), "probability": float(p)} for k, p in says], **known})
            right = self.answer(self.targets[t]) if self.targets[t] >= 0 else None
            positions.append({"reads": token, "right": right, "decided_at": self.layers[self.decided[t]], "layers": layers})
        return {"layers": self.layers, "positions": positions}


def lens(
    model: Module, ids: Any, *, source: Any = None, label: int | None = None, texts: Texts | None = None, top: int = 5
) -> Lens:  # fmt: skip
    """Returns what a model would say after each layer: its stream there, read by the final norm and the output layer.

    model: a language model, a translator (whose decoder is shown), or a classifier (each layer through pooling and output layer; of an
    ensemble the mean of its members). ids, source and label: as in `subject_of`.  texts: what a token id is called.  top: how
    many tokens to keep. The last layer's are exactly the model's own. A TransformerModel's layers end with a norm, and are read without
    another one; its embedding is read as it is. Recurrent layers are read by their states h, which the layer above need not pass on.
    Raises ConfigError for a model that cannot be read, or for `top` below 1; AnomalyError for logits that are not finite.
    """
    check_integer("top", top, 1)
    subject = subject_of(model, ids, source, label)
    parts = _parts(model)
    with cache(model, [prefix + name for prefix, _, layers in parts for found in layers.values() for name in found]) as seen:
        subject.logits()
    classifies = isinstance(model, TextClassifier)
    layers = list(parts[0][2])
    read = [_log_probabilities(_read(model, parts, layer, seen), classifies) for layer in layers]
    for layer, logs in zip(layers, read, strict=True):
        if np.isnan(logs).any():
            raise AnomalyError(f"the logits after {layer} have NaN or infinities: nothing can be read from them")
    best = np.stack([_most_likely(logs, top) for logs in read])
    agrees = best[:, :, 0] == best[-1, :, 0]
    losses, ranks = zip(*(_of_targets(logs, subject.targets) for logs in read), strict=True)
    return Lens(
        layers, ["the text"] if classifies else called(texts, subject.ids), subject.targets, best,
        np.stack([np.exp(np.take_along_axis(logs, ids, 1)) for logs, ids in zip(read, best, strict=True)]),
        np.stack(losses), np.stack(ranks), len(layers) - np.cumprod(agrees[::-1], axis=0).sum(0), texts,
    )  # fmt: skip


_Part = tuple[str, Module, dict[str, list[str]]]  # what precedes the names; a model; its streams, by the layer


def _parts(model: Module) -> list[_Part]:
    """Returns the model, or the members of an ensemble, with the names of the streams that the lens reads."""
    if isinstance(model, Ensemble | ClassifierEnsemble):
        parts = [(f"members.{i}.", member, _streams(member)) for i, member in enumerate(model.members)]
        kinds = dict.fromkeys(", ".join(streams) for _, _, streams in parts)
        if len(kinds) > 1:
            raise ConfigError(f"the members of the ensemble have other layers: {listed(list(kinds))}: expected the same ones")
        return parts
    return [("", model, _streams(model))]


def _streams(model: Module) -> dict[str, list[str]]:
    """Returns the names of the streams by layer; those of both directions of a recurrent layer belong together."""
    found: dict[str, list[str]] = {}
    for name in names(model):
        if match := _STREAM.fullmatch(name):
            found.setdefault("embed" if match[1] else match[2] or match[3], []).append(name)
    return found


def _read(model: Module, parts: Sequence[_Part], layer: str, seen: Activations) -> Tensor:
    """Returns the logits of one layer, (1, T, V), or of a classifier (1,) or (1, K); of an ensemble as it combines those of its members."""
    with no_grad():
        each = [
            readout(member, ops.concatenate([seen[prefix + name] for name in layers[layer]], axis=2)) for prefix, member, layers in parts
        ]
        if isinstance(model, Ensemble):
            return ops.logsumexp(ops.stack([ops.log_softmax(logits) for logits in each]), axis=0) - math.log(len(each))
        return ops.stack(each).mean(axis=0) if len(each) > 1 else each[0]


def _most_likely(logs: np.ndarray, top: int) -> np.ndarray:
    """Returns the ids of the largest of each row (T, V), the largest first, and of equal ones the first."""
    top = min(top, logs.shape[1])
    least = np.partition(logs, -top, axis=1)[:, -top]
    candidates = [np.flatnonzero(row >= limit) for row, limit in zip(logs, least, strict=True)]
    return np.stack([ids[np.argsort(-row[ids], kind="stable")[:top]] for ids, row in zip(candidates, logs, strict=True)])


def _log_probabilities(logits: Tensor, classifies: bool) -> np.ndarray:
    """Returns log p of every token at every position (T, V), or of all classes (1, K), float64."""
    z = logits.numpy().astype(np.float64)
    if classifies and z.ndim == 1:
        return -np.logaddexp(0, np.stack([z, -z], axis=1))
    z = z if classifies else z[0]
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _of_targets(logs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (loss, rank) of the right token at each position."""
    right = logs[np.arange(len(targets)), targets]
    known = targets >= 0
    return np.where(known, -right, np.nan), np.where(known, 1 + (logs > right[:, None]).sum(1), 0)
