"""The Jacobian of a function, by the tape and by central differences."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import no_grad
from tinylm.engine.grad import grad
from tinylm.engine.op import op
from tinylm.engine.random_keys import current
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.verify.inputs import copied

STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # of a difference, as a part of the element that moves

Line = Callable[[float], np.ndarray]  # s -> f(x + s u), the outputs as one vector


@op(sequence=True)
def flatten(arrays, /):
    """All elements of the arrays as one vector, so that several outputs are checked as one."""
    xp = array_module(*arrays)

    def vjp(dy):
        ends = np.cumsum([a.size for a in arrays])
        return [xp.reshape(dy[end - a.size : end], a.shape) for a, end in zip(arrays, ends.tolist(), strict=True)]

    return xp.concatenate([xp.reshape(a, (-1,)) for a in arrays]), vjp


def gradients(y: Tensor, xs: Sequence[Tensor], cotangent: Any, **how: bool) -> list[Tensor]:
    """Returns the gradients of cotangentᵀ y, zeros where y does not depend on x."""
    found = grad(y, list(xs), cotangent, **how) if y.requires_grad else [None] * len(xs)
    return [Tensor(array_module(x.data).zeros_like(x.data)) if g is None else g for x, g in zip(xs, found, strict=True)]


class Problem:
    """A function of named float64 tensors, to be differentiated by the tape and by differences.

    call: a function without arguments that reads the tensors where they stand; random ops draw the
    same numbers each time. dtype: "float32" records in single precision, at the same (rounded) point;
    differences are always computed in float64.
    """

    def __init__(self, call: Callable[[], Any], variables: Sequence[tuple[str, Tensor]], dtype: str = "float64") -> None:
        self.call = call
        self.names = [name for name, _ in variables]
        self.xs = [t for _, t in variables]
        self.dtype = dtype
        self.random_state = current.generator.state
        self.shapes: list[tuple[int, ...]] = []  # of the outputs
        if dtype != "float64":
            for x in self.xs:
                x.data[...] = x.data.astype(dtype)
        self.start = [x.numpy().copy() for x in self.xs]
        sizes = [np.where(np.isfinite(x), np.abs(x), 0) for x in self.start]
        self.typical = [float(np.median(size[size > 0])) if size.any() else 1.0 for size in sizes]
        self.scales = [np.where(size > 0, size, typical) for size, typical in zip(sizes, self.typical, strict=True)]

    def floating(self) -> list[Tensor]:
        """Returns the floating outputs. Raises ConfigError if there is none."""
        current.generator.state = self.random_state
        out = self.call()
        found = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor) and t.dtype.kind == "f"]
        if not found:
            raise ConfigError("gradcheck: the function returned no floating tensor")
        self.shapes = [t.shape for t in found]
        return found

    def value(self) -> Tensor:
        """Returns all outputs as one vector, for differences."""
        with no_grad(), np.errstate(all="ignore"):
            return flatten(self.floating())

    def taped(self) -> Tensor:
        """Returns all outputs as one vector, with a graph."""
        doubles = [x.data for x in self.xs]
        try:
            for x in self.xs if self.dtype != "float64" else []:
                x.data = copied(x.data, np.dtype(self.dtype))
            with np.errstate(all="ignore"):  # what is not finite is found by its value
                return flatten(self.floating())
        finally:
            for x, data in zip(self.xs, doubles, strict=True):
                x.data = data

    def vjp(self, y: Tensor, cotangent: np.ndarray) -> list[np.ndarray]:
        """Returns cᵀ J by the tape of y: one array per argument."""
        c = array_module(y.data).asarray(cotangent.astype(y.dtype))
        with np.errstate(all="ignore"):  # what is not finite is found by its value
            return [g.numpy().astype(np.float64) for g in gradients(y, self.xs, c, retain_graph=True)]

    def line(self, directions: dict[int, np.ndarray]) -> Line:
        """Returns the function s -> f(x + s u). directions: the parts of u by argument number; other arguments do not move.

        Where f raises an error of arithmetic or of its arguments' values, away from x, it has no value: NaN.
        """
        moved = [(self.xs[k], self.xs[k].data.copy(), array_module(self.xs[k].data).asarray(u)) for k, u in directions.items()]

        def at(s: float) -> np.ndarray:
            try:
                with np.errstate(all="ignore"):  # a large step may leave the domain
                    for x, start, direction in moved:
                        x.data[...] = start + s * direction
                    return self.value().numpy()
            except (ArithmeticError, ValueError, IndexError):
                if not s:
                    raise
                return np.full(sum(int(np.prod(shape)) for shape in self.shapes), np.nan)
            finally:
                for x, start, _ in moved:
                    x.data[...] = start

        return at

    def slope(self, directions: dict[int, np.ndarray], step: float) -> np.ndarray:
        """Returns J u by a central difference."""
        at = self.line(directions)
        return (at(step) - at(-step)) / (2 * step)

    def measured(self, k: int, *, step: float = STEP) -> np.ndarray:
        """Returns the Jacobian in argument k by differences: (outputs, elements of the argument). The step is a part of each element."""
        least = 0.1 * self.typical[k]
        steps = step * np.maximum(self.scales[k].ravel(), least)
        columns = [self.slope({k: u}, float(h)) for u, h in zip(unit_vectors(self.xs[k]), steps, strict=True)]
        return np.array(columns).reshape(self.xs[k].size, -1).T if columns else np.zeros((self.value().size, 0))


class SecondOrder(Problem):
    """The gradient of cᵀ f for a random c as a function of the arguments and of c.

    The tape differentiates the result of `grad(..., create_graph=True)`; differences are taken of the plain gradient.
    """

    def __init__(self, call: Callable[[], Any], variables: Sequence[tuple[str, Tensor]], rng: np.random.Generator) -> None:
        first = Problem(call, variables)
        start = first.value()
        self.cotangent = Tensor(array_module(start.data).asarray(rng.standard_normal(start.size)), requires_grad=True)
        super().__init__(call, [*variables, ("cotangent", self.cotangent)])
        self.first = first

    def value(self) -> Tensor:
        with np.errstate(all="ignore"):
            found = gradients(self.first.taped(), self.first.xs, self.cotangent)
        self.shapes = [g.shape for g in found]
        return flatten(found)

    def taped(self) -> Tensor:
        with np.errstate(all="ignore"):
            return flatten(gradients(self.first.taped(), self.first.xs, self.cotangent, create_graph=True))


def unit_vectors(x: Tensor) -> Iterator[np.ndarray]:
    """Yields the unit vectors of x's space, in x's shape."""
    for j in range(x.size):
        unit = np.zeros(x.size)
        unit[j] = 1
        yield unit.reshape(x.shape)
