"""Compares gradients with central differences, (f(x + h) - f(x - h)) / 2h, in float64.

The error of a central difference is h² f'''/6 from the formula and about ε |f| / h from rounding.
It is smallest near h = ε^(1/3) ≈ 6·10⁻⁶, about 10⁻¹⁰: a gradient that is wrong by one part
in a million is found. An argument that seems wrong there is measured again at the step where its
differences change least, and without the elements that are at a kink.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm.engine.arrays import array_module
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, GradientShapeError
from tinylm.verify.determinism import repetitions
from tinylm.verify.diagnosis.causes import likely_cause, shape_cause
from tinylm.verify.diagnosis.evidence import gathered
from tinylm.verify.jacobians import STEP, Problem, SecondOrder
from tinylm.verify.kinks import kinks_of
from tinylm.verify.reports import Report, Row, joint_norm, relative_error
from tinylm.verify.step_sizes import error_curve, steadiest_step

TOLERANCES = {1: 1e-6, 2: 1e-5}  # by order
SINGLE_TOLERANCE = 1e-5  # of a gradient in float32
_FULL = 300  # inputs + outputs up to which every element of the Jacobian is checked
_DIRECTIONS = 8


@dataclass(frozen=True)
class Settings:
    """How a check is made; see `gradcheck`. Raises ConfigError for a mode, order or dtype that does not exist."""

    mode: str | None = None
    order: int = 1
    tolerance: float | None = None
    seed: int = 0
    thorough: bool = False
    taped_in: str = "float64"

    def __post_init__(self) -> None:
        if self.mode not in (None, "full", "directions") or self.order not in (1, 2):
            raise ConfigError(f"gradcheck: mode {self.mode!r}, order {self.order!r}: expected 'full', 'directions' or None, and 1 or 2")
        if self.taped_in not in ("float64", *(["float32"] if self.order == 1 else [])):
            raise ConfigError(f"gradcheck: taped_in {self.taped_in!r}: expected 'float64', or 'float32' with order 1")

    @property
    def allowed(self) -> float:
        """The tolerance that was given, or that of the order and dtype."""
        if self.tolerance is not None:
            return self.tolerance
        return TOLERANCES[self.order] if self.taped_in == "float64" else SINGLE_TOLERANCE


def gradcheck(
    fn: Callable[..., Any],
    *arrays: Any,
    mode: str | None = None,
    order: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
    thorough: bool = False,
    taped_in: str = "float64",
    **settings: Any,
) -> Report:
    """Compares the gradients of fn(*arrays, **settings) with central differences.

    fn: a function of tensors, such as an op, that returns one floating tensor or several. Floating
    arrays, also those in a list, are copied to float64 tensors; anything else (integers, masks,
    None, numbers, indices) is passed through. A tensor among `arrays` is varied where it stands and
    must be float64, so parameters that fn captures can be checked:
    gradcheck(lambda *_: model(x), *model.parameters()). Random ops draw the same numbers each time.
    mode: "full" compares the whole Jacobian, "directions" compares cᵀ J u for random u and c;
    by default the size decides. order 2 checks `grad(..., create_graph=True)` of a random cᵀ f,
    in the arrays and in c, with differences of the first gradient.
    tolerance: 1e-6, 1e-5 for order 2 or float32. seed: of u and c. thorough: also gives the error at
    many steps (`curve`) and looks for kinks that differences miss. taped_in: "float32" runs the
    op, and thereby its float32 kernel, in single precision and compares it with differences in double.
    Elements without a derivative are left out and named in the remarks; a failure has its likely
    cause in the row. Raises ConfigError for a mode, order or dtype that does not exist, or if there is
    nothing to check.
    """
    args, variables = _variables(arrays)
    name = getattr(getattr(fn, "op", fn), "name", getattr(fn, "__name__", type(fn).__name__))
    return check(lambda: fn(*args, **settings), variables, name, Settings(mode, order, tolerance, seed, thorough, taped_in))


def check(call: Callable[[], Any], variables: Sequence[tuple[str, Tensor]], name: str, how: Settings) -> Report:
    """Does the same for a function without arguments that reads the named float64 tensors where they stand."""
    if not variables:
        raise ConfigError("gradcheck: no floating array among the arguments")
    mode, tolerance, rng = how.mode, how.allowed, np.random.default_rng(how.seed)
    before = [t.requires_grad for _, t in variables]
    for _, t in variables:
        t.requires_grad = True
    try:
        problem = SecondOrder(call, variables, rng) if how.order == 2 else Problem(call, variables, how.taped_in)
        comparison = _Comparison(problem, tolerance, mode, rng)
        mode = comparison.mode
        rows, remarks = comparison.run(how.thorough)
        curve = comparison.curve() if how.thorough else ()
    except GradientShapeError as error:
        rows, remarks, curve = [Row(f"argument {error.argument}", float("inf"), str(error), shape_cause(error))], [], ()
    finally:
        for (_, t), required in zip(variables, before, strict=True):
            t.requires_grad = required
    return Report(f"{name} ({mode or 'full'}, order {how.order})", tolerance, tuple(rows), tuple(remarks), curve)


def _variables(arrays: Sequence[Any]) -> tuple[list[Any], list[tuple[str, Tensor]]]:
    """Returns the arguments for fn, and the floating ones among them as (name, float64 tensor)."""
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


class _Comparison:
    """Compares the tape with differences for one problem, argument by argument."""

    def __init__(self, problem: Problem, tolerance: float, mode: str | None, rng: np.random.Generator) -> None:
        self.problem, self.tolerance, self.rng = problem, tolerance, rng
        self.y = problem.taped()
        inputs, outputs = sum(x.size for x in problem.xs), self.y.size
        self.mode = mode or ("full" if inputs + outputs <= _FULL else "directions")
        self.cotangents = np.eye(outputs) if self.mode == "full" else rng.standard_normal((_DIRECTIONS, outputs))
        self.directions = [rng.standard_normal((_DIRECTIONS, *x.shape)) for x in problem.xs] if self.mode == "directions" else []
        self.vjps = [problem.vjp(self.y, c) for c in self.cotangents]
        self.kinks: dict[int, list[int]] = {}
        self.remeasured: set[int] = set()
        self.pairs = [self.pair(k, STEP, []) for k in range(len(problem.xs))]

    def pair(self, k: int, step: float, without: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns argument k's part by the tape and by differences, some of its elements left out."""
        x = self.problem.xs[k]
        if self.mode == "full":
            taped = np.array([p[k].ravel() for p in self.vjps]).reshape(self.y.size, x.size)
            measured = self.problem.measured(k, step)
            taped[:, without] = measured[:, without] = 0
            return taped, measured
        directions = self.directions[k].reshape(_DIRECTIONS, x.size)
        directions[:, without] = 0
        pairs = zip(self.vjps, self.cotangents, self.directions[k], strict=True)
        both = [(float(np.vdot(p[k], u)), float(c @ self.problem.slope({k: u}, step))) for p, c, u in pairs]
        return np.array([[a] for a, _ in both]), np.array([[b] for _, b in both])

    def error(self, k: int) -> float:
        return relative_error(*self.pairs[k], joint_norm([b for _, b in self.pairs]))

    def remeasure(self, k: int) -> None:
        """Compares argument k again without its kinks; if it still seems wrong, at the step where its differences change least."""
        self.remeasured.add(k)
        self.kinks[k] = kinks_of(self.problem, k, self.rng)
        self.pairs[k] = self.pair(k, STEP, self.kinks[k])
        if not self.error(k) <= self.tolerance:
            self.pairs[k] = self.pair(k, steadiest_step(self.problem, k, self.rng), self.kinks[k])

    def run(self, thorough: bool) -> tuple[list[Row], list[str]]:
        """Returns one row per argument and one for whatever does not repeat; and remarks on kinks."""
        count = range(len(self.pairs))
        unstable = repetitions(self.problem, self.rng.standard_normal(self.y.size))
        noisy = any(row.error > self.tolerance for row in unstable)
        if not noisy:  # else noise would look like kinks
            for k in count if thorough else []:
                self.kinks[k] = kinks_of(self.problem, k, self.rng)
                if self.kinks[k]:
                    self.remeasure(k)
            while suspects := [k for k in count if k not in self.remeasured and not self.error(k) <= self.tolerance]:
                for k in suspects:
                    self.remeasure(k)
        rows = [Row(self.problem.names[k], self.error(k), *self._failure(k, noisy)) for k in count]
        return [*rows, *unstable], [self._remark(k) for k in count if self.kinks.get(k)]

    def _remark(self, k: int) -> str:
        shape = self.problem.xs[k].shape
        points = [[int(n) for n in np.unravel_index(j, shape)] for j in self.kinks[k][:4]]
        more = ", ..." if len(self.kinks[k]) > len(points) else ""
        return (
            f"{self.problem.names[k]}: {len(self.kinks[k])} of {self.problem.xs[k].size} elements left out, since the point looks "
            f"non-differentiable there: {', '.join(map(str, points))}{more}"
        )

    def _failure(self, k: int, noisy: bool) -> tuple[str, str]:
        """Returns, for an argument out of tolerance, where it differs most and the likely cause."""
        if self.error(k) <= self.tolerance:
            return "", ""
        a, b = self.pairs[k]
        i, j = (int(n) for n in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
        index = [int(n) for n in np.unravel_index(j, self.problem.xs[k].shape)] if self.mode == "full" else []
        where = f"worst at {index}, output element {i}" if self.mode == "full" else f"worst along random direction {i}"
        detail = f"{where}: {a[i, j]:.10g} by the tape, {b[i, j]:.10g} by differences"
        if noisy:
            return detail, "not repeatable, see below"
        evidence = gathered(self.problem, self.y, k, self.kinks.get(k, []), self.rng, gradcheck)
        return detail, "" if evidence is None else likely_cause(evidence)

    def curve(self) -> tuple[tuple[float, float], ...]:
        """Returns the error at many steps, along a direction without the kinks."""
        c = self.rng.standard_normal(self.y.size)
        return error_curve(self.problem, self.problem.vjp(self.y, c), c, self.kinks, self.rng)
