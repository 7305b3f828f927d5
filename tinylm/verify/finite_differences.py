"""Compares gradients with central differences, (f(x + h) - f(x - h)) / 2h, in float64.

The error of a central difference is h² f'''/6 from the formula and about ε |f| / h from rounding.
It is smallest near h = ε^(1/3) ≈ 6·10⁻⁶, about 10⁻¹⁰: a gradient that is wrong by one part
in a million is found. What this step does not decide is measured at many steps (`tinylm.verify.ladders`),
and elements at a kink are left out. What no step decides counts as undecided, not as wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinylm.engine.products import products_mode
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, GradientShapeError
from tinylm.verify.columns import Comparison
from tinylm.verify.diagnosis.causes import shape_cause
from tinylm.verify.inputs import argument_names, own_memory, variables_of
from tinylm.verify.jacobians import Problem, SecondOrder
from tinylm.verify.reports import Report, Row
from tinylm.verify.rows import left_out, rows_of
from tinylm.verify.step_sizes import Curve, error_curve

TOLERANCES = {1: 1e-6, 2: 1e-5}  # by order
SINGLE_TOLERANCE = 1e-5  # of a gradient in float32


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
    cause in the row. Products of float64 are never rounded: within `products("bfloat16")` the exact gradients
    are checked, and a remark says so. Raises ConfigError for a mode, order or dtype that does not exist, for float32
    within `products("bfloat16")`, or if there is nothing to check.
    """
    labels = argument_names(fn, len(arrays))
    args, variables = variables_of(arrays, labels)
    name = getattr(getattr(fn, "op", fn), "name", getattr(fn, "__name__", type(fn).__name__))
    numbers = {label: i for i, label in enumerate(labels) if label != f"argument {i}"}
    report = check(lambda: fn(*args, **settings), variables, name, Settings(mode, order, tolerance, seed, thorough, taped_in))
    return replace(report, rows=tuple(replace(row, argument=numbers.get(row.name.split("[")[0])) for row in report.rows))


def check(call: Callable[[], Any], variables: Sequence[tuple[str, Tensor]], name: str, how: Settings) -> Report:
    """Does the same for a function without arguments that reads the named float64 tensors where they stand."""
    if not variables:
        raise ConfigError("gradcheck: no floating array among the arguments")
    if products_mode.rounded and how.taped_in == "float32":
        raise ConfigError(
            "gradcheck: taped_in 'float32' within products(\"bfloat16\"): expected 'float64', since rounded operands have no derivative "
            "that differences could show"
        )
    before = [t.requires_grad for _, t in variables]
    for _, t in variables:
        t.requires_grad = True
    try:
        with own_memory(variables):
            return _report(call, variables, name, how)
    finally:
        for (_, t), required in zip(variables, before, strict=True):
            t.requires_grad = required


def _report(call: Callable[[], Any], variables: Sequence[tuple[str, Tensor]], name: str, how: Settings) -> Report:
    mode, remarks, rng = how.mode or "full", list[str](), np.random.default_rng(how.seed)
    curve: Curve = ()
    try:
        problem = SecondOrder(call, variables, rng) if how.order == 2 else Problem(call, variables, how.taped_in)
        comparison = Comparison(problem, how.allowed, how.mode, rng)
        mode = "full" if comparison.full else "directions"
        rows, remarks = rows_of(comparison, how.thorough, gradcheck)
        if how.thorough:
            c = rng.standard_normal(comparison.y.size) * comparison.finite
            without = {k: left_out(comparison, k) for k in range(len(problem.xs))}
            curve = error_curve(problem, problem.vjp(comparison.y, c), c, without, rng)
    except GradientShapeError as error:
        rows = [Row(f"argument {error.argument}", float("inf"), str(error), shape_cause(error))]
    if products_mode.rounded:
        remarks = [*remarks, 'checked in float64, whose products products("bfloat16") does not round']
    return Report(f"{name} ({mode}, order {how.order})", how.allowed, tuple(rows), tuple(remarks), curve)
