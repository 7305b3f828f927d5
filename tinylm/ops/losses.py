"""Loss functions. Classes are on the last axis, unlike PyTorch's axis 1."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinylm.checks import check_fraction, check_integer
from tinylm.engine.arrays import Array, all_promoted, array_module, constant, raw_module
from tinylm.engine.autograd import mode
from tinylm.engine.devices import device_of
from tinylm.engine.ids import check_ids
from tinylm.engine.op import op
from tinylm.errors import AutogradError, ConfigError, DeviceError, ShapeError
from tinylm.ops.reductions import finite_max
from tinylm.ops.shapes import as_rows


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"reduction {reduction!r}: expected 'mean', 'sum' or 'none'")


def _reduce(losses: Array, kept: Array, reduction: str, shape: tuple[int, ...], weights: Array = None) -> tuple[Array, Any]:
    """Returns the reduced loss, and a function from its cotangent to one factor per row: 0 for ignored ones, also if all are
    ignored and the mean is NaN. The mean divides by how many rows are kept, or by the sum of their `weights`."""
    xp = array_module(losses)
    if reduction == "none":
        return xp.reshape(losses, shape), lambda dy: array_module(dy).where(kept, array_module(dy).reshape(dy, losses.shape), 0.0)
    if reduction == "sum":
        return xp.sum(losses), lambda dy: array_module(dy).where(kept, dy, 0.0)
    count = (kept if weights is None else kept * weights).sum().astype(losses.dtype)  # an array: nothing is copied to the host
    return xp.sum(losses) / count, lambda dy: array_module(dy).where(kept, dy / (count + (count == 0)), 0.0)


def _constant_of(name: str, x: Any, z: Array) -> Array:
    """Returns the weights that were given as a setting as an array of z's dtype, on z's device.

    Raises AutogradError if they require a gradient, which they would not get, DeviceError for a tensor on another device."""
    if getattr(x, "requires_grad", False) and mode.recording:
        raise AutogradError(f"{name} requires a gradient (shape {x.shape}), and none is computed for it: give {name}.detach()")
    if hasattr(x, "requires_grad") and x.device != device_of(constant(z)):
        raise DeviceError(f"{name} is on {x.device}, the scores are on {device_of(constant(z))}")
    return raw_module(z).asarray(constant(x), dtype=z.dtype)


def _class_weights(weight: Any, scores: Array) -> Array:
    """Returns one weight per class of scores (..., V). Raises ShapeError for another number of them."""
    weights = _constant_of("weight", weight, scores)
    if weights.shape != scores.shape[-1:]:
        raise ShapeError(f"weight has shape {weights.shape}, expected {scores.shape[-1:]}: one number per class")
    return weights


def _targets(scores: Array, targets: Array, ignore_index: int) -> tuple[Array, Array]:
    """Returns, from the targets of scores (..., V), the ids with 0 for ignored ones, and for each row whether it counts."""
    check_integer("ignore_index", ignore_index)
    if scores.ndim == 0:
        raise ShapeError("the scores have shape (), expected (..., V) for V classes")
    if targets.shape != scores.shape[:-1]:
        told = f"one class for each row of the scores {scores.shape}"
        raise ShapeError(f"targets have shape {targets.shape}, expected {scores.shape[:-1]}: {told}")
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
def cross_entropy(logits, targets, /, *, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """-Σ_v w_v q_v log p_v with p = softmax(logits), in nats; q = (1 - ε) onehot(target) + ε/V.

    logits (..., V), targets (...) integers -> a scalar ('mean' over the targets that are not
    ignore_index, NaN if there is none, or 'sum'), or (...) for 'none'.  dlogits = dy (p - q), exactly 0 for an
    ignored row, whatever it holds.
    targets may also be probabilities (..., V), such as those of a larger model (distillation, Hinton et al. 2015,
    arXiv:1503.02531): then q = (1 - ε) targets + ε/V, the mean is over all rows, and dtargets = -dy (1 - ε) w log p.
    weight: w (V,), constants, 1 for None. With targets that are integers, the mean divides by Σ w_target.
    The probabilities are recomputed in the backward pass, one block of rows at a time, so that a large
    vocabulary needs no second (N, V) array. Label smoothing: Szegedy et al. 2016, section 7.

    >>> logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])  # two rows, three classes
    >>> tinylm.cross_entropy(logits, np.array([0, 1]), reduction="none")  # -ln 0.7, -ln 0.6
    Tensor([0.35667494, 0.51082562], dtype=float64)
    """
    _check_reduction(reduction)
    smooth = check_fraction("label_smoothing", label_smoothing)
    if weight is not None or targets.dtype.kind == "f":
        return _weighted_cross_entropy(logits, targets, weight, ignore_index, smooth, reduction)
    xp = array_module(logits)
    ids, kept = _targets(logits, targets, ignore_index)
    classes = logits.shape[-1]
    z = as_rows(logits, classes)
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


def _weighted_cross_entropy(logits: Array, targets: Array, weight: Any, ignore_index: int, smooth: float, reduction: str) -> Any:
    """Returns what cross_entropy does, for probabilities as targets or weighted classes: with whole arrays (N, V).

    With a row's total s = Σ_v w_v q_v:  dlogits = dy (s p - w q).
    """
    given = targets.dtype.kind == "f" and targets.shape == logits.shape != ()  # probabilities, not ids
    if given:
        logits, targets = all_promoted((logits, targets))
        if check_integer("ignore_index", ignore_index) >= 0:
            raise ConfigError(f"ignore_index is {ignore_index}: with probabilities as targets no row is ignored")
        rows = as_rows(targets, targets.shape[-1])
        kept, totals = raw_module(logits).ones(rows.shape[0], bool), None
    else:
        if targets.dtype.kind == "f" and targets.shape != logits.shape[:-1]:
            raise ShapeError(f"targets have shape {targets.shape}, expected {logits.shape} for probabilities, {logits.shape[:-1]} for ids")
        ids, kept = _targets(logits, targets, ignore_index)
    xp = array_module(logits, targets)
    classes = logits.shape[-1]
    w = raw_module(logits).ones(classes, logits.dtype) if weight is None else _class_weights(weight, logits)
    if not given:
        rows = (ids[:, None] == raw_module(logits).arange(classes)).astype(logits.dtype)
        totals = w[ids]
    q = w * ((1 - smooth) * rows + smooth / classes if smooth else rows)
    z = as_rows(logits, classes)
    centred = z - finite_max(z, -1)
    log_p = centred - xp.log(xp.sum(xp.exp(centred), axis=-1, keepdims=True))
    impossible = (constant(q) == 0) & (constant(log_p) == -np.inf)  # 0 log 0 = 0
    log_p = xp.where(impossible, 0.0, log_p)
    losses = xp.where(kept, -xp.sum(q * log_p, axis=-1), 0.0)
    loss, factors = _reduce(losses, kept, reduction, logits.shape[:-1], totals)

    def vjp(dy):
        g = factors(dy)[:, None]
        p = xp.where(impossible, 0.0, xp.exp(log_p))
        dz = xp.where(kept[:, None], g * (p * xp.sum(q, axis=-1, keepdims=True) - q), 0.0)
        dtargets = xp.reshape(-(1 - smooth) * g * (w * log_p), targets.shape) if given else None
        return xp.reshape(dz, logits.shape), dtargets

    return loss, vjp


def _positions(ids: Array) -> tuple[Array, Array]:
    return array_module(ids).arange(ids.shape[0]), ids


@op
def nll_loss(log_probabilities, targets, /, *, weight=None, ignore_index=-100, reduction="mean"):
    """-w[target] log p[target]: log_probabilities (..., V), targets (...), weight (V,) -> as cross_entropy."""
    _check_reduction(reduction)
    xp = array_module(log_probabilities)
    ids, kept = _targets(log_probabilities, targets, ignore_index)
    z = as_rows(log_probabilities, log_probabilities.shape[-1])
    at = _positions(ids)
    w = None if weight is None else _class_weights(weight, log_probabilities)[ids]
    losses = -z[at] if w is None else -z[at] * w
    loss, factors = _reduce(xp.where(kept, losses, 0.0), kept, reduction, log_probabilities.shape[:-1], w)

    def vjp(dy):
        g = factors(dy) if w is None else factors(dy) * w
        return xp.reshape(xp.scatter_add(-g, at, z.shape), log_probabilities.shape), None

    return loss, vjp


@op
def binary_cross_entropy_with_logits(logits, targets, /, *, pos_weight=None, reduction="mean"):
    """-w t log σ(z) - (1 - t) log σ(-z), in nats; for w = 1 it is max(z, 0) - z t + log(1 + e^-|z|).

    logits and targets (in [0, 1]) of one shape.  dz = dy (σ(z) - t), dt = -dy z.
    pos_weight: w, constants that broadcast to the logits' shape, how much a positive example counts.  With u = 1 - t + w t
    and -log σ(z) = log(1 + e^-z):  dz = dy (u σ(z) - w t), dt = dy (-z + (w - 1) log(1 + e^-z)).
    """
    _check_reduction(reduction)
    logits, targets = all_promoted((logits, targets))
    if targets.shape != logits.shape:
        raise ShapeError(f"targets have shape {targets.shape}, expected {logits.shape}")
    xp = array_module(logits, targets)
    log_term = xp.log1p(xp.exp(-xp.abs(logits)))
    if pos_weight is None:
        losses = xp.maximum(logits, 0) - logits * targets + log_term
    else:
        w = _constant_of("pos_weight", pos_weight, logits)
        if w.ndim > logits.ndim or any(n not in (1, m) for n, m in zip(w.shape[::-1], logits.shape[::-1], strict=False)):
            raise ShapeError(f"pos_weight has shape {w.shape}, which does not broadcast to the logits' {logits.shape}")
        log_term = log_term + xp.maximum(-logits, 0)  # -log σ(z)
        losses = (1 - targets) * logits + (1 + (w - 1) * targets) * log_term
    n = logits.size if reduction == "mean" else 1
    loss = losses if reduction == "none" else xp.sum(losses) / n

    def vjp(dy):
        g = dy / n
        if pos_weight is None:
            return g * (xp.sigmoid(logits) - targets), g * -logits
        return g * ((1 + (w - 1) * targets) * xp.sigmoid(logits) - w * targets), g * ((w - 1) * log_term - logits)

    return loss, vjp
