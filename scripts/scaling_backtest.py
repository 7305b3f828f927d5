"""Backtests `train --scaling`: small runs of 17 families predict larger ones, which are then made."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from support import console
from support.display import stopped_by_signals
from support.estimate_tables import duration
from support.run_folders import folder_or_temporary
from support.tables import screen

from tinylm.errors import ConfigError
from tinylm.studies.scaling_backtest import FamilyRuns, Result, judge, points_of, result_of, runs_of, save_results
from tinylm.studies.scaling_families import FAMILIES, Family
from tinylm.studies.scaling_misses import FEWEST
from tinylm.studies.scaling_runs import finished, seconds_left
from tinylm.train import Run

SHOWN = 5.0  # seconds between two lines about the progress


@dataclass(frozen=True)
class Arguments:
    """Backtests the predictions of 'train --scaling'. Each family of runs (a text, a tokenizer, a model) is fitted on its
    smaller runs; larger ones, two to ten times away in size, data and both, are predicted, and then made. A family's
    intervals come from the other families. Prints a table, and writes results.json, whose format is that of the file that
    --scaling takes its intervals from (tinylm/studies/scaling_backtest.json). Runs that are finished are not repeated."""

    out: Path = Path("runs/backtest")
    """the folder for the runs and the results"""
    families: tuple[str, ...] = tuple(family.name for family in FAMILIES)
    """which families, by name; a verdict needs 12 of them"""
    dry_run: bool = False
    """a few steps of a few runs of one family, in a temporary folder"""


def main() -> int:
    arguments = console.parse(Arguments)
    known = {family.name: family for family in FAMILIES}
    for name in arguments.families:
        if name not in known:
            raise ConfigError(f"--families {name!r:.60}: expected some of {'; '.join(known)}")
    families = [known[name] for name in arguments.families]
    with folder_or_temporary(arguments.out, arguments.dry_run) as out:
        return backtest([short(families[-1])] if arguments.dry_run and families else families, out)


def short(family: Family) -> Family:
    """Returns the family with runs of a few steps."""
    config = dataclasses.replace(family.config, steps=8, schedule_steps=8, warmup=1, eval_tokens=200)
    return dataclasses.replace(family, config=config, away=family.away[:1])


def backtest(families: list[Family], out: Path) -> int:
    """Makes the runs that are missing, prints what came of them, and writes it; returns 130 if it was stopped."""
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(families)} families in {out}: reading their texts", flush=True)
    every = [runs_of(family, out) for family in families]
    progress = Progress(every, out)
    results = []
    for these in every:
        points = points_of(these, out, quietly, lambda number, these=these: progress.show(these, number))  # type: ignore[misc]
        if points is None:
            print(f"stopped; the same command with --out {out} goes on")
            return 130
        fitted = len(these.plan.runs)
        results.append(result_of(these.family.name, points[:fitted], points[fitted:]))
        save_results(results, out / "results.json")
    show(results)
    print(f"written: {out / 'results.json'}")
    return 0


def quietly(run: Run) -> dict[str, Any] | None:
    with stopped_by_signals(run):
        return run.train(lambda record: None)


class Progress:
    """Prints how far the backtest is, and how long the rest will take."""

    def __init__(self, every: list[FamilyRuns], out: Path) -> None:
        self.names = [these.family.name for these in every]
        self.expected: list[float] = []
        for these in every:
            folder = these.family.folder(out)
            left = [finished(these.plan, run, folder, these.text) is None for run in these.runs]
            self.expected += [seconds if todo else 0.0 for seconds, todo in zip(these.seconds(), left, strict=True)]
        self.took: list[float] = []
        self.began = self.shown = 0.0
        print(f"{len(self.expected)} runs, {sum(seconds > 0 for seconds in self.expected)} of them to be made", flush=True)

    def show(self, these: FamilyRuns, number: int) -> None:
        """Is called before each run, those that are finished included; number: within its family, from 0."""
        now = time.monotonic()
        if self.began:
            self.took.append(now - self.began if self.expected[len(self.took)] else 0.0)
        self.began = now
        if self.expected[len(self.took)] and now - self.shown > SHOWN:
            self.shown = now
            place = f"family {self.names.index(these.family.name) + 1} of {len(self.names)}, {these.family.name}"
            left = duration(seconds_left(self.expected, self.took))
            print(f"{place}: run {number + 1} of {len(these.runs)}; about {left} left", flush=True)


def show(results: list[Result]) -> None:
    """Prints the verdict, one row per family, and what is said about all of them."""
    answered = [result for result in results if not result.doubt]
    for result in results:
        if result.doubt:
            print(f"{result.name}: refused: {result.doubt}")
    if len(answered) <= FEWEST:
        print(f"{len(answered)} families with an answer: a verdict needs {FEWEST + 1}, since the others give a family its intervals")
        return
    verdict = judge(results)
    table = Table("family", "size, data", "expected", "interval", "real", "held", box=None)
    for name, runs in verdict.judged.items():
        for i, run in enumerate(runs):
            away = f"×{run.times_size:.1f}, ×{run.times_data:.0f}"
            interval, held = f"{run.low:.3f} to {run.high:.3f}", "yes" if run.held else "NO"
            table.add_row("" if i else name, away, f"{run.loss:.3f}", interval, f"{run.run.loss:.3f}", held)
    screen().print(table)
    runs = verdict.runs
    print(
        f"all held-out runs in their intervals: {verdict.families_held} of {len(verdict.judged)} families; "
        f"{sum(run.held for run in runs)} of {len(runs)} runs; {len(verdict.refused)} families refused"
    )
    print(f"median width of the intervals: {100 * verdict.width:.1f} % of the loss")


if __name__ == "__main__":
    console.run(main)
