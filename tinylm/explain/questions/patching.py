"""Activation patching: where in a model the difference between two texts lies that makes it answer differently.

The model reads OTHER, with one activation of TEXT put in its place. What brings the answer to TEXT back carries the difference (the
"denoising" direction of causal tracing).  Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262, section 2.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.explain.activations import cache, names
from tinylm.explain.answers import Answer
from tinylm.explain.questions.edits import Edit, edited
from tinylm.explain.questions.subjects import Subject, Texts, called, subject_of
from tinylm.models.translator import RecurrentTranslator, TranslationModel
from tinylm.nn import Module

What = Literal["stream", "attn", "mlp", "heads"]
Metric = Literal["logit-difference", "log-probability"]

_NAMES: dict[What, str] = {  # what is patched: its activations, by the layer that they belong to
    "stream": r"(?P<embed>h\.0)\.resid_pre|(?P<layer>h\.\d+)\.resid_post|(?P<state>rnn\.\d+(?:\.reverse)?)\.[hc]",
    "attn": r"(?P<layer>h\.\d+)\.attn\.out",
    "mlp": r"(?P<layer>h\.\d+)\.mlp\.out",
    "heads": r"(?P<layer>h\.\d+)\.attn\.z",
}
_MOST_COLUMNS = 16  # layers side by side in the table
_LITTLE = 0.1  # a difference of logits of which the recovery says little
_SMALL = 1000  # roundings of the largest metric: a difference that they could make


@dataclass(frozen=True)
class Patching(Answer):
    """How much of the answer to TEXT comes back when one activation of OTHER's run is replaced by TEXT's: 0 nothing, 1 all of it.

    what: 'stream', 'attn' or 'mlp', patched at one position, or 'heads', each at all positions.  rows: the layers.  columns: the
    text's tokens, or the heads; others: the tokens of the other text, none for heads.
    recovery: (rows, columns) = (metric(patched) - metric(other)) / (metric(text) - metric(other)).
    metric: what was measured, in words; in_text, in_other: its values.
    """

    what: What
    rows: list[str]
    columns: list[str]
    others: list[str]
    recovery: np.ndarray
    metric: str
    in_text: float
    in_other: float

    def __repr__(self) -> str:
        return f"Patching({self.what}, {len(self.rows)} x {len(self.columns)}, {self.metric}: {self.in_text:.3f} and {self.in_other:.3f})"

    def __rich__(self) -> Group:
        head = f"{self.metric}: {self.in_text:.3f} for the text, {self.in_other:.3f} for the other one"
        about = "recovery: 0 as for the other text, 1 as for the text"
        if abs(self.in_text - self.in_other) < _LITTLE:
            about += f"; the two differ by {abs(self.in_text - self.in_other):.2g} only, so that small changes recover much"
        return Group(Text(f"{head}\n{about}"), self._heads() if self.what == "heads" else self._positions())

    def to_json(self) -> dict[str, Any]:
        """Returns all of it; the recovery is a list per row."""
        return {
            "what": self.what, "metric": self.metric, "in_text": self.in_text, "in_other": self.in_other,
            "rows": self.rows, "columns": self.columns, "others": self.others, "recovery": self.recovery.tolist(),
        }  # fmt: skip

    def _positions(self) -> Table:
        """Returns one row per position, the layers side by side: of many every k-th."""
        shown = sorted({round(i) for i in np.linspace(0, len(self.rows) - 1, min(len(self.rows), _MOST_COLUMNS))})
        table = Table("", "token", *(self.rows[i] for i in shown), box=None)
        for t, column in enumerate(self.columns):
            token = repr(column) if column == self.others[t] else f"{self.others[t]!r} → {column!r}"
            table.add_row(str(t), Text(token), *(_shown(self.recovery[i, t]) for i in shown))
        return table

    def _heads(self) -> Table:
        table = Table("layer", *self.columns, box=None)
        for row, values in zip(self.rows, self.recovery, strict=True):
            table.add_row(row, *map(_shown, values))
        return table


def _shown(recovery: float) -> Text:
    """Returns a recovery with two digits; what rounds to nothing is a dot."""
    return Text("·" if abs(recovery) < 0.005 else f"{recovery:.2f}", "bold" if recovery > 0.5 else "")


def patch(
    model: Module, ids: Any, other: Any, *, source: Any = None, what: What = "stream", answer: int | None = None,
    metric: Metric | None = None, texts: Texts | None = None, labels: Sequence[str] | None = None,
) -> Patching:  # fmt: skip
    """Reads `other` with one activation of the text's run put in at a time, and returns how much of the answer to the text comes back.

    ids, other: two texts (T,) of the same number of tokens. A translator reads `source` and `other`, and ids is the target so
    far. what: 'stream' is the residual stream before the first layer and after each, at one position at a time, or the states h and c of a
    recurrent layer at one step; 'attn' and 'mlp' are what these branches add at one position; 'heads' what each head adds at all
    positions. answer: the token that the model should say after the text; by default the one that it does. metric:
    'logit-difference' is the logit of the answer minus that of what the model says after `other`, and the default where these
    are not the same token; 'log-probability' is that of the answer. Of a classifier of two classes it is the
    logit of class 1; the classes of another are its tokens. texts: what a token id is called; labels: what the classes are. An
    ensemble's members are patched together.
    Raises ConfigError if the metric is the same for both texts, for a model without such activations, or unknown settings;
    ShapeError for texts of different lengths.
    """
    if what not in get_args(What):
        raise ConfigError(f"what is {what!r:.40}: expected {', '.join(map(repr, get_args(What)))}")
    if metric is not None and metric not in get_args(Metric):
        raise ConfigError(f"metric is {metric!r:.40}: expected {', '.join(map(repr, get_args(Metric)))}")
    text, corrupted = _subjects(model, ids, other, source)
    rows = _activations(model, what)
    before, after = text.logits(), corrupted.logits()
    measure, words = _metric(before, after, answer, metric, texts if labels is None else labels.__getitem__)
    in_text, in_other = float(measure(before)[0]), float(measure(after)[0])
    if not abs(in_text - in_other) > _SMALL * np.finfo(before.dtype).eps * max(1.0, abs(in_text), abs(in_other)):
        raise ConfigError(f"{words} is {in_text:.4g} for the text and {in_other:.4g} for the other one: there is no difference to recover")
    with cache(model, [name for found in rows.values() for name in found]) as seen:
        text.logits()
    values = {name: value.numpy()[0] for name, value in seen.items()}
    edits = [edit for found in rows.values() for edit in _edits(found, values, heads=what == "heads")]
    each = []
    for logits in edited(corrupted, edits):
        measured = measure(logits)
        each.append((measured[1:] - measured[0]) / (in_text - in_other))
    recovery = np.concatenate(each).reshape(len(rows), -1)
    way = -1 if isinstance(model, RecurrentTranslator) else 1  # it reads the source backwards
    columns, others = (called(texts, read.read[::way]) for read in (text, corrupted))
    if what == "heads":
        columns, others = [f"head {i}" for i in range(recovery.shape[1])], []
    return Patching(what, list(rows), columns, others, recovery, words, in_text, in_other)


def _subjects(model: Module, ids: Any, other: Any, source: Any) -> tuple[Subject, Subject]:
    """Returns the model with the text, and with the other one. Raises ShapeError if these differ in length."""
    translates = isinstance(model, TranslationModel)
    text = subject_of(model, ids, source)
    corrupted = subject_of(model, ids, other) if translates else subject_of(model, other)
    if len(text.read) != len(corrupted.read):
        raise ShapeError(
            f"the text has {len(text.read)} tokens and the other {len(corrupted.read)}: expected the same number, position for position"
        )
    return text, corrupted


def _activations(model: Module, what: What) -> dict[str, list[str]]:
    """Returns the activations that are patched together, by the layer that they belong to. Of a translator they are the encoder's."""
    part = r"encoder\." if isinstance(model, TranslationModel) else r"(?:members\.\d+\.)?"
    found: dict[str, list[str]] = {}
    for name in names(model):
        if match := re.fullmatch(f"{part}(?:{_NAMES[what]})", name):
            groups = match.groupdict()
            found.setdefault("embed" if groups.get("embed") else groups["layer"] or groups["state"], []).append(name)
    if not found:
        kind = {"stream": "layers", "attn": "attention", "mlp": "MLPs", "heads": "heads"}[what]
        raise ConfigError(f"{type(model).__name__} has no {kind} to patch: expected a Transformer")
    return found


