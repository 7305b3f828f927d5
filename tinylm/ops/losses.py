"""Loss functions. Classes are on the last axis, unlike PyTorch's axis 1."""

from collections.abc import Iterator
from typing import Any

from tinylm.checks import check_fraction, check_integer
from tinylm.engine.arrays import Array, all_promoted, array_module
from tinylm.engine.ids import check_ids
from tinylm.engine.op import op
from tinylm.errors import ConfigError, ShapeError
from tinylm.ops.reductions import finite_max
from tinylm.ops.shapes import as_rows


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"reduction {reduction!r}: expected 'mean', 'sum' or 'none'")


def _reduce(losses: Array, kept: Array, reduction: str, shape: tuple[int, ...]) -> tuple[Array, Any]:
    """Returns the reduced loss, and a function from its cotangent to one factor per row: 0 for ignored ones, also if all are
    ignored and the mean is NaN."""
    xp = array_module(losses)
    if reduction == "none":
        return xp.reshape(losses, shape), lambda dy: array_module(dy).where(kept, array_module(dy).reshape(dy, losses.shape), 0.0)
    if reduction == "sum":
        return xp.sum(losses), lambda dy: array_module(dy).where(kept, dy, 0.0)
    count = kept.sum().astype(losses.dtype)  # an array: nothing is copied to the host
    return xp.sum(losses) / count, lambda dy: array_module(dy).where(kept, dy / array_module(count).maximum(count, 1), 0.0)


def _targets(scores: Array, targets: Array, ignore_index: int) -> tuple[Array, Array]:
    """Returns, from the targets of scores (..., V), the ids with 0 for ignored ones, and for each row whether it counts."""
    check_integer("ignore_index", ignore_index)
    if scores.ndim == 0:
        raise ShapeError("the scores have shape (), expected (..., V) for V classes")
    if targets.shape != scores.shape[:-1]:
        raise ShapeError(f"targets have shape {targets.shape}, expected {scores.shape[:-1]}")
    classes = scores.shape[-1]
    ids = targets.reshape(-1)
    kept = ids != ignore_index
    ids = ids * kept
    check_ids(ids, classes, "target")
    return ids, kept


_CHUNK = 1 << 22  # elements of probabilities in memory at once


def _chunks(rows: int, classes: int) -> Iterator[slice]:
    step = max(1, _CHUNK // max(classes, 1))
    for start in range(0, max(rows, 1), step):
        yield slice(start, min(start + step, rows))


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else array_module(*parts).concatenate(parts, 0)


@op
def cross_entropy(logits, targets, /, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """-Σ_v q_v log p_v with p = softmax(logits), in nats; q = (1 - ε) onehot(target) + ε/V.

    logits (..., V), targets (...) integers -> a scalar ('mean' over the targets that are not
    ignore_index, NaN if there is none, or 'sum'), or (...) for 'none'.  dlogits = dy (p - q), exactly 0 for an
    ignored row, whatever it holds.
    The probabilities are recomputed in the backward pass, one block of rows at a time, so that a large
    vocabulary needs no second (N, V) array. Label smoothing: Szegedy et al. 2016, section 7.
    """
    _check_reduction(reduction)
    xp = array_module(logits)
    ids, kept = _targets(logits, targets, ignore_index)
    classes = logits.shape[-1]
    z = as_rows(logits, classes)
    smooth = check_fraction("label_smoothing", label_smoothing)
    logs, losses = [], []
    for rows in _chunks(z.shape[0], classes):
        shift = finite_max(z[rows], -1)  # stored apart from log Σ: with large logits their sum would lose digits
        centred = z[rows] - shift
        log_total = xp.log(xp.sum(xp.exp(centred), axis=-1))
        loss = log_total - (1 - smooth) * centred[_positions(ids[rows])]
        if smooth:
            loss = loss - smooth * xp.mean(centred, axis=-1)
        logs.append((shift, log_total))
        losses.append(xp.where(kept[rows], loss, 0.0))
    loss, factors = _reduce(_joined(losses), kept, reduction, logits.shape[:-1])

    def vjp(dy):
        g = factors(dy)
        parts = []
        for rows, (shift, log_total) in zip(_chunks(z.shape[0], classes), logs, strict=True):
            d = xp.exp(z[rows] - shift - log_total[:, None])
            if smooth:
                d = d - smooth / classes
            d = xp.where(kept[rows][:, None], d * g[rows][:, None], 0.0)
            parts.append(xp.index_add(d, -(1 - smooth) * g[rows], _positions(ids[rows])))
        return xp.reshape(_joined(parts), logits.shape), None

    return loss, vjp


def _positions(ids: Array) -> tuple[Array, Array]:
    return array_module(ids).arange(ids.shape[0]), ids


@op
def nll_loss(log_probabilities, targets, /, *, ignore_index=-100, reduction="mean"):
    """-log p[target]: log_probabilities (..., V), targets (...) -> as cross_entropy."""
    _check_reduction(reduction)
    xp = array_module(log_probabilities)
    ids, kept = _targets(log_probabilities, targets, ignore_index)
    z = as_rows(log_probabilities, log_probabilities.shape[-1])
    at = _positions(ids)
    loss, factors = _reduce(xp.where(kept, -z[at], 0.0), kept, reduction, log_probabilities.shape[:-1])

    def vjp(dy):
        return xp.reshape(xp.scatter_add(-factors(dy), at, z.shape), log_probabilities.shape), None

    return loss, vjp


@op
def binary_cross_entropy_with_logits(logits, targets, /, *, reduction="mean"):
    """-t log σ(z) - (1 - t) log σ(-z) = max(z, 0) - z t + log(1 + e^-|z|), in nats.

    logits and targets (in [0, 1]) of one shape.  dz = dy (σ(z) - t), dt = -dy z.
    """
    _check_reduction(reduction)
    logits, targets = all_promoted((logits, targets))
    if targets.shape != logits.shape:
        raise ShapeError(f"targets have shape {targets.shape}, expected {logits.shape}")
    xp = array_module(logits, targets)
    losses = xp.maximum(logits, 0) - logits * targets + xp.log1p(xp.exp(-xp.abs(logits)))
    n = logits.size if reduction == "mean" else 1
    loss = losses if reduction == "none" else xp.sum(losses) / n

    def vjp(dy):
        g = dy / n
        return g * (xp.sigmoid(logits) - targets), g * -logits

    return loss, vjp
