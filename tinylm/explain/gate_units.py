"""Which units of a recurrent layer stand out: by what they let through, and by what they do at a space."""

from collections.abc import Sequence

import numpy as np

from tinylm.explain.gates import Gates


def unit_order(layer: Gates) -> tuple[np.ndarray, str]:
    """Returns the units of a layer in the order in which they are drawn, and what they are sorted by, for the first text:
    the mean of the gate that keeps the state, the most open first; for a plain RNN, the mean of h."""
    name = {"lstm": "forget", "gru": "update"}.get(layer.kind, "h")
    means = np.nanmean(layer.values[name][:, 0], axis=0)
    return np.argsort(-means, kind="stable"), f"units, the highest mean of {name} first"


def extreme_units(values: np.ndarray) -> tuple[int, int]:
    """Returns the units with the lowest and with the highest mean of values (T, H) over a text."""
    means = np.nanmean(values, axis=0)
    return int(means.argmin()), int(means.argmax())


def at_spaces(values: np.ndarray, tokens: Sequence[str]) -> tuple[int, float] | None:
    """Returns the unit whose values (T, H) follow best whether a token is white space, and its Pearson correlation with
    that, from -1 to 1. None if all tokens are white space or none is, or if no unit changes."""
    space = np.array([token.isspace() for token in tokens], np.float64)
    running = np.isfinite(values).all(axis=1)
    space, values = space[running] - space[running].mean(), values[running] - values[running].mean(axis=0)
    lengths = np.linalg.norm(values, axis=0) * np.linalg.norm(space)
    if not lengths.any():
        return None
    correlations = np.divide(space @ values, lengths, out=np.zeros(values.shape[1]), where=lengths > 0)
    unit = int(np.abs(correlations).argmax())
    return unit, float(correlations[unit])
