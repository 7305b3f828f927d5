"""Functions whose arguments come in every size, right and with planted mistakes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinylm
from tinylm import Tensor

SCALES = (1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12)
MISTAKES = ("sign", "factor", "missing")


class Scaled(NamedTuple):
    function: Callable[..., Any]  # of the tensors and of the scale
    arguments: Callable[[np.random.Generator, float], list[np.ndarray]]


def values(x):
    return x.numpy() if isinstance(x, Tensor) else x


@tinylm.op
def sine(x, /):
    """Its derivative is one of our ops as well, so that it has a second order."""
    return np.sin(values(x)), lambda dy: (dy * (cosine(x) if isinstance(x, Tensor) else np.cos(x)),)


@tinylm.op
def cosine(x, /):
    return np.cos(values(x)), lambda dy: (-dy * (sine(x) if isinstance(x, Tensor) else np.sin(x)),)


def normal(*shape):
    return lambda rng, s: [rng.standard_normal(shape) * s]


def positive(*shape):
    return lambda rng, s: [rng.uniform(0.3, 3, shape) * s]


def two(*shapes):
    return lambda rng, s: [(rng.uniform(0.3, 3, shape) * rng.choice([-1, 1], shape)) * s for shape in shapes]


TARGETS = np.array([0, 2, 1])

FUNCTIONS = {
    "2 x": Scaled(lambda x, s: 2 * x, normal(5)),
    "x x": Scaled(lambda x, s: x * x, normal(5)),
    "x ** 3": Scaled(lambda x, s: x**3, normal(5)),
    "1 / x": Scaled(lambda x, s: 1 / x, normal(5)),
    "log": Scaled(lambda x, s: tinylm.log(x), positive(5)),
    "sqrt": Scaled(lambda x, s: tinylm.sqrt(x), positive(5)),
    "exp": Scaled(lambda x, s: tinylm.exp(x / s), normal(5)),
    "sin": Scaled(lambda x, s: sine(x), normal(5)),
    "tanh": Scaled(lambda x, s: tinylm.tanh(x / s), normal(5)),
    "relu": Scaled(lambda x, s: tinylm.relu(x), normal(6)),
    "softmax": Scaled(lambda x, s: tinylm.softmax(x / s), normal(2, 4)),
    "log_softmax": Scaled(lambda x, s: tinylm.log_softmax(x / s), normal(2, 4)),
    "logsumexp": Scaled(lambda x, s: tinylm.logsumexp(x / s), normal(2, 4)),
    "cross entropy, saturated": Scaled(lambda x, s: tinylm.cross_entropy(x * (20 / s), TARGETS), normal(3, 4)),
    "sum + 1e7": Scaled(lambda x, s: (x * x).sum() + 1e7, normal(4)),
    "(x + 1e8) - 1e8": Scaled(lambda x, s: (x + 1e8) - 1e8, normal(4)),
    "layer_norm": Scaled(lambda x, s: tinylm.layer_norm(x), normal(2, 4)),
    "matmul": Scaled(lambda a, b, s: a @ b, two((2, 3), (3, 2))),
    "a / b": Scaled(lambda a, b, s: a / b, two((4,), (4,))),
    "norm": Scaled(lambda x, s: tinylm.sqrt((x * x).sum()), normal(5)),
    "power": Scaled(lambda x, s: x**1.5, positive(5)),
}


def changed(mistake: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what the mistake makes of a gradient."""

    def missing(g):
        kept = np.ones(g.shape)
        if g.size:
            kept.reshape(-1)[np.argmax(np.abs(g))] = 0
        return g * kept

    return {"sign": lambda g: -g, "factor": lambda g: g * 1.001, "missing": missing}[mistake]


def spoiled(mistake: str, order: int) -> Callable[[Tensor], Tensor]:
    """Returns the identity with a wrong gradient; for order 2, with a right one whose own gradient is wrong."""
    change = changed(mistake)

    @tinylm.op
    def wrong(x, /):
        return x * 1.0, lambda dy: (change(dy),)

    @tinylm.op
    def wrong_within(x, /):
        return x * 1.0, lambda dy: (wrong(dy) if isinstance(dy, Tensor) else dy,)

    return wrong if order == 1 else wrong_within


def verdict(name: str, scale: float, seed: int, order: int, mistake: str | None = None) -> tuple[str, Any]:
    """Returns gradcheck's verdict on one function at one scale, right or with a mistake, and the report."""
    function, arguments = FUNCTIONS[name]
    arrays = arguments(np.random.default_rng(seed), scale)
    first = (lambda x: x) if mistake is None else spoiled(mistake, order)
    report = tinylm.verify.gradcheck(lambda x, *rest: function(first(x), *rest, scale), *arrays, order=order, seed=seed)
    return report.verdict, report
