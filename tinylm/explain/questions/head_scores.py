"""What kind each attention head is of: how much it looks at the token before, the first one, the same one, or what followed that.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Olsson et al. 2022, arXiv:2209.11895.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from rich.console import Group
from rich.table import Table

from tinylm.decode.stepping import evaluation_mode, log_softmax
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import ConfigError, ShapeError
from tinylm.explain.activations import cache, names
from tinylm.explain.answers import Answer
from tinylm.explain.drawing import Panel, cell_size, sheet
from tinylm.explain.figures import Picture
from tinylm.models import LanguageModel
from tinylm.nn import Module

KINDS = {  # each score, and what a head does that has much of it
    "previous": "looks at the token before",
    "first": "looks at the first token",
    "duplicate": "looks at the same token earlier",
    "induction": "induction: looks at what followed the same token earlier",
}
_PERIOD, _SHORTEST, _SEQUENCES = 32, 3, 8  # tokens that are repeated, at most and at least; sequences that are averaged
_MOST_ROWS = 40  # of a table
_AT_LEAST, _AT_MOST = 5, 10  # heads of a kind in a table that has not all of them: its largest, and how many marked ones


@dataclass(frozen=True, repr=False)
class HeadScores(Answer):
    """The scores of the heads of a language model.

    heads: (layer, head) of each.  scores: by kind, one number from 0 to 1 per head.  uniform: by kind, what a head would have that
    looks at all tokens so far alike; NaN of duplicate and induction where no token repeats.  first_loss, second_loss: nats
    per token of random tokens when they are new, and when they are read again; NaN for a text.  about: what was read.
    """

    heads: list[tuple[str, int]]
    scores: dict[str, np.ndarray]
    uniform: dict[str, float]
    first_loss: float
    second_loss: float
    about: str

    def marks(self, threshold: float = 0.4) -> list[str]:
        """Returns what each head does, by its largest score if that is at least the threshold, else ''. Many heads rest on the
        first token while they find nothing, so that score counts only if no other is as large as the threshold."""
        found = []
        for i in range(len(self.heads)):
            most = max(KINDS, key=lambda kind: (kind != "first", np.nan_to_num(self.scores[kind][i])))
            kind = most if self.scores[most][i] >= threshold else "first"
            found.append(KINDS[kind] if self.scores[kind][i] >= threshold else "")
        return found

    def __repr__(self) -> str:
        return f"HeadScores({len(self.heads)} heads, {self.about})"

    def __rich__(self) -> Group:
        table = Table("layer", "head", *KINDS, "", box=None)
        marks = self.marks()
        shown, called = self._shown(marks), {does: kind for kind, does in KINDS.items()}
        for i in shown:
            layer, head = self.heads[i]
            table.add_row(layer, str(head), *(_cell(self.scores[kind][i]) for kind in KINDS), called.get(marks[i], ""))
        table.add_row("all alike", "", *(_cell(self.uniform[kind]) for kind in KINDS), "")
        lines = [f"attention on {self.about}; 'all alike' is what a head would have that looks at all tokens so far alike"]
        lines += [f"{kind}: {does.removeprefix('induction: ')}" for kind, does in KINDS.items() if does in marks]
        if len(shown) < len(self.heads):
            kinds = ", ".join(f"{marks.count(does)} {kind}" for kind, does in KINDS.items())
            lines.append(f"of the {len(self.heads)} heads, {kinds}; shown are those with the largest scores of each kind")
        if np.isfinite(self.second_loss):
            new, again = f"{self.first_loss:.2f}", f"{self.second_loss:.2f}"
            lines.append(f"loss of new random tokens {new}, of the same ones read again {again} nats per token: {self.verdict}")
        return Group(table, *lines)

    def _shown(self, marks: list[str]) -> list[int]:
        """Returns which heads the table has: all, or of many those with the largest scores, and more of those that are marked. Of
        those marked for the first token only the largest: they are many, and mostly have found nothing."""
        if len(self.heads) <= _MOST_ROWS:
            return list(range(len(self.heads)))
        found: set[int] = set()
        for kind, values in self.scores.items():
            order = np.argsort(-np.nan_to_num(values), kind="stable").tolist()
            marked = [i for i in order if marks[i] == KINDS[kind] and kind != "first"]
            found |= {*order[:_AT_LEAST], *marked[:_AT_MOST]}
        return sorted(found)

    @property
    def verdict(self) -> str:
        """Whether the model copies: whether a second reading of the same random tokens costs it less than the first."""
        saved = self.first_loss - self.second_loss
        much = "copies" if saved > 0.5 * self.first_loss else "copies a little" if saved > 0.05 * self.first_loss else "does not copy"
        return f"the model {much}"


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def repeated_tokens(vocab_size: int, context: int | None, *, start: Sequence[int] = (), seed: int = 0) -> np.ndarray:
    """Returns 8 sequences that end with random tokens read twice: start, others, r_1 ... r_L, r_1 ... r_L, as (8, T) ids.

    L is 32, or what fits twice into the context, in the first sequence, and one less in each of the next, which have two others more
    before: a head that looks a fixed distance back does not look at the repeated token in all of them. The random tokens of a sequence
    differ, if the vocabulary has that many. start: ids that the model expects before every text.
    Raises ConfigError for a context in which no three tokens are read twice.
    """
    draw, rows = np.random.default_rng(seed), []
    for length, others in _readings(context, len(start)):
        drawn = draw.choice(vocab_size, others + length, replace=vocab_size < others + length)
        rows.append([*start, *drawn, *drawn[others:]])
    return np.array(rows, np.int64)


def _readings(context: int | None, start: int) -> list[tuple[int, int]]:
    """Returns (tokens read twice, tokens before them) of each sequence."""
    longest = _PERIOD if context is None else min(_PERIOD, (context - start) // 2)
    if longest < _SHORTEST:
        raise ConfigError(f"the context has {context} tokens: expected at least {start + 2 * _SHORTEST}, {_SHORTEST} tokens read twice")
    shorter = [k % (longest - _SHORTEST + 1) for k in range(_SEQUENCES)]
    return [(longest - less, 2 * less) for less in shorter]


def head_scores(model: Module, ids: Any = None, *, start: Sequence[int] = (), seed: int = 0) -> HeadScores:
    """Returns four scores for each head of a Transformer language model: the attention that it gives to ...

    - previous: position t - 1, the mean over t ≥ 2;
    - first: position 0, the mean over t ≥ 2;
    - duplicate: the positions s < t with the same token as t, summed, the mean over the t that have any;
    - induction: the positions s + 1 < t such that token s is the same as token t, summed, the mean over the t that have any. What stands
      there followed the token the last time, so a head that copies it predicts the repetition.

    ids: (T,) or (N, T); by default the random tokens of `repeated_tokens`, in which nothing but repetition can be predicted, so
    that the scores are those of the head and not of a text.  start, seed: as there.
    Raises ConfigError for a model that is no language model with attention; ShapeError for ids of fewer than 3 tokens.
    """
    pattern = re.compile(r"(.*\bh\.(\d+))\.attn\.pattern")
    found = [match for match in map(pattern.fullmatch, names(model)) if match] if isinstance(model, LanguageModel) else []
    if not isinstance(model, LanguageModel) or not found:
        raise ConfigError(f"{type(model).__name__} has no heads that look back: expected a language model with attention")
    given = ids is not None
    rows = np.atleast_2d(as_array(ids)) if given else repeated_tokens(model.vocab_size, model.block_size, start=start, seed=seed)
    if rows.shape[1] < 3:
        raise ShapeError(f"there are {rows.shape[1]} tokens: expected at least 3")
    with evaluation_mode(model), cache(model, [match[0] for match in found]) as seen:
        logits = model.logits(Tensor(to_device(rows, next(iter(model.parameters())).device)))
    wanted = targets(rows)
    heads: list[tuple[str, int]] = []
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for match in found:
        weights = to_numpy(seen[match[0]].data).astype(np.float64)  # (N, H, T, T)
        heads += [(match[1].removeprefix("h."), j) for j in range(weights.shape[1])]
        for kind, where in wanted.items():
            scores[kind] += _mean(weights, where).tolist()
    steps = rows.shape[1]
    alike = np.tril(np.ones((steps, steps))) / np.arange(1, steps + 1)[:, None]
    uniform = {kind: float(_mean(np.broadcast_to(alike, (len(rows), 1, steps, steps)), where)[0]) for kind, where in wanted.items()}
    losses = (np.nan, np.nan) if given else _losses(to_numpy(logits.data), rows, model.block_size, len(start))
    most = (steps - len(start)) // 2
    about = f"{rows.size:,} tokens" if given else f"{len(rows)} sequences of random tokens read twice, up to {most} of them"
    return HeadScores(heads, {kind: np.array(values) for kind, values in scores.items()}, uniform, *losses, about)


def targets(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Returns for each kind of head where it would look: booleans (N, T, T), from t at the left to s above."""
    n, steps = ids.shape
    t, s = np.ogrid[:steps, :steps]
    same = (ids[:, :, None] == ids[:, None, :]) & (s < t)
    induction = np.zeros_like(same)
    induction[:, :, 1:] = same[:, :, :-1]
    whole = np.ones((n, 1, 1), bool)
    return {
        "previous": whole & (s == t - 1) & (t >= 2), "first": whole & (s == 0) & (t >= 2),
        "duplicate": same, "induction": induction & (s < t),
    }  # fmt: skip


