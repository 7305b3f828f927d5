"""Recurrent layers on a GPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from kernel_helpers import assert_agrees

pytestmark = pytest.mark.usefixtures("cuda")

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def inputs(name: str, steps: int = 3, batch: int = 4, width: int = 3, hidden: int = 5) -> list[np.ndarray | None]:
    """x, weights, biases and initial states."""
    rng = np.random.default_rng((steps, batch, hidden))
    rows = GATES[name] * hidden
    shapes = [(steps, batch, width), (rows, width), (rows, hidden), (rows,), (rows,), (batch, hidden), (batch, hidden)]
    return [rng.standard_normal(s) for s in shapes[: 7 if name == "lstm" else 6]]


def without(arrays: list[Any], *places: int) -> list[Any]:
    return [None if i in places else a for i, a in enumerate(arrays)]


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", [None, (2, 3, 1, 2), (1, 2, 2, 1)], ids=["no lengths", "lengths", "none runs to the end"])
def test_orders(name: str, reverse: bool, lengths: Any) -> None:
    assert_agrees(name, *inputs(name), reverse=reverse, lengths=None if lengths is None else np.array(lengths))
