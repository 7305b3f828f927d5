"""Gradients against central differences: (f(x + h) - f(x - h)) / 2h, in float64.

The error of a central difference is h² f'''/6 from the formula and about ε |f| / h from rounding,
least near h = ε^(1/3) ≈ 6·10⁻⁶, where it is some 10⁻¹⁰: a formula that is wrong by one part
in a million is seen.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.autograd import grad, no_grad
from tinylm.backend import array_module
from tinylm.dispatch import op
from tinylm.errors import ConfigError
from tinylm.random_streams import default_generator
from tinylm.tensor import Tensor
from tinylm.verify.reports import Report, Row, joint_norm, relative_error

STEP = float(np.finfo(np.float64).eps) ** (1 / 3)
TOLERANCES = {1: 1e-6, 2: 1e-5}  # by order
_FULL = 300  # inputs + outputs up to which every element of the Jacobian is checked
_DIRECTIONS = 8


@op(sequence=True)
def flatten(arrays, /):
    """All elements of the arrays as one vector: several outputs, checked as one."""
    xp = array_module(*arrays)

    def vjp(dy):
        ends = np.cumsum([a.size for a in arrays])
        return [xp.reshape(dy[end - a.size : end], a.shape) for a, end in zip(arrays, ends.tolist(), strict=True)]

    return xp.concatenate([xp.reshape(a, (-1,)) for a in arrays]), vjp


def gradcheck(
    fn: Callable[..., Any],
    *arrays: Any,
    mode: str | None = None,
    order: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Report:
    """Checks the gradients of fn(*arrays, **settings) against central differences.

    fn: a function of tensors, such as an op, that returns one floating tensor or several. Floating
    arrays, also those in a list, are copied to float64 tensors; anything else (integers, masks,
    None, numbers, indices) is passed through. A tensor among `arrays` is varied where it stands and
    must be float64, so parameters that fn captures can be checked:
    gradcheck(lambda *_: model(x), *model.parameters()). Random ops draw the same numbers each time.
    mode: "full" compares the whole Jacobian, "directions" compares cᵀ J u for random u and c;
    by default the size decides. order 2 checks `grad(..., create_graph=True)` of a random cᵀ f,
    in the arrays and in c, against differences of the first gradient.
    tolerance: 1e-6, and 1e-5 for order 2. seed: of u and c.
    Errors: ConfigError for a mode or order that is none, or when there is nothing to check.
    """
    if mode not in (None, "full", "directions") or order not in (1, 2):
        raise ConfigError(f"gradcheck: mode {mode!r}, order {order!r}: expected 'full', 'directions' or None, and 1 or 2")
    args, variables = _variables(arrays)
    if not variables:
        raise ConfigError("gradcheck: no floating array among the arguments")
    rng = np.random.default_rng(seed)
    random_state = default_generator.state

    def outputs() -> Tensor:
        default_generator.state = random_state
        out = fn(*args, **settings)
        floating = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor) and t.dtype.kind == "f"]
        if not floating:
            raise ConfigError("gradcheck: the function returned no floating tensor")
        return flatten(floating)

    xs = [t for _, t in variables]
    before = [t.requires_grad for t in xs]
    for t in xs:
        t.requires_grad = True
    try:
        value, taped = no_grad()(outputs), outputs
        if order == 2:
            start = outputs()
            cotangent = Tensor(array_module(start.data).asarray(rng.standard_normal(start.size)), requires_grad=True)
            variables = [*variables, ("cotangent", cotangent)]

            def gradient(create_graph: bool) -> Tensor:
                return flatten(_gradients(outputs(), xs, cotangent, create_graph=create_graph))

            value, taped = (lambda: gradient(False)), (lambda: gradient(True))
        tolerance = TOLERANCES[order] if tolerance is None else tolerance
        check = _Check(variables, value, taped(), tolerance)
        if mode is None:
            mode = "full" if check.inputs + check.taped.size <= _FULL else "directions"
        rows = check.full() if mode == "full" else check.directions(rng)
    finally:
        for t, required in zip(xs, before, strict=True):
            t.requires_grad = required
    name = getattr(getattr(fn, "op", fn), "name", getattr(fn, "__name__", type(fn).__name__))
    return Report(f"{name} ({mode}, order {order})", tolerance, tuple(rows))


def _gradients(y: Tensor, xs: list[Tensor], cotangent: Any, **how: bool) -> list[Tensor]:
    """The gradients of cotangentᵀ y, zeros where y does not depend on x."""
    found = grad(y, xs, cotangent, **how) if y.requires_grad else [None] * len(xs)
    return [Tensor(array_module(x.data).zeros_like(x.data)) if g is None else g for x, g in zip(xs, found, strict=True)]


def _variables(arrays: Sequence[Any]) -> tuple[list[Any], list[tuple[str, Tensor]]]:
    """The arguments for fn, and the floating ones among them as (name, float64 tensor)."""
    variables: list[tuple[str, Tensor]] = []

    def prepared(x: Any, label: str) -> Any:
        if isinstance(x, (list, tuple)) and x and all(map(_is_floating, x)):
            return [prepared(member, f"{label}[{i}]") for i, member in enumerate(x)]
        if not _is_floating(x):
            return x
        tensor = x if isinstance(x, Tensor) else Tensor(array_module(x).array(x, dtype=np.float64))
        if tensor.dtype != np.float64:
            raise ConfigError(f"gradcheck: {label} is a tensor of dtype {tensor.dtype}: expected float64 (module.to(dtype='float64'))")
        variables.append((label, tensor))
        return tensor

    return [prepared(x, f"argument {i}") for i, x in enumerate(arrays)], variables


def _is_floating(x: Any) -> bool:
    """True for a floating array or tensor; a NumPy scalar is a number."""
    return not isinstance(x, np.generic) and getattr(getattr(x, "dtype", None), "kind", None) == "f"


class _Check:
    """The Jacobian of one function by the tape and by differences: outputs as one vector."""

    def __init__(self, variables: list[tuple[str, Tensor]], value: Callable[[], Tensor], taped: Tensor, tolerance: float) -> None:
        self.names = [name for name, _ in variables]
        self.xs = [t for _, t in variables]
        self.value = value  # evaluated for differences
        self.taped = taped  # with a graph
        self.tolerance = tolerance
        self.inputs = sum(t.size for t in self.xs)

    def pulled(self, cotangent: np.ndarray) -> list[np.ndarray]:
        """cᵀ J by the tape: one array an argument."""
        c = array_module(self.taped.data).asarray(cotangent)
        return [g.numpy() for g in _gradients(self.taped, self.xs, c, retain_graph=True)]

    def line(self, x: Tensor, direction: np.ndarray) -> Callable[[float], np.ndarray]:
        """s -> f(x + s direction)."""
        start, way = x.data.copy(), array_module(x.data).asarray(direction)

        def at(s: float) -> np.ndarray:
            x.data[...] = start + s * way
            try:
                return self.value().numpy()
            finally:
                x.data[...] = start

        return at

    def slope(self, x: Tensor, direction: np.ndarray) -> np.ndarray:
        """J u by differences."""
        at = self.line(x, direction)
        return (at(STEP) - at(-STEP)) / (2 * STEP)

    def full(self) -> list[Row]:
        """One row an argument, from every element of the Jacobian."""
        outputs = self.taped.size
        pulled = [self.pulled(c) for c in np.eye(outputs)]
        taped = [np.array([p[k].ravel() for p in pulled]).reshape(outputs, x.size) for k, x in enumerate(self.xs)]
        measured = [np.array([self.slope(x, u) for u in _units(x)]).reshape(x.size, outputs).T for x in self.xs]

        def place(k: int, i: int, j: int) -> tuple[str, np.ndarray, np.ndarray]:
            index = [int(n) for n in np.unravel_index(j, self.xs[k].shape)]
            return f"worst at {index}, output element {i}", np.eye(outputs)[i], list(_units(self.xs[k]))[j]

        return self._rows(taped, measured, place)

    def directions(self, rng: np.random.Generator) -> list[Row]:
        """One row an argument, from cᵀ J u for random cotangents c and directions u."""
        cotangents = rng.standard_normal((_DIRECTIONS, self.taped.size))
        ways = [rng.standard_normal((_DIRECTIONS, *x.shape)) for x in self.xs]
        pulled = [self.pulled(c) for c in cotangents]
        taped = [np.array([[np.vdot(p[k], u)] for p, u in zip(pulled, us, strict=True)]) for k, us in enumerate(ways)]
        measured = [
            np.array([[c @ self.slope(x, u)] for c, u in zip(cotangents, us, strict=True)]) for x, us in zip(self.xs, ways, strict=True)
        ]
        return self._rows(taped, measured, lambda k, i, _: (f"worst along random direction {i}", cotangents[i], ways[k][i]))

    def _rows(self, taped: list[np.ndarray], measured: list[np.ndarray], place: Callable[[int, int, int], Any]) -> list[Row]:
        norm, rows = joint_norm(measured), []
        for k, (a, b) in enumerate(zip(taped, measured, strict=True)):
            error, detail = relative_error(a, b, norm), ""
            if not error <= self.tolerance:
                i, j = (int(n) for n in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
                where, c, u = place(k, i, j)
                note = _kink(self.line(self.xs[k], u), c, abs(a[i, j] - b[i, j]))
                detail = f"{where}: {a[i, j]:.10g} by the tape, {b[i, j]:.10g} by differences{note}"
            rows.append(Row(self.names[k], error, detail))
        return rows


def _units(x: Tensor) -> Iterator[np.ndarray]:
    """The unit vectors of x's space, in x's shape."""
    for j in range(x.size):
        unit = np.zeros(x.size)
        unit[j] = 1
        yield unit.reshape(x.shape)


def _kink(at: Callable[[float], np.ndarray], cotangent: np.ndarray, error: float) -> str:
    """A remark when `error` may come from a point where cᵀ f has no derivative along the line.

    On a smooth line the two one-sided differences approach each other by half when the step is
    halved, and the central difference hardly moves.
    """

    def sides(h: float) -> tuple[float, float]:
        low, centre, high = (float(cotangent @ at(s)) for s in (-h, 0, h))
        return (centre - low) / h, (high - centre) / h

    left, right = sides(STEP)
    left2, right2 = sides(STEP / 2)
    if abs(right2 - left2) > max(0.75 * abs(right - left), 0.1 * error):
        return f"; the point looks non-differentiable: one-sided differences {left2:.6g} and {right2:.6g}"
    wide, narrow = (right + left) / 2, (right2 + left2) / 2
    if abs(wide - narrow) > 0.1 * error:
        return f"; the point looks non-differentiable: halving the step moves the difference from {wide:.6g} to {narrow:.6g}"
    return ""
