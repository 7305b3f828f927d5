"""Samples of the functions that work element by element."""

import numpy as np

from tinylm.verify.samples.registry import Rng, Samples, distinct, nonzero, normal, positive, sample, samples_for


@samples_for("add", "subtract", "multiply", "divide", "maximum", "minimum")
def _binary(rng: Rng) -> Samples:
    def pair(a: tuple[int, ...], b: tuple[int, ...]) -> list[np.ndarray]:
        n = int(np.prod(a))
        both = distinct(rng, n + int(np.prod(b)))
        return [both[:n].reshape(a), both[n:].reshape(b)]

    yield sample("same shape", *pair((2, 3), (2, 3)))
    yield sample("row", *pair((2, 3), (3,)))
    yield sample("column and row", *pair((4, 1), (1, 3)))
    yield sample("leading axes", *pair((3, 1), (2, 1, 4)))
    yield sample("0-d and matrix", *pair((), (2, 2)))
    yield sample("both 0-d", *pair((), ()))
    yield sample("number right", nonzero(rng, 2, 3), 0.1)
    yield sample("number left", 0.1, nonzero(rng, 2, 3))
    yield sample("integer number", nonzero(rng, 3), 2)
    yield sample("integer array", nonzero(rng, 2, 3), np.array([1, -2, 3]))
    yield sample("boolean array", nonzero(rng, 2, 3), np.array([True, True, True]))
    yield sample("wide", *pair((3, 67), (67,)))
    yield sample("empty", normal(rng, 0, 3), nonzero(rng, 3))


@samples_for("power")
def _power(rng: Rng) -> Samples:
    yield sample("odd exponent", nonzero(rng, 2, 3), 3)
    for exponent in (2, -1, 0, 1, 0.5, -1.5):
        yield sample(f"exponent {exponent}", positive(rng, 3), exponent)
    yield sample("number base", 2.0, normal(rng, 2, 3))
    yield sample("arrays", positive(rng, 2, 3), normal(rng, 2, 3))
    yield sample("broadcast", positive(rng, 2, 1), normal(rng, 3))
    yield sample("integer array exponent", nonzero(rng, 2, 3), np.array([2, 0, 1]))
    yield sample("empty", positive(rng, 0, 3), normal(rng, 3))


def _of_one_argument(rng: Rng, large: float) -> Samples:
    yield sample("matrix", nonzero(rng, 3, 4))
    yield sample("0-d", nonzero(rng))
    yield sample("four axes", nonzero(rng, 2, 1, 3, 2))
    yield sample("large values", nonzero(rng, 5) * large)
    yield sample("wide", nonzero(rng, 3, 67))
    yield sample("empty", normal(rng, 2, 0))


@samples_for("negative", "exp", "sigmoid", "tanh", "erfc", "silu", "identity", "abs", "relu", "sign")
def _unary(rng: Rng) -> Samples:
    yield from _of_one_argument(rng, 4)


@samples_for("erf")
def _erf(rng: Rng) -> Samples:
    yield from _of_one_argument(rng, 2)  # beyond 5 its derivative is less than the rounding of its values


@samples_for("gelu")
def _gelu(rng: Rng) -> Samples:
    yield from _unary(rng)
    yield sample("tanh form", normal(rng, 3, 4), approximate="tanh")
    yield sample("tanh form, wide", normal(rng, 3, 67), approximate="tanh")
    yield sample("tanh form by position", normal(rng, 4), "tanh")


@samples_for("expm1", "sin", "cos", "square", "softplus")
def _plain(rng: Rng) -> Samples:
    yield sample("matrix", nonzero(rng, 3, 4))
    yield sample("0-d", nonzero(rng))
    yield sample("large values", nonzero(rng, 5) * 4)
    yield sample("empty", normal(rng, 2, 0))


@samples_for("leaky_relu")
def _leaky_relu(rng: Rng) -> Samples:
    yield from _plain(rng)
    yield sample("another slope", nonzero(rng, 3, 4), 0.3)
    yield sample("a negative slope, by name", nonzero(rng, 5), negative_slope=-0.5)


@samples_for("elu")
def _elu(rng: Rng) -> Samples:
    yield from _plain(rng)
    yield sample("another alpha", nonzero(rng, 3, 4), 0.3)
    yield sample("a large alpha, by name", nonzero(rng, 5), alpha=2.5)


@samples_for("floor", "round")
def _rounding(rng: Rng) -> Samples:
    yield sample("numbers", np.array([[-2.7, -0.2, 0.3], [1.8, 2.0, -1.0]]))
    yield sample("halves", np.array([-1.5, -0.5, 0.5, 1.5, 2.5]))
    yield sample("0-d", np.array(-0.7))
    yield sample("integers", np.array([-3, 2]))
    yield sample("empty", normal(rng, 2, 0))


@samples_for("remainder", "floor_divide")
def _division(rng: Rng) -> Samples:
    a, b = np.array([[7.3, -7.3, 0.4], [-0.4, 5.5, -9.1]]), np.array([[2.0, 2.0, -1.5], [3.0, -2.2, -4.0]])
    yield sample("same shape", a, b)
    yield sample("row", a, b[1])
    yield sample("column and row", a[:, :1], b[0])
    yield sample("number right", a, -2)
    yield sample("number left", -7.5, b)
    yield sample("integer array", a, np.array([2, -3, 4]))
    yield sample("integers", np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]))
    yield sample("empty", a[:0], b[0])


