"""Linear probes: what can be read off an activation by a linear classifier, and how much of that the classifier learned itself.

Alain & Bengio 2016, arXiv:1610.01644; the control task is that of Hewitt & Liang 2019, arXiv:1909.03368.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group
from rich.table import Table
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.decode.stepping import evaluation_mode
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError, ShapeError
from tinylm.explain.activations import cache, names
from tinylm.explain.answers import Answer
from tinylm.explain.figures import Picture
from tinylm.explain.questions.probe_labels import LABELS
from tinylm.models import LanguageModel
from tinylm.nn import Module

_RECURRENT_BLOCK = 128  # tokens that a recurrent model reads from a fresh state
_AT_ONCE = 2048  # tokens in one forward pass
_MOST_CLASSES = 30
_TRAINED = 0.8  # of the tokens; the rest tests
_STRENGTH = 1e-3  # of the L2 penalty
_LEAST = 50  # tokens


@dataclass(frozen=True, repr=False)
class Probe(Answer):
    """How well linear probes tell a label from activations.

    names: of the activations.  accuracy, control: of the probe on the tokens that test, for each activation; control: with random
    labels per token type.  majority: of always saying the label that is most common in training.  by_token: of saying the label that is
    most common for the token.  classes: the labels.  trained, tested: numbers of tokens.
    """

    label: str
    names: list[str]
    accuracy: np.ndarray
    control: np.ndarray
    majority: float
    by_token: float
    classes: list[str]
    trained: int
    tested: int

    @property
    def selectivity(self) -> np.ndarray:
        """accuracy - control."""
        return self.accuracy - self.control

    def __repr__(self) -> str:
        return f"Probe({self.label!r}, {len(self.names)} activations, accuracy up to {self.accuracy.max():.3f})"

    def __rich__(self) -> Group:
        table = Table("activation", "accuracy", "control", "selectivity", box=None)
        for name, accuracy, control in zip(self.names, self.accuracy, self.control, strict=True):
            table.add_row(name, f"{accuracy:.3f}", f"{control:.3f}", f"{accuracy - control:+.3f}")
        error = float(np.sqrt(self.accuracy.max() * (1 - self.accuracy.max()) / self.tested))
        size = f"trained on {self.trained:,} tokens, tested on {self.tested:,}, standard error {error:.3f}"
        return Group(
            table,
            f"{self.label}: {len(self.classes)} classes; {size}",
            f"without the model: {self.majority:.3f} by the most common class, {self.by_token:.3f} by the most common class of each token",
        )


def probe(
    model: Module, tokenizer: Tokenizer, text: str, name: str | Sequence[str] | None = None,
    labels: str | Sequence[Hashable] = "word-position", *, seed: int = 0, device: str = "cpu",
) -> Probe:  # fmt: skip
    """Returns how well a linear probe tells a label of each token from an activation, layer by layer.

    name: names or patterns of activations with one vector per token; by default the embedding and what each layer leaves in
    the residual stream, or the states h. Heads are put side by side. labels: one of LABELS, or one label per token of the text.

    The text is read in blocks of the model's context (128 tokens for a recurrent model); the first eighth of each, which sees little,
    is not probed. The first 80 % of the tokens train and the last 20 % test. The probe is softmax(W x + b) on
    standardized x, fitted by L-BFGS to the mean cross-entropy + 10⁻³ |W|² / 2. Labels beyond the 30 most common ones are one class.
    control: the same with labels that each token type gets at random, as often as the true ones occur. Such labels can only be
    memorized, for each type, so a probe is selective if it does better with the true ones (their section 2). A type that
    does not occur in training is at chance.
    Raises ConfigError for a model that is no language model, for unknown names, and labels that do not fit the tokens;
    ShapeError for an activation without a vector per token; DataError for too short a text, or labels that are all the same.
    """
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"the model is a {type(model).__name__}: a probe expects a language model, which reads a long text")
    ids = tokenizer.encode(text)
    tokens = token_texts(tokenizer, ids.tolist())
    called, given = _labels(tokens, labels, tokenizer)
    x, kept = _activations(model, ids, tokenizer.start, [name] if isinstance(name, str) else name, device)
    if len(kept) < _LEAST:
        raise DataError(f"the text has {len(ids)} tokens, of which {len(kept)} are probed: expected at least {_LEAST}")
    y, classes = _numbered([given[i] for i in kept])
    types = ids[kept]
    cut = int(_TRAINED * len(y))
    if len(set(y[:cut].tolist())) < 2:
        raise DataError(f"the label {called} is {classes[y[0]]!r:.60} for all tokens that train: expected at least two classes")
    draw = np.random.default_rng(seed)
    of_type = {int(t): draw.choice(y[:cut]) for t in np.unique(types)}
    random = np.array([of_type[int(t)] for t in types])
    # BLAS threads wait in a loop, on busy cores for many times as long as they work
    with ThreadpoolController().select(user_api="blas").limit(limits=1):
        scores = [[_accuracy(values, target, cut, len(classes)) for target in (y, random)] for values in x.values()]
    accuracy, control = np.array(scores).T
    most = np.bincount(y[:cut]).argmax()
    by_type = {int(t): np.bincount(y[:cut][types[:cut] == t]).argmax() for t in np.unique(types[:cut])}
    guesses = np.array([by_type.get(int(t), most) for t in types[cut:]])
    return Probe(
        called, list(x), accuracy, control, float((y[cut:] == most).mean()), float((y[cut:] == guesses).mean()), classes, cut, len(y) - cut
    )


def _labels(tokens: list[str], labels: str | Sequence[Hashable], tokenizer: Tokenizer) -> tuple[str, list[Hashable]]:
    """Returns (what the label is called, the label of each token)."""
    if isinstance(labels, str):
        if labels not in LABELS:
            raise ConfigError(f"label {labels!r:.60}: expected one of {', '.join(LABELS)}, or one label per token")
        if any(len(token) != 1 for token in tokens):
            raise ConfigError(f"the label {labels!r} is one of characters: tokens of kind {tokenizer.kind!r} need labels of your own")
        return labels, list(LABELS[labels](tokens))
    given = list(labels)
    if len(given) != len(tokens):
        raise ConfigError(f"there are {len(given)} labels for {len(tokens)} tokens: expected one label per token of the text")
    return "own labels", given


def _numbered(labels: list[Hashable]) -> tuple[np.ndarray, list[str]]:
    """Returns (the number of the class of each label, the names of the classes), the most common first."""
    common = [label for label, _ in Counter(labels).most_common()]
    number = {label: min(i, _MOST_CLASSES) for i, label in enumerate(common)}
    classes = list(map(str, common[:_MOST_CLASSES])) + (["others"] if len(common) > _MOST_CLASSES else [])
    return np.array([number[label] for label in labels]), classes


def _activations(
    model: LanguageModel, ids: np.ndarray, start: Sequence[int], wanted: Sequence[str] | None, device: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """Returns (the activations by name, (n, C) float32; the positions in the text that they belong to)."""
    if wanted is None:
        wanted = [name for name in names(model) if name.endswith(("embed", ".resid_post", ".h")) and not name.endswith("pos_embed")]
    length = min((model.block_size or _RECURRENT_BLOCK) - len(start), len(ids))
    count = len(ids) // length if length > 0 else 0
    blocks = ids[: count * length].reshape(count, length)
    rows = np.concatenate([np.tile(np.array(start, np.int64), (count, 1)), blocks], axis=1)
    first = length // 8
    found: dict[str, list[np.ndarray]] = {}
    for at in range(0, count, max(1, _AT_ONCE // rows.shape[1])):
        chunk = rows[at : at + max(1, _AT_ONCE // rows.shape[1])]
        with evaluation_mode(model), cache(model, wanted) as seen:
            model.logits(Tensor(to_device(np.ascontiguousarray(chunk), device)))
        for name, value in seen.items():
            values = _per_token(name, to_numpy(value.data), chunk.shape)[:, len(start) + first :]
            found.setdefault(name, []).append(values.reshape(-1, values.shape[-1]).astype(np.float32))
    places = np.arange(count * length).reshape(count, length)[:, first:].ravel()
    return {name: np.concatenate(parts) for name, parts in found.items()}, places


def _per_token(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an activation as (N, T, C)."""
    if value.ndim == 4 and (value.shape[0], value.shape[2]) == shape and not name.endswith((".scores", ".pattern")):
        value = value.transpose(0, 2, 1, 3).reshape(*shape, -1)
    if value.ndim != 3 or value.shape[:2] != shape:
        raise ShapeError(f"the activation {name} has shape {value.shape}: a probe expects one vector per token, {shape} and a width")
    return value


