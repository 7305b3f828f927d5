"""What `train --scaling` does: trains a few small sizes on a few amounts of data, fits how the loss falls with both, and
says what to expect of the configured run, of more data and of a larger model, and what a loss would take."""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from support.display import train_watched
from support.estimate_tables import duration
from support.scaling_words import hours_spanned, sentences, spanned, target_sentence
from support.tables import screen
from tinylm.data import Corpus
from tinylm.explain.figures import png
from tinylm.explain.scaling_plots import scaling_figure
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.studies.estimates import worth_in_passes
from tinylm.studies.scaling_backtest import shipped_calibration
from tinylm.studies.scaling_laws import Point, ScalingFit, fit_scaling_law
from tinylm.studies.scaling_misses import Calibration
from tinylm.studies.scaling_predictions import Answer, CannotTell, Prediction, predict
from tinylm.studies.scaling_runs import ScalingPlan, expected_seconds, finished, plan_scaling, seconds_left, tokens_read, trained_point
from tinylm.studies.scaling_target import Target, fit_speed, ways_to
from tinylm.studies.scaling_trend import Trend, fit_trend
from tinylm.studies.sizes import config_of_size, parameter_count
from tinylm.train import TrainConfig

MEANINGS = {
    "E": "loss that neither size nor data takes away", "A": "of size: A / N^alpha", "alpha": "how fast size helps",
    "B": "of data: B / D^beta", "beta": "how fast data helps",
}  # fmt: skip


def show_scaling(config: TrainConfig, text: str | Corpus, out: Path, target: float | None = None) -> int:
    """Trains what is missing, prints the answers and the tables, and writes scaling.json and scaling.png; returns 130 if it was
    stopped.  target: a loss to say what it takes."""
    plan = plan_scaling(config, text)
    points = trained_points(plan, text, out)
    if points is None:
        print(f"stopped; the same command with --out {out} goes on")
        return 130
    fit, trend, calibration = fit_scaling_law(points, config.seed), fit_trend(points), shipped_calibration()
    wide, answers = answers_of(plan, trend, calibration)
    configured = answers["as configured"]
    reached = None
    if target is not None:
        runs = [(p.parameters, p.tokens, seconds_of(plan, run, out, text)) for p, run in zip(points, plan.runs, strict=True)]
        reached = ways_to(target, trend, calibration, fit_speed(runs), configured.parameters, configured.tokens)
    print()
    for line in [*sentences(*list(answers.values())[:3], wide), *([target_sentence(reached, plan.train_tokens)] if reached else [])]:
        print(line)
    print()
    output = screen()
    tables = [points_table(plan, points, trend), law_table(fit), answer_table(answers), *([target_table(reached)] if reached else [])]
    for table in tables:
        output.print(table)
        output.print()
    missing = [f"to reach {reached.loss:g} by {reached.reason}"] if reached and reached.ways and reached.reason else []
    for line in [*missing, *remarks(plan, fit, trend, calibration, configured)]:
        output.print(line)
    write_json(out / "scaling.json", as_record(config, fit, trend, answers, reached))
    write_atomically(out / "scaling.png", png(scaling_figure(trend, configured)))
    output.print(f"written: {out / 'scaling.json'}, {out / 'scaling.png'}")
    return 0


def trained_points(plan: ScalingPlan, text: str | Corpus, out: Path) -> list[Point] | None:
    """Trains the runs that are not finished, and says before each how long the rest will take. Returns None if it was stopped."""
    widths, amounts = (len({getattr(run, name) for run in plan.runs}) for name in ("n_embd", "steps"))
    todo = [run for run in plan.runs if finished(plan, run, out, text) is None]
    print(f"{len(plan.runs)} runs, {widths} widths on {amounts} amounts of data, in {out}; {len(todo)} of them are to be made", flush=True)
    if note := plan.unknown.note():
        print(f"validation part: {note}", flush=True)
    expected = [0.0] * len(plan.runs)
    if todo:
        with tempfile.TemporaryDirectory(prefix="tinylm-") as scratch:
            expected = expected_seconds(plan, out, text, Path(scratch))
        print(f"that takes about {duration(sum(expected))}", flush=True)
    points: list[Point] = []
    took: list[float] = []
    for number, (run, seconds) in enumerate(zip(plan.runs, expected, strict=True), 1):
        if seconds:
            left = duration(seconds_left(expected, took))
            print(f"run {number} of {len(plan.runs)}: width {run.n_embd}, {run.steps:,} steps; about {left} left", flush=True)
        began = time.monotonic()
        point = trained_point(plan, run, out, text, train_watched)
        if point is None:
            return None
        points.append(point)
        took.append(time.monotonic() - began if seconds else 0.0)
    return points