@samples_for("swiglu")
def _swiglu(rng: Rng) -> Samples:
    yield sample("matrix", normal(rng, 3, 4), normal(rng, 3, 4))
    yield sample("0-d", normal(rng), normal(rng))
    yield sample("large gates", nonzero(rng, 2, 5) * 8, normal(rng, 2, 5))
    yield sample("wide", normal(rng, 3, 67), normal(rng, 3, 67))
    yield sample("empty", normal(rng, 0, 3), normal(rng, 0, 3))


@samples_for("log", "log1p", "sqrt")
def _unary_positive(rng: Rng) -> Samples:
    yield sample("matrix", positive(rng, 3, 4))
    yield sample("0-d", positive(rng))
    yield sample("small values", positive(rng, 5) * 0.1)
    yield sample("empty", positive(rng, 2, 0))


@samples_for("clip")
def _clip(rng: Rng) -> Samples:
    x = np.array([[-2.0, -0.8, -0.2], [0.1, 0.7, 1.9]])
    yield sample("both bounds", x, -0.5, 0.5)
    yield sample("lower", x, -0.5)
    yield sample("upper", x, None, 0.5)
    yield sample("arrays", x, np.array([[-0.5], [0.4]]), np.array([0.3, 0.6, 1.5]))
    yield sample("array and number", x, np.array([-0.5, -3.0, -0.1]), 0.3)
    yield sample("x broadcast, upper", np.array([-0.8, 0.1, 0.7]), None, np.array([[0.0], [0.5]]))
    yield sample("crossed bounds", x, np.array(0.5), np.array(-0.5))
    yield sample("empty", normal(rng, 0, 2), -0.5, 0.5)


@samples_for("where")
def _where(rng: Rng) -> Samples:
    chosen = rng.random((2, 3)) < 0.5
    yield sample("same shape", chosen, normal(rng, 2, 3), normal(rng, 2, 3))
    yield sample("condition broadcast", chosen[0], normal(rng, 2, 3), normal(rng, 2, 3))
    yield sample("values broadcast", chosen, normal(rng, 3), normal(rng, 2, 1))
    yield sample("number right", chosen, normal(rng, 2, 3), 0.0)
    yield sample("number left", chosen, -1, normal(rng, 1, 3))
    yield sample("empty", chosen[:0], normal(rng, 0, 3), normal(rng, 3))


@samples_for("astype")
def _astype(rng: Rng) -> Samples:
    yield sample("float64", normal(rng, 2, 3), "float64")
    yield sample("from integers", np.array([1, 2, 3]), "float64")
    yield sample("to integers", nonzero(rng, 3) * 3, "int64")
    yield sample("empty", normal(rng, 0), "float64")


@samples_for("to_device")
def _to_device(rng: Rng) -> Samples:
    yield sample("matrix", normal(rng, 2, 3), "cpu")
    yield sample("integers", np.array([1, 2]), device="cpu")


@samples_for("dropout")
def _dropout(rng: Rng) -> Samples:
    yield sample("half", normal(rng, 4, 5), 0.5, key=(1, 2))
    yield sample("a tenth", normal(rng, 3, 7), p=0.1, key=(3, 0))
    yield sample("none", normal(rng, 4), 0, key=(1, 2))
    yield sample("everything", normal(rng, 4), 1, key=(1, 2))
    yield sample("wide", normal(rng, 3, 67), 0.3, key=(2**64 - 1, 2**40))
    yield sample("0-d", normal(rng), 0.5, key=(1, 7))
    yield sample("empty", normal(rng, 0, 3), 0.5, key=(1, 2))


@samples_for("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
def _comparisons(rng: Rng) -> Samples:
    a, b = rng.integers(0, 3, (2, 2, 3))
    yield sample("ties", a * 1.0, b * 1.0)
    yield sample("broadcast", a * 1.0, np.array([[1.0], [2.0]]))
    yield sample("number", a * 1.0, 1)
    yield sample("integers", a, b)
    yield sample("not a number", np.array([np.nan, 1.0]), np.array([np.nan, np.nan]))
    yield sample("empty", normal(rng, 0, 3), normal(rng, 3))


@samples_for("bitwise_and", "bitwise_or")
def _bits(rng: Rng) -> Samples:
    a, b = rng.integers(0, 2, (2, 2, 3)) > 0
    yield sample("booleans", a, b)
    yield sample("broadcast", a, np.array([[True], [False]]))
    yield sample("integers", np.array([-1, 6, 3]), np.array([5, 3, 0]))
    yield sample("number", np.array([5, 6, 7]), 3)
    yield sample("boolean left", True, a)
    yield sample("empty", a[:0], b[0])


@samples_for("invert")
def _invert(rng: Rng) -> Samples:
    yield sample("booleans", rng.integers(0, 2, (2, 3)) > 0)
    yield sample("integers", np.array([0, -1, 5]))
    yield sample("0-d", np.array(True))


@samples_for("isfinite", "isnan")
def _special_values(rng: Rng) -> Samples:
    yield sample("numbers", np.array([[0.0, np.inf], [np.nan, -np.inf]]))
    yield sample("integers", np.array([1, 2]))
    yield sample("0-d", np.array(np.nan))
    yield sample("empty", normal(rng, 0, 2))


@samples_for("zeros_like", "ones_like")
def _constants(rng: Rng) -> Samples:
    yield sample("matrix", normal(rng, 2, 3))
    yield sample("integers", np.array([1, 2]))
    yield sample("empty", normal(rng, 0, 2))