def _accuracy(x: np.ndarray, y: np.ndarray, cut: int, classes: int) -> float:
    """Returns how often a probe that is fitted to the rows before the cut is right after it."""
    center, spread = x[:cut].mean(0), x[:cut].std(0)
    x = (x - center) / np.where(spread > 1e-6 * (1e-6 + np.abs(center)), spread, 1)
    weight, bias = fit(x[:cut], y[:cut], classes)
    return float((np.argmax(x[cut:] @ weight + bias, axis=1) == y[cut:]).mean())


def fit(x: np.ndarray, y: np.ndarray, classes: int, strength: float = _STRENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Returns W (C, K) and b (K,) that minimize mean_i -log softmax(x_i W + b)[y_i] + strength |W|² / 2, x (n, C) float32, y (n,)."""
    n, width = x.shape
    target = np.zeros((n, classes), np.float32)
    target[np.arange(n), y] = 1

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = flat[:-classes].reshape(width, classes), flat[-classes:]
        z = x @ weight.astype(np.float32) + bias.astype(np.float32)
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        total = p.sum(1, keepdims=True)
        loss = float((np.log(total[:, 0]) - z[np.arange(n), y]).mean(dtype=np.float64)) + strength / 2 * float((weight * weight).sum())
        p = (p / total - target) / n
        return loss, np.concatenate([(x.T @ p + strength * weight).ravel(), p.sum(0)]).astype(np.float64)

    start = np.zeros((width + 1) * classes)
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-6})
    return found.x[:-classes].reshape(width, classes), found.x[-classes:]


def draw_probe(found: Probe) -> Picture:
    """Draws accuracy and control accuracy over the activations, and as lines what can be said without the model. Returns the figure."""
    count = len(found.names)
    figure = Picture(figsize=(max(4.6, 0.32 * count + 2), 4.4), layout="constrained")
    axes = figure.add_subplot(ylabel="accuracy", ylim=(0, 1.04))
    axes.plot(range(count), found.accuracy, marker="o", label=f"probe of {found.label}")
    axes.plot(range(count), found.control, marker="x", linestyle="--", label="control: random labels per token")
    axes.axhline(found.majority, color="C2", linewidth=1, linestyle=":", label="the most common class")
    axes.axhline(found.by_token, color="C3", linewidth=1, linestyle="-.", label="the most common class of each token")
    axes.set_xticks(range(count), found.names, rotation=90, fontsize=8)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left", fontsize=8)
    return figure
