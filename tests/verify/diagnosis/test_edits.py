"""Mistakes whose repair is found in the vjp's source, and what a search among edited sources must leave alone."""

import numpy as np
import pytest

import tinylm
from tinylm.verify import gradcheck

R = np.random.default_rng(11)


def normal(*shape):
    return R.standard_normal(shape)


@tinylm.op
def log_sum_exp(x, /):
    """log Σ e^x along rows; the vjp divides by the columns' sums, which takes two edits to mend."""
    top = x.max(-1, keepdims=True)
    y = np.log(np.exp(x - top).sum(-1)) + top[:, 0]
    return y, lambda dy: (dy[:, None] * np.exp(x - top) / np.exp(x - top).sum(0),)


@tinylm.op
def running_mean(x, /):
    """The vjp sums from the wrong end."""
    n = np.arange(1, 1 + x.shape[-1])
    return np.cumsum(x, -1) / n, lambda dy: (np.cumsum(dy / n, -1),)


@tinylm.op
def smoothed_loss(z, /):
    """Cross-entropy with smoothed labels; the vjp has the plain ones."""
    e = np.exp(z - z.max(-1, keepdims=True))
    p, hot = e / e.sum(-1, keepdims=True), np.eye(5)[[1, 0, 4, 2]]
    q = hot * 0.9 + 0.02
    return -(q * np.log(p)).sum(-1).mean(), lambda dy: (dy * (p - np.eye(5)[[1, 0, 4, 2]]) / 4,)


@tinylm.op
def recurrence(w, /):
    """h_t = tanh(h_{t-1} w + t/4); the vjp carries nothing from one step to the one before."""
    states = [np.full(3, 0.3)]
    for t in range(4):
        states.append(np.tanh(states[-1] @ w + t / 4))

    def vjp(dy):
        dw, dh = np.zeros_like(w), 0 * states[0]
        for t in range(3, -1, -1):
            d = dy[t] * (1 - states[t + 1] ** 2)
            dw += np.outer(states[t], d)
            dh = d @ w.T + 0 * dh
        return (dw,)

    return np.stack(states[1:]), vjp


@tinylm.op
def grouped_norm(x, /):
    """Each half of a row divided by its root mean square; the vjp averages over both halves."""
    g = x.reshape(3, 2, 4)
    r = np.sqrt((g * g).mean(-1, keepdims=True))
    y = g / r

    def vjp(dy):
        d = dy.reshape(3, 2, 4)
        return (((d - y * (d * y).mean((-1, -2), keepdims=True)) / r).reshape(3, 8),)

    return y.reshape(3, 8), vjp


@tinylm.op
def interpolated(table, places, /):
    """Linear interpolation; the vjp has the two weights swapped."""
    i = np.floor(places).astype(int)
    f = places - i

    def vjp(dy):
        d = np.zeros_like(table)
        np.add.at(d, i, dy * f)
        np.add.at(d, i + 1, dy * (1 - f))
        return d, dy * (table[i + 1] - table[i])

    return table[i] * (1 - f) + table[i + 1] * f, vjp


@pytest.mark.parametrize(
    ("op", "args", "said"),
    [
        (running_mean, (normal(3, 6),), "right with `np.flip(np.cumsum(np.flip(dy / n, -1), -1), -1)` instead of `np.cumsum(dy / n, -1)`"),
        (smoothed_loss, (normal(4, 5),), "right with `q` instead of `np.eye(5)[[1, 0, 4, 2]]`"),
        (recurrence, (normal(3, 3),), "right with `dy[t] + dh` instead of `dy[t]`"),
        (grouped_norm, (normal(3, 8),), "right with `-1` instead of `(-1, -2)`"),
        (interpolated, (normal(6), np.array([0.2, 1.7, 4.6, 3.3, 0.9])), "right with `1 - f` instead of `f`"),
    ],
)
def test_an_edit_that_makes_it_right(op, args, said):
    kept = [x.copy() for x in args]
    report = gradcheck(op, *args)
    assert report.failures[0].cause.startswith(said), report
    for x, before in zip(args, kept, strict=True):  # among the edits are some that write into the arguments
        np.testing.assert_array_equal(x, before)


def test_a_slice_in_a_vjp_does_not_end_the_search_with_an_error():
    assert gradcheck(log_sum_exp, normal(4, 4)).failures[0].observed.startswith("all 16 elements wrong")


def test_a_table_may_end_where_the_differences_go():
    """At a step beyond the last entry the function raises an IndexError and has no value: smaller steps decide."""
    report = gradcheck(lambda places: interpolated(np.arange(6.0) ** 2, places), np.array([0.3, 4.9999999, 2.5]))
    assert report.verdict == "ok", report


@tinylm.op
def softplus(x, /):
    """log(1 + e^x), whose vjp rounds 1 + tanh(x/2) where that is almost 0."""
    return np.log1p(np.exp(x)), lambda dy: (dy * 0.5 * (1 + np.tanh(x / 2)),)


@tinylm.op
def softplus_off(x, /):
    """As softplus, and off by two parts in ten thousand."""
    return np.log1p(np.exp(x)), lambda dy: (dy * 1.0002 / (1 + np.exp(-x)),)


def test_the_rounding_of_a_vjp_is_no_mistake():
    x = np.array([-29.97, 0.4, 1.3, -0.7])
    report = gradcheck(softplus, x)
    assert report.verdict == "ok", report
    assert "1 of 4 elements left out" in str(report)
    assert gradcheck(softplus_off, x).failures[0].cause == "a factor of 1.0002"