def answers_of(plan: ScalingPlan, trend: Trend, calibration: Calibration) -> tuple[TrainConfig, dict[str, Answer]]:
    """Returns the config of the model of twice the size, and what to expect of the configured run, of ten times its data, of that
    larger model, and of both. Repeated tokens count as the number of new tokens that they are worth (Muennighoff et al. 2023)."""
    config, vocabulary = plan.config, plan.tokenizer.vocab_size
    size = parameter_count(config, vocabulary)(config)
    wide, twice = config_of_size(config, vocabulary, 2 * size)
    tokens = plan.train_tokens * worth_in_passes(tokens_read(config) / plan.train_tokens)
    asked = {
        "as configured": (size, tokens), "ten times the data": (size, 10 * tokens), "twice the size": (twice, tokens),
        "both": (twice, 10 * tokens),
    }  # fmt: skip
    return wide, {name: predict(trend, calibration, *of) for name, of in asked.items()}


def seconds_of(plan: ScalingPlan, run: TrainConfig, out: Path, text: str | Corpus) -> float:
    """Returns how long a finished run trained."""
    summary = finished(plan, run, out, text)
    assert summary is not None
    return float(summary["train_seconds"])


def points_table(plan: ScalingPlan, points: list[Point], trend: Trend) -> Table:
    table = Table("width", "lr", "parameters", "steps", "tokens", "loss", "trend", box=None)
    for run, p in zip(plan.runs, points, strict=True):
        numbers = f"{p.parameters:,}", f"{run.steps:,}", f"{p.tokens:,}", f"{p.loss:.4f}", f"{trend(p.parameters, p.tokens):.4f}"
        table.add_row(str(run.n_embd), f"{run.lr:g}", *numbers)
    return table


def law_table(fit: ScalingFit) -> Table:
    unknown = fit.unidentified()
    table = Table("L = E + A/N^alpha + B/D^beta", "", "95 %", "", box=None)
    for name, (low, high) in fit.constants().items():
        meaning = MEANINGS[name] + (": these runs do not tell" if name in unknown else "")
        table.add_row(name, f"{getattr(fit.law, name):.4g}", f"{low:.4g} to {high:.4g}", meaning)
    return table


def answer_table(answers: dict[str, Answer]) -> Table:
    table = Table("to expect", "parameters", "new tokens", "loss", "interval", "change", box=None)
    first = answers["as configured"]
    for name, answer in answers.items():
        numbers = f"{answer.parameters:,}", f"{answer.tokens:,.0f}"
        if isinstance(answer, CannotTell):
            table.add_row(name, *numbers, "cannot tell", "", "")
            continue
        change = f"{answer.loss - first.loss:+.3f}" if isinstance(first, Prediction) and answer is not first else ""
        table.add_row(name, *numbers, f"{answer.loss:.3f}", f"{answer.low:.3f} to {answer.high:.3f}", change)
    return table


def target_table(target: Target) -> Table:
    table = Table(f"to reach {target.loss:g}", "tokens", "parameters", "time", box=None)
    for way in target.ways:
        table.add_row(way.name, spanned(way.tokens), spanned(way.parameters), hours_spanned(way.hours))
    return table


def remarks(plan: ScalingPlan, fit: ScalingFit, trend: Trend, calibration: Calibration, configured: Answer) -> list[str]:
    """Returns what the reader must know before relying on the predictions."""
    n, d = configured.parameters, configured.tokens
    size, data = n / trend.most[0], d / trend.most[1]
    lines = [
        f"the intervals are what predictions of {calibration.families} families of other runs missed by, and the scatter of these runs, "
        f"{100 * trend.scatter():.1f} % of their loss",
        f"the configured run has {size:.1f} times the parameters of the largest run here, and {data:.1f} times its data",
        f"the learning rate follows the width from the configured one, {plan.config.lr:g}: if that suits the configured run badly, so do "
        "all, and the answers are for models that are tuned as badly",
    ]
    lines.append(
        "the answers follow the trend of the largest runs; the constants are those of another law, through all runs alike, which "
        "has missed held-out runs by more"
    )
    if unknown := fit.unidentified():
        lines.append(f"these runs do not tell {', '.join(unknown)}, which the answers do without")
    if tokens_read(plan.config) > plan.train_tokens:
        lines.append("tokens that are read again count as in arXiv:2305.16264, equation 5, which no backtest has checked")
    return lines


def as_record(config: TrainConfig, fit: ScalingFit, trend: Trend, answers: dict[str, Answer], target: Target | None) -> dict[str, Any]:
    """Returns the content of scaling.json."""
    record = {
        "config": config.to_json(),
        "points": [dataclasses.asdict(p) for p in fit.points],
        "law": dataclasses.asdict(fit.law),
        "intervals": fit.constants(),
        "not_identified": fit.unidentified(),
        "scatter": fit.scatter(),
        "trend": dict(zip(("ln_loss", "size", "data"), trend.constants.tolist(), strict=True)),
        "predictions": [{"name": name, **dataclasses.asdict(answer)} for name, answer in answers.items()],
    }
    return record if target is None else {**record, "target": without_infinity(dataclasses.asdict(target))}


def without_infinity(record: Any) -> Any:
    """Returns nested records with None for what is infinite: no backtest reached it."""
    if isinstance(record, dict):
        return {name: without_infinity(value) for name, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [without_infinity(value) for value in record]
    return None if isinstance(record, float) and record in (float("inf"), float("-inf")) else record
