"""Which input tokens made the model say so: gradient × input, and integrated gradients, on the embeddings."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.polynomial.legendre import leggauss
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm import nn
from tinylm.checks import check_positive, check_sizes
from tinylm.decode.stepping import evaluating
from tinylm.engine.autograd import set_recording
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.explain.activations import cache, names, replace
from tinylm.explain.answers import Answer
from tinylm.explain.colored_text import draw_texts
from tinylm.explain.figures import Picture
from tinylm.models.translator import Translator
from tinylm.nn import Module

_AT_ONCE = 2048  # rows of embeddings in one forward pass
_NODES, _FIRST = 16, 4  # points of an interval, and intervals at first
_ROUNDING = 64  # unit roundoffs of the score that its differences may be off by
Score = Callable[[int], Tensor]
Baseline = Literal["mean", "zero"]


@dataclass(frozen=True, repr=False)
class InputTokens:
    """The parts of the tokens of one text.  name: 'encoder' or 'decoder' of a translator, else ''.
    gradient_x_input, integrated (T,): one number per token."""

    name: str
    tokens: list[str]
    gradient_x_input: np.ndarray
    integrated: np.ndarray

    def __repr__(self) -> str:
        return f"InputTokens({self.name!r}, {len(self.tokens)} tokens, integrated {self.integrated.sum():+.4f})"


@dataclass(frozen=True, repr=False)
class InputAttribution(Answer):
    """How much each token of the input raised a score.  parts: one, or two of a translator.
    score, baseline: the score of the text, and of the baseline.  steps: points of the path."""

    parts: list[InputTokens]
    score: float
    baseline: float
    steps: int

    @property
    def sum(self) -> float:
        """The sum of the integrated gradients of all tokens."""
        return float(sum(part.integrated.sum() for part in self.parts))

    @property
    def completeness_error(self) -> float:
        """sum - (score - baseline): 0 for exact integrals (Sundararajan et al. 2017, proposition 1)."""
        return self.sum - (self.score - self.baseline)

    def __repr__(self) -> str:
        return f"InputAttribution(score {self.score:.4f}, baseline {self.baseline:.4f}, sum {self.sum:+.4f})"

    def __rich__(self) -> Group:
        shown: list[Any] = []
        for part in self.parts:
            table = Table("position", "token", "integrated gradient", "gradient × input", "", box=None)
            largest = max(float(np.abs(part.integrated).max()), 1e-30)
            for t, token in enumerate(part.tokens):
                bar = "█" * round(20 * abs(part.integrated[t]) / largest)
                cells = f"{part.integrated[t]:+.4f}", f"{part.gradient_x_input[t]:+.4f}"
                table.add_row(str(t), Text(repr(token)), *cells, Text(("+" if part.integrated[t] > 0 else "-") + bar if bar else ""))
            shown += [part.name, table] if part.name else [table]
        shown.append(
            f"sum {self.sum:+.4f}; the text has {self.score:+.4f}, the baseline {self.baseline:+.4f}, difference "
            f"{self.score - self.baseline:+.4f}; completeness error {self.completeness_error:+.1e} with {self.steps} steps"
        )
        return Group(*shown)


@dataclass(frozen=True)
class _Path:
    """The straight line on which the embeddings of one activation move.  fixed: what the activation has besides them."""

    name: str
    x: np.ndarray  # (T, C)
    baseline: np.ndarray  # (C,)
    fixed: np.ndarray | float
    dtype: Any

    def points(self, at: np.ndarray) -> np.ndarray:
        """Returns the activation at these parts of the path, from 0 to 1: (n,) -> (n, T, C)."""
        return (self.baseline + at[:, None, None] * (self.x - self.baseline) + self.fixed).astype(self.dtype)

    @property
    def part(self) -> str:
        first = self.name.partition(".")[0]
        return first if first in ("encoder", "decoder") else ""


def input_attribution(
    model: Module, score: Score, tokens: Sequence[str] | Mapping[str, Sequence[str]], *,
    baseline: Baseline = "mean", steps: int = 512, tolerance: float = 0.01,
) -> InputAttribution:  # fmt: skip
    """Returns how much each token of a text raised a score, by gradient × input and by integrated gradients.

    score: runs the model on so many copies of the text, side by side, and returns the number to explain of each, (n,): for a GPT
    `lambda n: model(np.repeat(ids, n, 0))[:, -1, token]` with ids (1, T). tokens: what each embedding stands for, for the
    table; of a translator {"encoder": ..., "decoder": ...}, in the order in which the model reads them.

    x_t is the embedding of token t. Gradient × input is Σ_c x_tc ∂score/∂x_tc. The integrated gradient is
    Σ_c (x_tc - x'_tc) ∫₀¹ ∂score/∂x_tc (x' + a (x - x')) da  (Sundararajan et al. 2017, arXiv:1703.01365, eq. 1); over all tokens
    these sum to the difference of the scores at x and x'. The integral is Gauss-Legendre quadrature with 16 points in each of 4 intervals.
    In an interval, too, the sum must be the difference of the scores at its ends: the interval that misses it by most is cut in half, until
    all together miss at most `tolerance` times the whole difference, or there are `steps` points.
    baseline: x' is the mean embedding of the vocabulary, or "zero". At zero RMS norm, and so Llama, jumps: the error is then large.
    What a model adds to the embeddings, such as positions, is not on the path: it stays as it is. Members of an ensemble move
    together.
    Raises ConfigError for a model without embeddings that have a name, and for steps or a tolerance that are not positive;
    ShapeError for a score that is not (n,).
    """
    check_sizes(steps=steps)
    check_positive(tolerance=tolerance)
    with set_recording(True), evaluating(model.modules()):
        paths = _paths(model, score, baseline)
        (lowest,), _ = _run(model, score, paths, np.zeros(1))
        (value,), at_x = _run(model, score, paths, np.ones(1))
        intervals = [_Interval.over(model, score, paths, i / _FIRST, (i + 1) / _FIRST) for i in range(_FIRST)]
        goal = tolerance * abs(value - lowest) + _ROUNDING * np.finfo(paths[0].dtype).eps * abs(value)
        while sum(abs(i.error) for i in intervals) > goal and (len(intervals) + 1) * _NODES <= steps:
            worst = max(intervals, key=lambda i: abs(i.error))
            intervals.remove(worst)
            middle = (worst.start + worst.stop) / 2
            intervals += [_Interval.over(model, score, paths, *ends) for ends in ((worst.start, middle), (middle, worst.stop))]
    labels = tokens if isinstance(tokens, Mapping) else {"": tokens}
    parts: dict[str, InputTokens] = {}
    for i, (path, gradient) in enumerate(zip(paths, at_x, strict=True)):
        plain, integrated = (path.x * gradient[0]).sum(-1), np.sum([interval.integrals[i] for interval in intervals], axis=0)
        if path.part in parts:  # another member of an ensemble
            before = parts[path.part]
            plain, integrated = plain + before.gradient_x_input, integrated + before.integrated
        parts[path.part] = InputTokens(path.part, _labels(labels, path.part, len(plain)), plain, integrated)
    return InputAttribution(list(parts.values()), float(value), float(lowest), len(intervals) * _NODES)


@dataclass(frozen=True)
class _Interval:
    """A part of the path.  integrals: those of each path over it, (T,) per token.  error: their sum minus the difference of the scores."""

    start: float
    stop: float
    integrals: list[np.ndarray]
    error: float

    @classmethod
    def over(cls, model: Module, score: Score, paths: list[_Path], start: float, stop: float) -> "_Interval":
        """Returns the interval with its integrals."""
        where, weights = leggauss(_NODES)
        at = np.concatenate([[start, stop], start + (stop - start) * (where + 1) / 2])
        count = max(1, _AT_ONCE // len(paths[0].x))
        runs = [_run(model, score, paths, at[i : i + count]) for i in range(0, len(at), count)]
        scores = np.concatenate([scores for scores, _ in runs])
        integrals = []
        for i, path in enumerate(paths):
            gradients = np.concatenate([gradients[i] for _, gradients in runs])[2:]
            mean = np.tensordot(weights * (stop - start) / 2, gradients, 1)
            integrals.append(((path.x - path.baseline) * mean).sum(-1))
        return cls(start, stop, integrals, float(sum(i.sum() for i in integrals) - (scores[1] - scores[0])))


def _paths(model: Module, score: Score, baseline: Baseline) -> list[_Path]:
    """Returns the path of each activation that holds embeddings."""
    if baseline not in ("mean", "zero"):
        raise ConfigError(f"baseline is {baseline!r:.60}: expected 'mean' or 'zero'")
    translator = isinstance(model, Translator)  # its embeddings have their positions when they first have a name
    ends = ("coder.h.0.resid_pre",) if translator else ("embed",)
    found = [name for name in names(model) if name.endswith(ends) and not name.endswith("pos_embed")]
    if not found:
        raise ConfigError(f"{type(model).__name__} has no embeddings with a name (see explain.names): there is no input to attribute to")
    with cache(model, found) as seen:
        score(1)
    paths = []
    for name in (name for name in found if name in seen):
        x = to_numpy(seen[name].data)[0].astype(np.float64)
        fixed: np.ndarray | float = 0.0
        origin, scale = np.zeros(x.shape[-1]), 1.0
        if isinstance(model, Translator):
            fixed, scale = to_numpy(model.positions.pe.data)[: len(x), 0], model.d_model**0.5
        if baseline == "mean":
            origin = scale * _mean_embedding(model, name)
        paths.append(_Path(name, x - fixed, origin, fixed, seen[name].dtype))
    return paths


def _mean_embedding(model: Module, name: str) -> np.ndarray:
    """Returns the mean row of the table that an activation's embeddings come from: the first one in its part of the model."""
    modules = dict(model.named_modules())
    owner = modules.get(name.rpartition(".")[0], model)
    for module in (*owner.modules(), *model.modules()):
        if isinstance(module, nn.Embedding):
            return to_numpy(module.weight.data).mean(axis=0, dtype=np.float64)
    raise ConfigError(f"{type(model).__name__} has no nn.Embedding, whose mean would be the baseline: expected baseline='zero'")


def _run(model: Module, score: Score, paths: list[_Path], at: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the scores (n,) with the embeddings at these parts of their paths, and the gradients (n, T, C) there."""
    device = next(iter(model.parameters())).device
    leaves = [Tensor(to_device(path.points(at), device), requires_grad=True) for path in paths]
    with replace(model, {path.name: leaf for path, leaf in zip(paths, leaves, strict=True)}):
        y = score(len(at))
    if y.shape != at.shape:
        raise ShapeError(f"the score of {len(at)} copies has shape {y.shape}: expected {at.shape}, one number per copy")
    gradients = grad(y.sum(), leaves)
    found = [np.zeros(leaf.shape) if g is None else to_numpy(g.data).astype(np.float64) for leaf, g in zip(leaves, gradients, strict=True)]
    return to_numpy(y.data).astype(np.float64), found


def _labels(labels: Mapping[str, Sequence[str]], part: str, count: int) -> list[str]:
    """Returns the tokens of a part; of a model that also embeds pairs of neighbours, those after them."""
    if part not in labels:
        raise ConfigError(f"tokens has {', '.join(map(repr, labels))}: expected {part!r} too, whose embeddings have a name")
    tokens = list(labels[part])
    if len(tokens) > 1 and count == 2 * len(tokens) - 1:
        tokens += [a + b for a, b in itertools.pairwise(tokens)]
    if len(tokens) != count:
        raise ShapeError(f"there are {len(tokens)} tokens for {count} embeddings{f' of the {part}' if part else ''}: expected as many")
    return tokens


def draw_input_attribution(found: InputAttribution, title: str = "How much each token raised the score") -> Picture:
    """Draws the text with each token coloured by its integrated gradient: hot where it raised the score, cold where it lowered it.
    Returns the figure."""
    titled = [(f"{part.name}: {title}" if part.name else title, part) for part in found.parts]
    return draw_texts([(part.tokens, (named, part.integrated, "integrated gradient", True)) for named, part in titled])
