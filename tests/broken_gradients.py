"""Gradients that are broken in different ways: for each an op, arguments that show it, and words that the likely cause must contain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinylm
from tinylm.engine.arrays import array_module, sum_to

BROKEN: dict[str, "Broken"] = {}


class Broken(NamedTuple):
    op: Callable[..., Any]
    args: tuple[Any, ...]
    words: tuple[str, ...]


def broken(*args: Any, words: tuple[str, ...], sequence: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        BROKEN[body.__name__] = Broken(tinylm.op(body, sequence=sequence), args, words)
        return body

    return register


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@broken(normal(5, 4), normal(4), words=("missing un-broadcast", "(4,)", "(5, 4)"))
def bias_not_summed(x, b, /):
    return x + b, lambda dy: (dy, dy)


@broken(normal(5, 4), normal(4), words=("missing un-broadcast", "only index 0 of axis 0"))
def bias_of_the_first_row(x, b, /):
    return x + b, lambda dy: (dy, dy[0])


@broken(normal(5, 4), normal(4), words=("missing un-broadcast", "mean", "1/5"))
def bias_averaged(x, b, /):
    return x * b, lambda dy: (dy * b, (dy * x).mean(axis=0))


@broken(normal(3, 3), normal(3, 3), words=("transposed operand", "right if b were"))
def operand_not_transposed(a, b, /):
    return a @ b, lambda dy: (dy @ b, a.T @ dy)


@broken(normal(3, 3), normal(3, 3), words=("transposed operand", "incoming gradient of output 0"))
def incoming_gradient_transposed(a, b, /):
    return a @ b, lambda dy: (dy.T @ b.T, a.T @ dy)


@broken(normal(2, 3), normal(4, 3), words=("transposed", "order [1, 0]"))
def result_transposed(x, w, /):
    return x @ w.T, lambda dy: (dy @ w, (dy.T @ x).T.reshape(w.shape))


@broken(normal(4, 3), words=("factor of 12", "the size of x"))
def mean_without_its_division(x, /):
    return x.mean(), lambda dy: (np.broadcast_to(dy, x.shape),)


@broken(normal(5), words=("factor of 0.5",))
def square_without_its_two(x, /):
    return x * x, lambda dy: (dy * x,)


@broken(normal(5), normal(5), words=("factor of -1", "sign"))
def difference_without_its_minus(a, b, /):
    return a - b, lambda dy: (dy, dy)


@broken(normal(6), words=("missing mask",))
def relu_without_its_mask(x, /):
    return np.maximum(x, 0), lambda dy: (dy,)


@broken(normal(2, 4, 4), words=("missing mask", "factor of 3"))
def causal_sum_without_its_mask(x, /):
    lower = np.tril(np.ones((4, 4)))
    return 3 * x * lower, lambda dy: (9 * dy,)


@broken(normal(6), words=("a mask too many",))
def leaky_relu_as_relu(x, /):
    return np.where(x > 0, x, 0.1 * x), lambda dy: (dy * (x > 0),)


@broken(normal(3, 4), words=("detached term", "sum", "held constant"))
def softmax_without_its_sum(x, /):
    xp = array_module(x)
    e = xp.exp(x)
    y = e / xp.sum(e, axis=-1, keepdims=True)
    return y, lambda dy: (dy * y,)


@broken(normal(3, 5), words=("detached term", "mean", "held constant"))
def layer_norm_without_its_mean(x, /):
    xp = array_module(x)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    rstd = 1 / xp.sqrt(xp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    def vjp(dy):
        xhat = centred * rstd
        return (rstd * (dy - xhat * xp.mean(dy * xhat, axis=-1, keepdims=True)),)

    return centred * rstd, vjp


@broken(normal(3, 4), words=("detached term", "mean", "held constant"))
def centred_without_its_mean(x, /):
    return np.subtract(x, np.mean(x, axis=-1, keepdims=True)), lambda dy: (dy,)


@broken(normal(5), words=("the gradient is 0 everywhere",))
def cut_off(x, /):
    return np.tanh(x), lambda dy: (0 * dy,)


@broken(normal(5), normal(5) + 2, words=("swapped arguments", "gradient of b"))
def product_swapped(a, b, /):
    return a * b, lambda dy: (dy * a, dy * b)


@broken(normal(2, 3), words=("detached term", "output 1"))
def second_output_forgotten(x, /):
    return (x * 2, x * x), lambda da, db: (2 * da,)


@broken(normal(6), words=("reversed", "axis 0"))
def flip_not_undone(x, /):
    return x[::-1] * np.arange(6), lambda dy: (dy * np.arange(6),)


@broken(normal(3, 1), normal(3, 4), words=("reduced", "sum", "axis 0"))
def column_summed_too_far(a, b, /):
    return a * b, lambda dy: (np.broadcast_to(sum_to(dy * b, (1, 1)), (3, 1)), dy * a)
