"""Ablation: what the loss is when one head, MLP, layer or recurrent unit at a time is switched off.

Each is switched off in a copy of the text of its own, and the copies are computed as a batch. The change of the loss says what the model
loses with the part, while all others work as they did; parts that can take each other's place each seem to matter
little, and parts that others build on matter for those too (McGrath et al. 2023, arXiv:2307.15771).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm.checks import check_integer
from tinylm.errors import ConfigError
from tinylm.explain.activations import cache, names
from tinylm.explain.answers import Answer
from tinylm.explain.questions.edits import Edit, edited
from tinylm.explain.questions.subjects import Subject, subject_of
from tinylm.models.translator import TranslationModel
from tinylm.nn import Module

By = Literal["zero", "mean", "resample"]

_HEADS = re.compile(r"(.*h\.\d+)\.(attn|cross)\.z")
_BRANCH = re.compile(r"(.*h\.\d+)\.(attn|cross|mlp)\.out")
_UNITS = re.compile(r"(.*rnn\.\d+(?:\.reverse)?)\.h")
_MOST_COLUMNS = 20  # of a table with one row per layer


@dataclass(frozen=True)
class Ablation(Answer):
    """How much the loss changes, in nats per token, when a part is switched off.

    by: what takes the part's place.  layers: the rows.  columns: 'head 0', ..., 'MLP' and 'layer', all branches of the layer
    at once; in a translator's decoder 'cross 0', ..., too; of recurrent layers 'unit 0', ..., and 'layer', all units at once.
    loss: of the whole model.  change, spread: (rows, columns), NaN where a layer has no such part; spread is the standard deviation
    over the draws of resample, otherwise 0.  everything: the loss with all branches of all layers off.
    """

    by: By
    layers: list[str]
    columns: list[str]
    loss: float
    change: np.ndarray
    spread: np.ndarray
    everything: float
    draws: int

    def __repr__(self) -> str:
        return f"Ablation(by {self.by}, {len(self.layers)} layers, {int(np.isfinite(self.change).sum())} parts, loss {self.loss:.4f})"

    def ranked(self, layers: bool = False) -> list[tuple[str, float, float]]:
        """Returns (name, change, spread) of the heads, MLPs and units, or of whole layers, the largest change first."""
        found = [
            (f"{layer} {column}" if column != "layer" else layer, float(self.change[i, j]), float(self.spread[i, j]))
            for i, layer in enumerate(self.layers)
            for j, column in enumerate(self.columns)
            if (column == "layer") == layers and np.isfinite(self.change[i, j])
        ]
        return sorted(found, key=lambda part: -abs(part[1]))

    @property
    def instead(self) -> str:
        """What takes the place of a part, in words."""
        drawn = "one draw" if self.draws == 1 else f"mean of {self.draws} draws"
        return {"zero": "zero", "mean": "its mean", "resample": f"its values at random positions ({drawn})"}[self.by]

    @property
    def many(self) -> bool:
        """Whether there are too many parts for one column each, as the units of a recurrent layer."""
        return len(self.columns) > _MOST_COLUMNS or self.columns[0].startswith("unit")

    def __rich__(self) -> Group:
        head = f"loss {self.loss:.4f} nats per token; with all layers off {self.everything:.4f}"
        about = f"change of the loss when a part is switched off, so that it becomes {self.instead}"
        return Group(Text(f"{head}\n{about}"), self._ranking() if self.many else self._grid())

    def to_json(self) -> dict[str, Any]:
        """Returns all of it, one object per part."""
        parts = [
            {"layer": layer, "part": column, "change": float(self.change[i, j]), "spread": float(self.spread[i, j])}
            for i, layer in enumerate(self.layers)
            for j, column in enumerate(self.columns)
            if np.isfinite(self.change[i, j])
        ]
        return {"by": self.by, "draws": self.draws, "loss": self.loss, "everything_off": self.everything, "parts": parts}

    def _signed(self, change: float, spread: float) -> str:
        digits = 3 if np.nanmax(np.abs(self.change)) >= 0.1 else 5
        return f"{change:+.{digits}f}" + (f" ±{spread:.{digits}f}" if self.by == "resample" and self.draws > 1 else "")

    def _grid(self) -> Table:
        table = Table("layer", *self.columns, box=None)
        most = np.nanmax(np.abs(self.change[:, :-1])) if self.change[:, :-1].size else 0.0
        for layer, changes, spreads in zip(self.layers, self.change, self.spread, strict=True):
            cells = [
                Text("" if np.isnan(x) else self._signed(x, s), "bold" if abs(x) > most / 2 else "")
                for x, s in zip(changes, spreads, strict=True)
            ]
            table.add_row(layer, *cells)
        return table

    def _ranking(self, most: int = 20) -> Table:
        table = Table("part", "change", box=None)
        for name, change, spread in [*self.ranked(layers=True), *self.ranked()[:most]]:
            table.add_row(name, self._signed(change, spread))
        rest = self.ranked()[most:]
        if rest:
            table.add_row(f"{len(rest)} others", f"at most {abs(rest[0][1]):.2g}")
        return table


@dataclass(frozen=True)
class _Part:
    """A part of the model that can be switched off. where: for each activation of it, which axis and index of the axis are meant,
    or None for all of it."""

    layer: str
    column: str
    where: Mapping[str, tuple[int, int] | None]


def ablate(
    model: Module, ids: Any, *, source: Any = None, label: int | None = None, by: By = "zero",
    reference: Sequence[Any] | None = None, draws: int = 5, seed: int = 0,
) -> Ablation:  # fmt: skip
    """Switches off each head, MLP and layer of a Transformer, or each unit and layer of a recurrent model, and returns what it costs.

    model, ids, source and label: as in `subject_of`; the loss is that of the text, or of a translator's target or a classifier's label.
    by: what takes the place of what a head writes, of an MLP's output or of a unit's state. 'zero': nothing. 'mean': its mean over the
    positions of the reference. 'resample': its values at random positions of the reference, drawn anew for each part, `draws`
    times from the seed (Chan et al. 2022, "Causal scrubbing"). reference: texts (T,) of ids; by default the text itself. A
    layer is switched off by all its branches, so that the residual stream passes; a layer that ends with a norm keeps its norms.
    Raises ConfigError for a model without such parts, a text of one token, or settings that it does not know.
    """
    if by not in get_args(By):
        raise ConfigError(f"by is {by!r:.40}: expected {', '.join(map(repr, get_args(By)))}")
    check_integer("draws", draws, 1)
    check_integer("seed", seed, 0)
    if reference is not None and by == "zero":
        raise ConfigError("a reference is given, but by is 'zero', which takes nothing from it: expected 'mean' or 'resample'")
    subject = subject_of(model, ids, source, label)
    if reference is not None and isinstance(model, TranslationModel):
        raise ConfigError("a reference is given, but the model is a translator, whose means are over its own text: expected none")
    touched = [name for name in names(model) if any(kind.fullmatch(name) for kind in (_HEADS, _BRANCH, _UNITS))]
    if not touched:
        raise ConfigError(f"{type(model).__name__} has no heads, MLPs or recurrent layers that could be switched off")
    own = _values(subject, touched)
    others = own if reference is None else _of_reference(model, reference, touched)
    parts = list(_parts(own))
    layers = [part for part in parts if part.column == "layer"]
    parts.append(_Part("", "", {name: where for part in layers for name, where in part.where.items()}))
    random = np.random.default_rng(seed)
    count = draws if by == "resample" else 1
    whole, change = _costs(
        subject,
        [{name: _off(by, own[name], others[name], at, random) for name, at in part.where.items()} for part in parts for _ in range(count)],
    )
    each = change.reshape(len(parts), count)
    return _arranged(parts[:-1], by, whole, each[:-1], each[-1].mean() + whole, count)


def _costs(subject: Subject, edits: Sequence[Edit]) -> tuple[float, np.ndarray]:
    """Returns (loss of the whole model, change of the loss by each edit)."""
    whole, changes = float("nan"), []
    for logits in edited(subject, edits):
        losses = subject.losses(logits)
        whole = float(losses[0])
        changes.append(losses[1:] - losses[0])
    return whole, np.concatenate(changes)


def _values(subject: Subject, touched: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns these activations of the text, without the batch axis: (H, T, D), or (T, C)."""
    with cache(subject.model, touched) as seen:
        subject.logits()
    return {name: seen[name].numpy()[0] for name in touched}


