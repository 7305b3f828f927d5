"""Compares the tape with differences: columns of the Jacobian, each with its verdicts.

A column is one element of an argument, or, for large functions, a random direction; a row is an output, or a random
cotangent. All numbers are per step along the column's direction, which is a part of the argument itself, so that arguments
and elements of all sizes look alike. One difference at the step 6·10⁻⁶ is enough where it agrees with the tape to within
the tolerance; everything else climbs the ladder (`tinylm.verify.ladders`).
"""

from dataclasses import dataclass

import numpy as np

from tinylm.engine.autograd import nodes
from tinylm.engine.tensor import Tensor
from tinylm.verify.jacobians import STEP, Problem
from tinylm.verify.ladders import EPSILON, NEAR, TINY, WIDE, Ladder, may_move_in_stairs
from tinylm.verify.verdicts import FLOOR, OK, UNDECIDED, WRONG, judged, resolution

FULL = 300  # inputs + outputs up to which every element of the Jacobian is checked
_DIRECTIONS = 8
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
TINIEST = float(np.finfo(np.float64).tiny)  # below it, numbers have fewer digits: they are rounded as it is
_FEW = 3  # directions of the groups of smaller gradients or outputs
_CONFIRMED = 3  # columns of an argument that are measured at all steps before they are called wrong


@dataclass
class Block:
    """The columns of one argument: the arrays have the shape (rows, columns)."""

    directions: list[np.ndarray]
    members: list[np.ndarray]  # of each column: the elements that move, as flat positions
    units: np.ndarray  # of each column: what one step is in x; 1 for random directions
    starts: np.ndarray  # of each column: the first step
    taped: np.ndarray
    measured: np.ndarray
    doubt: np.ndarray
    agrees: np.ndarray  # the first difference agrees with the tape
    kinked: np.ndarray
    torn: np.ndarray  # the tape agrees with larger steps and not with small ones, or rounding of inner values may hide what it says


