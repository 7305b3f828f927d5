"""Backtests of scaling laws: families are fitted on their smaller runs, and judged on larger ones with the intervals of the others.

What the package ships of them is scaling_backtest.json, the runs of one family per line; `--scaling` takes its intervals from it.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tinylm.data import Corpus
from tinylm.errors import CheckpointError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import parse_json, read_text
from tinylm.studies.scaling_families import Family, held_out_runs
from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_misses import Calibration, Miss, calibrate, without_each
from tinylm.studies.scaling_predictions import doubt, miss_of
from tinylm.studies.scaling_runs import ScalingPlan, plan_scaling, tokens_read, trained_point
from tinylm.studies.scaling_trend import fit_trend
from tinylm.studies.sizes import parameter_count
from tinylm.train.tasks.language_model_config import TrainConfig, corpus_of
from tinylm.train.tasks.language_modeling import Run

SHIPPED = Path(__file__).with_name("scaling_backtest.json")
START = 0.6  # seconds until a run makes its first step
OVERHEAD = 50_000  # its steps take as long as with so many more parameters
SPEED = 4e9  # parameters × tokens per second


@dataclass(frozen=True)
class FamilyRuns:
    """All runs of a family, the fitted ones first, and what is needed to make them."""

    family: Family
    text: str | Corpus
    plan: ScalingPlan
    held_out: tuple[TrainConfig, ...]

    @property
    def runs(self) -> tuple[TrainConfig, ...]:
        return self.plan.runs + self.held_out

    def seconds(self) -> list[float]:
        """Returns about what each run takes on one core, but for a factor that all of them have in common."""
        count = parameter_count(self.plan.config, self.plan.tokenizer.vocab_size)
        return [START + tokens_read(run) * (count(run) + OVERHEAD) / SPEED for run in self.runs]


@dataclass(frozen=True)
class Result:
    """A family's runs and what came of them.  misses: of the held-out runs.  doubt: why the fitted runs allow no prediction; "" if
    they do.  loss: what the trend predicts for each held-out run, without a correction."""

    name: str
    fitted: tuple[Point, ...]
    held_out: tuple[Point, ...]
    loss: tuple[float, ...]
    misses: tuple[Miss, ...]
    doubt: str


@dataclass(frozen=True)
class Judged:
    """A held-out run beside the loss to expect and the interval that the other families gave."""

    run: Point
    miss: Miss
    loss: float
    low: float
    high: float

    @property
    def times_size(self) -> float:
        """Its parameters over the most of the fitted runs; 1 within."""
        return math.exp(self.miss.size)

    @property
    def times_data(self) -> float:
        """Its tokens over the most of the fitted runs; 1 within."""
        return math.exp(self.miss.data)

    @property
    def held(self) -> bool:
        return self.low <= self.run.loss <= self.high

    @property
    def width(self) -> float:
        """The width of the interval, as a part of the loss to expect."""
        return (self.high - self.low) / self.loss


@dataclass(frozen=True)
class Verdict:
    """What a backtest found.  refused: the families in doubt, with the reason."""

    judged: dict[str, list[Judged]]
    refused: dict[str, str]

    @property
    def runs(self) -> list[Judged]:
        return [run for runs in self.judged.values() for run in runs]

    @property
    def families_held(self) -> int:
        """How many families have all of their held-out runs in their intervals."""
        return sum(all(run.held for run in runs) for runs in self.judged.values())

    @property
    def width(self) -> float:
        """The median of the widths of all intervals."""
        return statistics.median(run.width for run in self.runs)


def runs_of(family: Family, out: Path) -> FamilyRuns:
    """Returns the runs of a family, whose text is written into `out` unless it is there."""
    config = family.with_data(out)
    text = corpus_of(config)
    plan = plan_scaling(config, text)
    return FamilyRuns(family, text, plan, tuple(held_out_runs(family, plan)))


def points_of(
    these: FamilyRuns, out: Path, train: Callable[[Run], dict[str, Any] | None], before: Callable[[int], None]
) -> list[Point] | None:
    """Returns the points of all runs of a family, of which the finished ones are not repeated; None if one is stopped.

    before: is told the number of each run, from 0, before it is made."""
    points = []
    for number, run in enumerate(these.runs):
        before(number)
        point = trained_point(these.plan, run, these.family.folder(out), these.text, train)
        if point is None:
            return None
        points.append(point)
    return points


def result_of(name: str, fitted: Sequence[Point], held_out: Sequence[Point]) -> Result:
    """Takes the trend of the fitted runs alone, and returns what it misses on the others."""
    trend = fit_trend(fitted)
    loss = tuple(float(trend(run.parameters, run.tokens)) for run in held_out)
    return Result(name, tuple(fitted), tuple(held_out), loss, tuple(miss_of(trend, run) for run in held_out), doubt(trend))


def judge(results: Sequence[Result], calibrated: Callable[[Sequence[Sequence[Miss]]], Calibration] = calibrate) -> Verdict:
    """Returns the interval of each held-out run, from the misses of the other families, and whether it held.

    A family in doubt gets no interval, and gives none: what is refused is no part of what the intervals promise.
    """
    answered = [result for result in results if not result.doubt]
    found = {}
    for others, mine in without_each(answered):
        calibration = calibrated([result.misses for result in others])
        rows = []
        for run, miss, loss in zip(mine.held_out, mine.misses, mine.loss, strict=True):
            low, expected, high = calibration.interval(loss, miss.size, miss.data, miss.own)
            rows.append(Judged(run, miss, float(expected), float(low), float(high)))
        found[mine.name] = rows
    return Verdict(found, {result.name: result.doubt for result in results if result.doubt})


def calibration_of(results: Sequence[Result]) -> Calibration:
    """Returns the calibration from all families that are not in doubt."""
    return calibrate([result.misses for result in results if not result.doubt])


def save_results(results: Sequence[Result], path: Path) -> None:
    """Writes the runs of each family, and what was found with them, one family per line."""
    lines = [json.dumps(_record(result), ensure_ascii=False) for result in results]
    write_atomically(path, ("[\n" + ",\n".join(lines) + "\n]\n").encode("utf-8"))


def load_results(path: Path) -> list[Result]:
    """Returns what `save_results` wrote. Raises CheckpointError for a file that is missing or damaged."""
    try:
        return [_result(record) for record in parse_json(read_text(path))]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


@cache
def shipped_calibration() -> Calibration:
    """Returns the calibration from the backtest that the package ships."""
    return calibration_of(load_results(SHIPPED))


def _record(result: Result) -> dict[str, Any]:
    points = {name: [list(vars(p).values()) for p in getattr(result, name)] for name in ("fitted", "held_out")}
    rounded = {"loss": [round(x, 9) for x in result.loss], "misses": [[round(x, 9) for x in vars(m).values()] for m in result.misses]}
    return {"name": result.name, **points, **rounded, "doubt": result.doubt}


def _result(record: dict[str, Any]) -> Result:
    fitted, held_out = ([Point(int(n), int(d), float(loss)) for n, d, loss in record[name]] for name in ("fitted", "held_out"))
    misses = [Miss(*map(float, row)) for row in record["misses"]]
    return Result(record["name"], tuple(fitted), tuple(held_out), tuple(map(float, record["loss"])), tuple(misses), record["doubt"])