def _mean(weights: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns the mean attention to the marked positions, over the rows that have any: (N, H, T, T), (N, T, T) -> (H,)."""
    rows = np.any(where, axis=-1)[:, None]  # (N, 1, T)
    if not rows.any():
        return np.full(weights.shape[1], np.nan)
    return ((weights * where[:, None]).sum(-1) * rows).sum((0, 2)) / rows.sum()


def _losses(logits: np.ndarray, ids: np.ndarray, context: int | None, start: int) -> tuple[float, float]:
    """Returns the loss of the random tokens when they are new, and in the second reading, whose first token does not count: nothing
    says that the repetition begins."""
    log_p = np.take_along_axis(log_softmax(logits[:, :-1]), ids[:, 1:, None], 2)[..., 0]
    lengths = np.array([length for length, _ in _readings(context, start)])
    place = np.arange(ids.shape[1] - 1) + 1  # of the token that is predicted
    again = ids.shape[1] - lengths[:, None]  # where the second reading begins
    return float(-log_p[(place >= max(start, 1)) & (place < again)].mean()), float(-log_p[place > again].mean())


def draw_head_scores(found: HeadScores, title: str = "What each head looks at") -> Picture:
    """Draws one heat map per score, with one row per layer and one column per head. Returns the figure."""
    layers = list(dict.fromkeys(layer for layer, _ in found.heads))
    count = 1 + max(head for _, head in found.heads)
    panels = []
    for kind, does in KINDS.items():
        values = np.full((len(layers), count), np.nan)
        for (layer, head), value in zip(found.heads, found.scores[kind], strict=True):
            values[layers.index(layer), head] = value
        write = count <= 14
        columns, rows = [f"head {j}" for j in range(count)], [f"layer {layer}" for layer in layers]
        panels.append(
            Panel(
                f"{kind}: {does.removeprefix('induction: ')}",
                values,
                rows,
                columns,
                cell_size(*values.shape, write),
                norm=Normalize(0, 1),
                bar="weight",
                write=write,
            )
        )
    return sheet([panels[:2], panels[2:]], f"{title}: attention on {found.about}")