class Comparison:
    """One problem's blocks, measured as exactly as their verdicts need."""

    def __init__(self, problem: Problem, tolerance: float, mode: str | None, rng: np.random.Generator) -> None:
        self.problem, self.tolerance, self.rng = problem, tolerance, rng
        self.single = problem.dtype != "float64"
        self.y = problem.taped()
        self.centre = problem.line({})(0.0)
        self.finite = np.isfinite(self.centre)
        self.full = (mode or ("full" if sum(x.size for x in problem.xs) + self.y.size <= FULL else "directions")) == "full"
        self.outputs = np.flatnonzero(self.finite)  # of each row, if full
        self.groups = np.zeros(0, int)  # of each row, if not: the outputs that it sums
        self.cotangents = np.eye(self.y.size)[self.outputs] if self.full else self._random_cotangents()
        norms = np.linalg.norm(self.cotangents, axis=1)
        self.largest = _largest_value(self.y) * norms
        self.hidden = 8 * EPSILON * np.fmax(self.largest, norms)  # what inner values may lose by rounding, those within ops included
        self.vjps = [problem.vjp(self.y, c) for c in self.cotangents]
        self.left_out: dict[int, list[int]] = {}  # elements at kinks, if random directions are compared
        self.blocks = [self._block(k) for k in range(len(problem.xs))]

    def _random_cotangents(self) -> np.ndarray:
        """Returns random cotangents, each of outputs that move alike: what moves little does not drown in what moves much."""
        moved = np.zeros(self.y.size)
        for _ in range(2):
            u = {k: self.rng.standard_normal(scale.shape) * scale for k, scale in enumerate(self.problem.scales)}
            with np.errstate(all="ignore"):
                moved = np.fmax(moved, np.abs(self.problem.slope(u, STEP)))
        rank = _ranks(moved, 1e4)
        rank[(moved == 0) & (self.centre == 0)] = 0
        found = []
        for i, group in enumerate(np.unique(rank[self.finite])):
            c = self.rng.standard_normal((_DIRECTIONS if i == 0 else _FEW, self.y.size))
            found.append(np.where((rank == group) & self.finite, c, 0))
        self.groups = np.repeat(np.arange(len(found)), [len(c) for c in found])
        return np.concatenate(found) if found else np.zeros((0, self.y.size))

    # ------------------------------------------------------------ columns

    def leave_out(self, k: int, elements: list[int]) -> None:
        """Draws argument k's random directions again, without these elements."""
        self.left_out[k] = elements
        self.blocks[k] = self._block(k)

    def _block(self, k: int) -> Block:
        """Returns argument k's columns, compared at the first step."""
        x, scale, typical = self.problem.xs[k], self.problem.scales[k], self.problem.typical[k]
        if self.full:
            members = [np.array([j]) for j in range(x.size)]
            units = scale.ravel()
            directions = []
            for j in range(x.size):
                directions.append(np.zeros(x.shape))
                directions[-1].reshape(-1)[j] = units[j]
            starts = STEP * np.maximum(1, 0.1 * typical / units)
        else:
            members, directions = self._groups(k, np.maximum(scale, 0.01 * typical))
            units, starts = np.ones(len(members)), np.full(len(members), STEP)
        shape = (len(self.cotangents), len(members))
        block = Block(directions, members, units, starts, *(np.zeros(shape, kind) for kind in (*[float] * 3, *[bool] * 3)))
        self._compare(k, block)
        return block

    def _groups(self, k: int, scale: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns random directions, each of elements whose gradients are of one size: small ones do not drown in large ones."""
        flat = scale.ravel()
        with np.errstate(all="ignore"):
            weight = np.max([np.abs(p[k].ravel()) for p in self.vjps], axis=0) * flat
            rank = _ranks(weight, float(np.clip(0.1 / (self.tolerance * np.sqrt(max(flat.size, 1))), 100, 1e4)))
        without = np.isin(np.arange(flat.size), self.left_out.get(k, []))
        members, directions = [], []
        for i, group in enumerate(np.unique(rank[~without])):
            chosen = np.flatnonzero((rank == group) & ~without)
            for _ in range(_DIRECTIONS if i == 0 else _FEW):
                u = np.zeros(flat.size)
                u[chosen] = self.rng.standard_normal(chosen.size) * flat[chosen]
                members.append(chosen)
                directions.append(u.reshape(scale.shape))
        return members, directions

    def rows(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns how far the rows are from those at x, and their size. The difference comes first: a large constant cancels."""
        change, size = values - self.centre, np.fmax(np.fmax(np.abs(values), np.abs(self.centre)), TINIEST)
        if self.full:
            return change[self.finite], size[self.finite]
        change, size = np.where(self.finite, change, 0), np.where(self.finite, size, 0)
        top = np.max(size, initial=0) or 1.0
        return self.cotangents @ change, top * np.sqrt(self.cotangents**2 @ (size / top) ** 2)

    def _compare(self, k: int, block: Block) -> None:
        """Fills in the tape's columns and the differences at the first step."""
        if not block.taped.size:
            return
        taped = np.array([p[k].reshape(-1) for p in self.vjps])
        steps = block.starts.tolist()
        lines = [self.problem.line({k: u}) for u in block.directions]
        with np.errstate(all="ignore"):
            flat = None if self.full else np.array([u.reshape(-1) for u in block.directions])
            block.taped = taped * block.units if flat is None else taped @ flat.T
            held = np.abs(taped) if flat is None else np.abs(taped) @ (flat != 0).T
            vanished = np.copysign(_SMALLEST, taped if flat is None else 1)
            block.taped = np.where((block.taped == 0) & (held > 0), vanished, block.taped)  # not zero, however small
            ahead = np.array([at(h) for at, h in zip(lines, steps, strict=True)])
            behind = np.array([at(-h) for at, h in zip(lines, steps, strict=True)])
            moved = np.where(self.finite, (ahead - behind) / (2 * block.starts[:, None]), 0)
            size = np.where(self.finite, np.maximum(np.maximum(np.abs(ahead), np.abs(behind)), TINIEST), 0)
            top = float(np.max(size[np.isfinite(size)], initial=0)) or 1.0
            c = self.cotangents
            block.measured = moved[:, self.finite].T if self.full else c @ moved.T
            block.doubt = size[:, self.finite].T if self.full else top * np.sqrt(c**2 @ (size.T / top) ** 2)
            block.doubt = 4 * EPSILON * block.doubt / block.starts
            a, b = block.taped, block.measured
            size = self.sizes(b)
            close, exact = np.abs(a - b) <= self.tolerance * size, block.doubt <= resolution(self.tolerance) * size
            block.agrees = (close & exact) | ((a == 0) & (b == 0))
            block.doubt[block.agrees] = 0

    def sizes(self, b: np.ndarray) -> np.ndarray:
        """Returns what the tolerance of each element is relative to. Random sums may cancel: their column counts as well."""
        size = np.abs(b)
        for group in np.unique(self.groups) if size.size else []:
            part = size[self.groups == group]
            top = np.fmax(np.max(part, axis=0), 1e-300)
            size[self.groups == group] = np.fmax(part, top * np.sqrt(np.mean((part / top) ** 2, axis=0))) / np.sqrt(2)
        return size

    # ------------------------------------------------------------ verdicts

    def floors(self) -> list[np.ndarray]:
        """Returns, for each block, the size of an element below which the tape's rounding lies."""
        with np.errstate(all="ignore"):
            rows = []  # of each block: the largest element of each row, per unit of x
            for block in self.blocks:
                least = np.fmin(np.abs(block.taped), np.abs(block.measured)) / block.units
                rows.append(np.max(np.where(np.isfinite(least), least, 0), axis=1, initial=0))
            typical = self.problem.typical if self.full else [1.0] * len(rows)
            if self.single:  # by the norms of whole arguments
                norms = [float(np.linalg.norm(np.where(np.isfinite(b.measured), b.measured / b.units, 0))) for b in self.blocks]
                joint = 1e-3 * float(np.linalg.norm(norms))
                return [np.ones_like(b.taped) * self.tolerance * max(n, joint) * b.units for n, b in zip(norms, self.blocks, strict=True)]
            together = np.max([row * t for row, t in zip(rows, typical, strict=True)], axis=0) if rows else np.zeros(0)
            found = []
            for row, t, block in zip(rows, typical, self.blocks, strict=True):
                top = np.fmax(row, together / t)
                found.append(FLOOR * np.where(np.isfinite(top), top, 0)[:, None] * block.units)
            return found

    def top(self) -> float:
        """Returns the largest element of all blocks, measured and taped."""
        with np.errstate(all="ignore"):
            least = [np.fmin(np.abs(block.taped), np.abs(block.measured)) for block in self.blocks]
        return max(float(np.max(x[np.isfinite(x)], initial=0)) for x in least)

    def verdicts(self) -> list[np.ndarray]:
        """Returns the verdicts of each block."""
        if all(block.agrees.all() and not block.kinked.any() for block in self.blocks):
            return [np.full(block.taped.shape, OK) for block in self.blocks]
        return [self._judged(block, floor, slice(None)) for block, floor in zip(self.blocks, self.floors(), strict=True)]

    def _judged(self, block: Block, floor: np.ndarray, columns: slice) -> np.ndarray:
        with np.errstate(all="ignore"):
            a, b, doubt, agrees, kinked = (x[:, columns] for x in (block.taped, block.measured, block.doubt, block.agrees, block.kinked))
            doubt = doubt + _SMALLEST * np.array([len(moving) for moving in block.members[columns]])  # products that underflow
            verdict = judged(a, b, doubt, floor[:, columns], self.sizes(b), self.top(), self.tolerance, self.single)
            lost = ~np.isfinite(b / block.units[columns]) | (~np.isfinite(a) & (not self.finite.all()))
            lost |= ~np.isfinite(a) & kinked.any(axis=0)  # such as 0 / 0, where another output has its kink
            verdict[((lost | block.torn[:, columns]) & (verdict != OK)) | kinked] = UNDECIDED
            return np.where(agrees & ~kinked, OK, verdict)

    def refine(self, k: int) -> None:
        """Measures again what the first step does not decide in argument k."""
        block, confirmed = self.blocks[k], 0
        still = np.flatnonzero(~block.taped.any(axis=0) & ~block.measured.any(axis=0)).tolist() if len(self.cotangents) else []
        if block.agrees.all() and not still:
            return
        floor = self.floors()[k]
        for j in np.flatnonzero((self._judged(block, floor, slice(None)) >= UNDECIDED).any(axis=0)).tolist():
            confirmed += self._climb(k, j, floor, confirm=confirmed < _CONFIRMED)
        for j in still if self._on_stairs(k, still) else []:  # the tape is zero there too, so that they agree
            self._climb(k, j, floor, confirm=True, everything=True, wide=True)

    def _climb(self, k: int, j: int, floor: np.ndarray, *, confirm: bool, everything: bool = False, wide: bool = False) -> bool:
        """Measures one column at many steps. Returns whether it is wrong. everything: also what agrees with the tape
        already. wide: at all steps in any case."""
        block = self.blocks[k]
        ladder = Ladder(self.problem.line({k: block.directions[j]}), self.rows, self.largest)
        rows = ~block.agrees[:, j] | everything
        block.agrees[rows, j] = False
        for steps in (NEAR, NEAR + TINY, WIDE + NEAR + TINY):
            found = ladder.climb(steps)
            for array, new in ((block.measured, found.value), (block.doubt, found.uncertainty), (block.kinked, found.kinked)):
                array[rows, j] = new[rows]
            with np.errstate(all="ignore"):  # the tape agrees with larger steps: a function of two scales, or rounding of inner values
                off = np.abs(block.taped[:, j] - found.farther)
                farther = off <= self.tolerance * np.abs(found.farther) + 3 * found.farther_uncertainty
                block.torn[rows, j] = (farther | ladder.hides(block.taped[:, j], found.value, self.hidden))[rows]
            verdict = self._judged(block, floor, slice(j, j + 1))[:, 0]
            unsure, wrong = (verdict == UNDECIDED) & ~(found.kinked & (steps != NEAR)), verdict == WRONG
            if not (unsure.any() or wide or (confirm and wrong.any())):
                break
        return bool(wrong.any())

    def agreement(self, k: int) -> tuple[float, float]:
        """Returns how exactly the tape agrees with the worst column of argument k, measured as exactly as can be, and
        how exact that is, both relative to the column."""
        block = self.blocks[k]
        with np.errstate(all="ignore"):
            j = int(np.argmax(np.max(np.abs(block.taped - block.measured) / block.units, axis=0)))
            found = Ladder(self.problem.line({k: block.directions[j]}), self.rows, self.largest).climb(NEAR)
            top = np.max(np.abs(found.value))
            return float(np.max(np.abs(block.taped[:, j] - found.value)) / top), float(np.max(found.uncertainty) / top)

    def look_at_kinks(self, k: int, columns: list[int]) -> None:
        """Measures the columns of argument k that may be at a kink, and marks those that are."""
        floor = self.floors()[k] if columns else np.zeros(0)
        for j in columns:
            before = self.blocks[k].agrees[:, j].copy()
            self._climb(k, j, floor, confirm=False, everything=True)
            self.blocks[k].agrees[:, j] |= before  # a kink is undecided all the same

    def _on_stairs(self, k: int, still: list[int]) -> bool:
        """True if the columns that stand still may move in stairs, at larger steps."""
        block = self.blocks[k]
        if not still:
            return False
        together = np.zeros(block.directions[0].shape)
        for j in still:
            together += block.directions[j] * self.rng.uniform(0.5, 1)
        return may_move_in_stairs(self.problem.line({k: together}), self.rows, self.largest)


def _ranks(size: np.ndarray, width: float) -> np.ndarray:
    """Returns groups of numbers of like size: 0 for those within a factor `width` of the largest, 10 for zeros."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(size)
        rank = np.floor(np.log(np.max(size[finite], initial=0) / size) / np.log(width))
        return np.where(size == 0, 10, np.where(finite, np.clip(rank, 0, 9), 0))


def _largest_value(y: Tensor) -> float:
    """Returns the largest finite intermediate value of a graph."""
    found = [1e-300]
    for node in nodes(y):
        for x in node.inputs:
            if isinstance(x, (int, float)):
                found.append(abs(float(x)))
            elif hasattr(x, "dtype") and x.dtype.kind == "f" and x.size:
                values = (x if isinstance(x, Tensor) else Tensor(x)).numpy()
                found.append(float(np.max(np.abs(values[np.isfinite(values)]), initial=0)))
    return max(value for value in found if np.isfinite(value))