def _of_reference(model: Module, reference: Sequence[Any], touched: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the activations of all reference texts, their positions one after the other."""
    if not len(reference):
        raise ConfigError("the reference has no texts: expected at least one")
    each = [_values(subject_of(model, ids, label=None), touched) for ids in reference]
    return {name: np.concatenate([values[name] for values in each], axis=-2) for name in touched}


def _parts(values: Mapping[str, np.ndarray]) -> Iterator[_Part]:
    """Yields the heads, MLPs, units and layers that these activations belong to, in the order of the layers."""
    layers = dict.fromkeys(match[1] for name in values for kind in (_HEADS, _BRANCH, _UNITS) if (match := kind.fullmatch(name)))
    for layer in layers:
        branches: dict[str, tuple[int, int] | None] = {}
        for name, value in values.items():
            if (match := _HEADS.fullmatch(name)) and match[1] == layer:
                kind = "head" if match[2] == "attn" else "cross"
                yield from (_Part(layer, f"{kind} {i}", {name: (0, i)}) for i in range(value.shape[0]))
            elif (match := _UNITS.fullmatch(name)) and match[1] == layer:
                yield from (_Part(layer, f"unit {i}", {name: (-1, i)}) for i in range(value.shape[-1]))
                branches[name] = None
            elif (match := _BRANCH.fullmatch(name)) and match[1] == layer:
                branches[name] = None
                if match[2] == "mlp":
                    yield _Part(layer, "MLP", {name: None})
        yield _Part(layer, "layer", branches)


def _off(by: By, own: np.ndarray, others: np.ndarray, where: tuple[int, int] | None, random: np.random.Generator) -> tuple[Any, Any]:
    """Returns the change that switches off one activation, or the part of it that is meant."""
    mask: Any = True
    if where is not None:
        axis, index = where
        shape = [1] * own.ndim
        shape[axis] = own.shape[axis]
        mask = (np.arange(own.shape[axis]) == index).reshape(shape)
        others = others.take([index], axis)
    if by == "zero":
        return mask, own.dtype.type(0)
    if by == "mean":
        return mask, others.mean(-2, keepdims=True, dtype=np.float64).astype(own.dtype)
    return mask, others.take(random.integers(others.shape[-2], size=own.shape[-2]), -2)


def _arranged(parts: Sequence[_Part], by: By, loss: float, change: np.ndarray, everything: float, draws: int) -> Ablation:
    """Returns the changes (parts, draws) as a table of layers and columns."""
    layers = list(dict.fromkeys(part.layer for part in parts))
    order = ["head", "cross", "unit", "MLP", "layer"]
    columns = sorted(dict.fromkeys(part.column for part in parts), key=lambda c: (order.index(c.split()[0]), int(c.partition(" ")[2] or 0)))
    mean, spread = (np.full((len(layers), len(columns)), np.nan) for _ in range(2))
    for part, values in zip(parts, change, strict=True):
        place = layers.index(part.layer), columns.index(part.column)
        mean[place], spread[place] = values.mean(), values.std(ddof=1) if draws > 1 else 0.0
    return Ablation(by, layers, columns, float(loss), mean, spread, float(everything), draws)
