"""The result of a check: named rows, each with a relative error, and a verdict."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinylm.files.json_files import without_nan

ALLOWED_DRIFT = 30.0  # times the drift that rounding alone makes


def relative_error(a: np.ndarray, b: np.ndarray, all_norm: float) -> float:
    """‖a - b‖ / max(‖b‖, 10⁻³ all_norm); b is the trusted side.

    all_norm: the norm of everything that is compared together (such as all gradients): some true
    gradients are exactly zero, and their rounding must not count as an error of 100 %.
    """
    difference = float(np.linalg.norm(np.ravel(a) - np.ravel(b)))
    if difference == 0:
        return 0.0
    reference = max(float(np.linalg.norm(b)), 1e-3 * all_norm)
    return difference / reference if reference else float("inf")


def joint_norm(arrays: Sequence[np.ndarray]) -> float:
    """Returns the norm of all the arrays as one vector."""
    return float(np.linalg.norm([np.linalg.norm(a) for a in arrays])) if arrays else 0.0


@dataclass(frozen=True)
class Row:
    """One compared quantity: its name, relative error, and where the two sides differ most."""

    name: str
    error: float
    detail: str = ""
    cause: str = ""  # of a failure, if one was found
    measures: Mapping[str, float] = field(default_factory=dict)  # further figures, by name
    decided: str = ""  # the verdict, where the error alone does not say it
    observed: str = ""  # of a failure without a cause: where it is wrong, and by how much
    argument: int | None = None  # the position of the argument that has this name

    def verdict(self, tolerance: float) -> str:
        """Returns "ok", "wrong", or "undecided" if too little could be compared. A NaN is out of every tolerance."""
        return self.decided or ("ok" if self.error <= tolerance else "wrong")

    @property
    def label(self) -> str:
        """The name, with the position of an argument: "x (argument 0)"."""
        return self.name if self.argument is None else f"{self.name} (argument {self.argument})"

    @property
    def explanation(self) -> str:
        """The likely cause, or what was observed; "" if there is neither."""
        return f"likely cause: {self.cause}" if self.cause else f"observed: {self.observed}" if self.observed else ""

    def __str__(self) -> str:
        error = "undecided" if self.decided == "undecided" else f"relative error {self.error:.2e}"
        return f"{self.label}: {'; '.join(part for part in (error, self.detail, self.explanation) if part)}"


@dataclass(frozen=True)
class Report:
    """The rows of one check; `str` shows those out of tolerance, in their order, then the remarks."""

    title: str
    tolerance: float
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()  # further findings, such as points without a derivative
    curve: tuple[tuple[float, float], ...] = ()  # (step, relative error of the difference), where steps were tried

    @property
    def failures(self) -> list[Row]:
        """The rows that are wrong, in order."""
        return [row for row in self.rows if row.verdict(self.tolerance) == "wrong"]

    @property
    def undecided(self) -> list[Row]:
        """The rows of which too little could be compared to say that they are right, in order."""
        return [row for row in self.rows if row.verdict(self.tolerance) == "undecided"]

    @property
    def verdict(self) -> str:
        """ "wrong" if a row is wrong, else "undecided" if too little of one could be compared, else "ok"."""
        return "wrong" if self.failures else "undecided" if self.undecided else "ok"

    @property
    def ok(self) -> bool:
        """True if everything was compared and is right: an undecided report is not ok."""
        return self.verdict == "ok"

    @property
    def worst(self) -> Row | None:
        """The row with the largest error, where a NaN counts as the largest; None without rows."""
        return max(self.rows, key=lambda row: math.inf if math.isnan(row.error) else row.error, default=None)

    @property
    def error(self) -> float:
        """The largest relative error; NaN if there is a NaN."""
        return float(np.max([row.error for row in self.rows])) if self.rows else 0.0

    @property
    def best_step(self) -> float:
        """The step at which differences and tape agree best; NaN if no steps were tried."""
        return min(self.curve, key=lambda point: math.inf if math.isnan(point[1]) else point[1])[0] if self.curve else math.nan

    def record(self) -> dict[str, Any]:
        """Returns the report for JSON; a number that is not finite becomes a string, such as "nan"."""
        rows = [
            {
                "name": r.name,
                **({} if r.argument is None else {"argument": r.argument}),
                "ok": verdict == "ok",
                "verdict": verdict,
                "error": r.error,
                "detail": r.detail,
                "cause": r.cause,
                **({"observed": r.observed} if r.observed else {}),
                **r.measures,
            }
            for r in self.rows
            for verdict in [r.verdict(self.tolerance)]
        ]
        whole = {
            "title": self.title,
            "ok": self.ok,
            "verdict": self.verdict,
            "error": self.error,
            "tolerance": self.tolerance,
            "rows": rows,
        }
        return without_nan({**whole, "remarks": list(self.remarks), "curve": [list(point) for point in self.curve]})

    def to_json(self) -> str:
        """Returns the record as text."""
        return json.dumps(self.record(), indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        return f"<Report {self.title}: {self.verdict}, {len(self.rows)} rows, largest relative error {self.error:.2e}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the verdict, and the rows with the largest errors."""
        rows = sorted(self.rows, key=lambda row: -math.inf if math.isnan(row.error) else -row.error)
        cells = [(row.verdict(self.tolerance), row.label, f"{row.error:.1e}", row.detail, row.explanation) for row in rows[:12]]
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(text[:200])}</td>" for text in line) + "</tr>" for line in cells)
        more = f"<p>and {len(rows) - 12} more with smaller errors</p>" if len(rows) > 12 else ""
        head = "<tr><th></th><th>of</th><th>relative error</th><th>where</th><th>why</th></tr>"
        return (
            f"<div><b>{html.escape(self.title)}: {self.verdict}, tolerance {self.tolerance:.0e}</b><table>{head}{lines}</table>{more}</div>"
        )

    def __str__(self) -> str:
        said = {"ok": "ok", "wrong": "FAILED", "undecided": "UNDECIDED"}[self.verdict]
        head = f"{self.title}: {said}, largest relative error {self.error:.2e}, tolerance {self.tolerance:.0e}"
        return "\n".join([head, *(f"  {row}" for row in [*self.failures, *self.undecided]), *(f"  {remark}" for remark in self.remarks)])


def worst_verdict(reports: Sequence[Report]) -> str:
    """Returns "wrong" if a report is wrong, else "undecided" if one is, else "ok"."""
    found = {report.verdict for report in reports}
    return "wrong" if "wrong" in found else "undecided" if "undecided" in found else "ok"


@dataclass(frozen=True)
class Drift:
    """Two training runs side by side. Of each step: both losses, and the relative distance of all parameters from PyTorch's,
    of tinylm's run and of the control, which rounding alone sets apart."""

    title: str
    losses: list[float]
    torch_losses: list[float]
    distances: list[float]
    control: list[float]

    def __repr__(self) -> str:
        return f"<Drift {self.title}: {len(self.losses)} steps, distance {self.distances[-1]:.1e}>"

    def report(self) -> Report:
        """Returns a report that fails if the distance is more than 30 times what rounding alone makes."""
        allowed = ALLOWED_DRIFT * max(max(self.control), 1e-15)
        detail = f"{self.distances[-1]:.1e} after {len(self.distances)} steps, of which rounding alone would make {self.control[-1]:.1e}"
        return Report(self.title, allowed, (Row("distance of the parameters", max(self.distances), detail),))

    def record(self) -> dict[str, Any]:
        """Returns the series as JSON has them."""
        return {"loss": self.losses, "torch_loss": self.torch_losses, "distance": self.distances, "distance_by_rounding": self.control}
