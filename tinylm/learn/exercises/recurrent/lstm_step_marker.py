"""Marks one step of an LSTM."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work
from tinylm.ops.recurrent_cells import lstm_cell
from tinylm.verify import gradcheck

HINTS = (
    "z = x @ weight_ih.T + h @ weight_hh.T + bias; i, f, g, o = tinylm.split(z, 4, axis=-1).",
    "i, f and o are gates between 0 and 1: each goes through sigmoid. g is what is written: tanh.",
    "The new c is needed in h': h' = sigmoid(o) * tanh(c'), not of the old c.",
)
THEN = "tinylm/ops/recurrent_cells.py has the three cells; tinylm/ops/recurrent_scan.py goes through time in one op."
MISTAKES = (
    Mistake.of("the gates in another order", "i, f, g, o =", "i, f, o, g =", says="order i, f, g, o"),
    Mistake.of("the old cell is shown", "tinylm.tanh(new), new", "tinylm.tanh(c), new", says="of the old c"),
    Mistake.of(
        "no tanh on the cell", "tinylm.sigmoid(o) * tinylm.tanh(new), new", "tinylm.sigmoid(o) * new, new", says="tanh of c' is missing"
    ),
    Mistake.of(
        "forget and input exchanged",
        "tinylm.sigmoid(f) * c + tinylm.sigmoid(i) *",
        "tinylm.sigmoid(i) * c + tinylm.sigmoid(f) *",
        says="exchanged",
    ),
    Mistake.of("the state is ignored", " + h @ weight_hh.T", "", says="h W_hhᵀ is missing"),
    Mistake.of(
        "the results in the wrong order",
        "return tinylm.sigmoid(o) * tinylm.tanh(new), new",
        "return new, tinylm.sigmoid(o) * tinylm.tanh(new)",
        says="(h', c')",
    ),
)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _known(x, h, c, weight_ih, weight_hh, bias):
    """Returns what known mistakes give for (h', c')."""
    z = x @ weight_ih.T + h @ weight_hh.T + bias

    def cell(z, order="ifgo"):
        parts = dict(zip(order, np.split(z, 4, -1), strict=True))
        new = _sigmoid(parts["f"]) * c + _sigmoid(parts["i"]) * np.tanh(parts["g"])
        return _sigmoid(parts["o"]), new

    o, new = cell(z)
    found = {"the blocks of z are in the order i, f, g, o": "ifog", "σ(f) and σ(i) are exchanged": "figo"}
    known = {phrase: (s * np.tanh(n), n) for phrase, order in found.items() for s, n in [cell(z, order)]}
    s, n = cell(x @ weight_ih.T + bias)
    known["h W_hhᵀ is missing in z: the state is ignored"] = (s * np.tanh(n), n)
    known["h' is computed of the old c, not of c'"] = (o * np.tanh(c), new)
    known["the tanh of c' is missing in h'"] = (o * new, new)
    known["the results are in the wrong order: return (h', c')"] = (new, o * np.tanh(new))
    return known


def mark(work: Work) -> None:
    step = work.get("lstm_step")
    arrays = normal(2, 3), normal(2, 4), normal(2, 4, seed=1), normal(16, 3), normal(16, 4), normal(16)
    work.begin("h' and c', against tinylm's cell")
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    result = step(*tensors)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise work.wrong(f"it returns a {type(result).__name__}: expected the pair (h', c')", "", step)
    right = lstm_cell(*arrays, np.zeros(16))
    known = _known(*arrays)
    for k, name in enumerate(("h'", "c'")):
        compare(work, name, result[k], right[k], causes={phrase: pair[k] for phrase, pair in known.items()}, where=step)
    work.begin("the gradients of all six arguments reach them")
    report = gradcheck(
        step,
        *(normal(*a.shape, seed=3) for a in (np.empty((1, 2)), *[np.empty((1, 2))] * 2, np.empty((8, 2)), np.empty((8, 2)), np.empty(8))),
    )
    work.expect(report.ok, str(report), "a tensor was turned into an array (.numpy(), .data): the tape ends there", step)
