"""A profile: the time and bytes of every op, by implementation and by pass (forward or backward)."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinylm.engine.kernels import launches, profiling


@dataclass
class Row:
    """All calls of one op or update, in one pass and by one implementation.

    part: 'forward', 'backward' or 'update'.  implementation: 'kernel' or 'reference'.
    bytes: of the arrays that went in and came out, views included; what an op allocates inside is not known.
    """

    name: str
    part: str
    implementation: str
    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0


class Profile:
    """What ran while `tinylm.profile` was open.  seconds: the wall-clock time of all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._inside = 0.0  # time already counted for ops called within the body of another op

    @property
    def rows(self) -> list[Row]:
        """Returns the rows, the most expensive first."""
        return sorted(self._rows.values(), key=lambda row: -row.seconds)

    @property
    def rest(self) -> float:
        """Returns the seconds outside of ops and updates: the tape, layers, the optimiser's bookkeeping, the user's
        code, and the cost of measuring (some µs per call)."""
        return self.seconds - sum(row.seconds for row in self._rows.values())

    def __repr__(self) -> str:
        return f"<Profile: {self.seconds * 1e3:.2f} ms, {sum(row.calls for row in self.rows)} calls of {len(self.rows)} rows>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the table, of the 20 most expensive rows."""
        head, *lines = self._cells()
        shown = [*lines[:20], *lines[20:][-2:]]
        rows = ["".join(f"<{kind}>{cell}</{kind}>" for cell in line) for kind, some in (("th", [head]), ("td", shown)) for line in some]
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

    def table(self) -> str:
        """Returns the rows, the rest and the sum as lines of text."""
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
            for line in cells
        )

    def _cells(self) -> list[tuple[str, ...]]:
        cells: list[tuple[str, ...]] = [("op", "pass", "by", "calls", "ms", "%", "MB")]
        whole = self.seconds or 1.0
        for row in self.rows:
            shown = f"{row.seconds * 1e3:.2f}", f"{100 * row.seconds / whole:.1f}", f"{row.bytes / 1e6:.1f}"
            cells.append((row.name, row.part, row.implementation, str(row.calls), *shown))
        cells.append(("not in ops", "", "", "", f"{self.rest * 1e3:.2f}", f"{100 * self.rest / whole:.1f}", ""))
        cells.append(("in all", "", "", "", f"{self.seconds * 1e3:.2f}", f"{100 * self.seconds / whole:.1f}", ""))
        return cells

    def forward(self, op: Any, arrays: Sequence[Any], extra: tuple[Any, ...], settings: dict[str, Any]) -> tuple[Any, Any]:
        """Runs `op.compute` and measures it, for `tinylm.engine.op`; the vjp it returns is measured too."""
        (value, vjp), implementation = self._measure(op.name, "forward", arrays, lambda: op.pair(op.compute(arrays, extra, settings)))
        if vjp is None:
            return value, None

        def measured(*dys: Any) -> Any:
            if profiling.active is not self:
                return vjp(*dys)
            return self._measure(op.name, "backward", dys, lambda: vjp(*dys), implementation)[0]

        return value, measured

    def update(self, update: Any, arrays: Sequence[Any], settings: dict[str, Any]) -> None:
        """Runs `update.compute` and measures it, for `tinylm.engine.kernels`."""
        self._measure(update.name, "update", arrays, lambda: update.compute(arrays, settings))

    def _measure(self, name: str, part: str, arrays: Sequence[Any], run: Callable[[], Any], by: str | None = None) -> tuple[Any, str]:
        """Returns the result of `run`, and the implementation: `by`, or what the counter of launches tells."""
        _wait(arrays)
        launched = _launched(name)
        outside, self._inside = self._inside, 0.0
        start = time.perf_counter()
        result = run()
        _wait(arrays)
        elapsed = time.perf_counter() - start
        implementation = by or ("kernel" if _launched(name) > launched else "reference")
        row = self._rows.setdefault((name, part, implementation), Row(name, part, implementation))
        row.calls += 1
        row.seconds += elapsed - self._inside
        row.bytes += _bytes(arrays) + _bytes(result[0] if part == "forward" else result)
        self._inside = outside + elapsed
        return result, implementation


def _launched(name: str) -> int:
    return launches[name, "cpu"] + launches[name, "cuda"]


def _wait(arrays: Iterable[Any]) -> None:
    """Waits until the GPU that one of the arrays is on has finished, so that its time counts for the right op."""
    for a in arrays:
        device: Any = getattr(a, "device", "cpu")
        if device != "cpu":
            device.synchronize()
            return


def _bytes(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_bytes, value))
    return getattr(value, "nbytes", 0)


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Within it, every op, its gradient and every update of this thread are measured.

    Use `with tinylm.profile() as p: ...` and then `print(p.table())` or p.rows. A gradient is measured if both the op
    and the backward pass run within. On a GPU the profile waits for each op, so the sum is longer than without it.
    """
    made, before = Profile(), profiling.active
    profiling.active = made
    start = time.perf_counter()
    try:
        yield made
    finally:
        made.seconds = time.perf_counter() - start
        profiling.active = before