def _edits(found: Sequence[str], values: Mapping[str, np.ndarray], heads: bool) -> list[Edit]:
    """Returns one edit per position, or per head, of activations that are patched together."""
    axis = 0 if heads else -2
    count = values[found[0]].shape[axis]
    masks = [np.arange(count) == i for i in range(count)]
    return [{name: (mask.reshape((-1, 1, 1) if heads else (-1, 1)), values[name]) for name in found} for mask in masks]


def _metric(
    before: Tensor, after: Tensor, answer: int | None, metric: Metric | None, texts: Texts | None
) -> tuple[Callable[[Tensor], np.ndarray], str]:
    """Returns what is measured, as a function of the logits (N, T, V) or (N,) to (N,), and its name."""
    if before.ndim == 1:
        if answer is not None or metric is not None:
            raise ConfigError("an answer or a metric is given, but the model is a classifier, whose logit is measured: expected none")
        return lambda logits: logits.numpy().astype(np.float64), "logit of class 1"
    size = before.shape[-1]
    if answer is not None and not 0 <= answer < size:
        raise RangeError(f"answer is {answer}: expected a token id from 0 to {size - 1}")
    said = int(before.numpy()[0, -1].argmax()) if answer is None else answer
    instead = int(after.numpy()[0, -1].argmax())
    named, against = map(repr, called(texts, [said, instead]))
    if metric is None:
        metric = "log-probability" if said == instead else "logit-difference"
    if metric == "log-probability":
        return lambda logits: ops.log_softmax(logits[:, -1]).numpy()[:, said].astype(np.float64), f"log-probability of {named}"

    def difference(logits: Tensor) -> np.ndarray:
        last = logits.numpy()[:, -1].astype(np.float64)
        return last[:, said] - last[:, instead]

    return difference, f"logit of {named} minus logit of {against}"
