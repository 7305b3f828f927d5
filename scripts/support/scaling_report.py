"""What `train --scaling` does: trains a few small sizes on a few amounts of data, fits how the loss falls with both, and
predicts the loss of the configured run, of more data and of a larger model."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from support.display import train_watched
from support.estimate_tables import duration
from support.tables import screen
from tinylm.data import Corpus
from tinylm.explain.figures import png
from tinylm.explain.scaling_plots import scaling_figure
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.studies.estimates import worth_in_passes
from tinylm.studies.scaling_laws import Point, ScalingFit, fit_scaling_law
from tinylm.studies.scaling_runs import ScalingPlan, finished, plan_scaling, seconds_left, trained_point
from tinylm.studies.sizes import parameter_count
from tinylm.train import TrainConfig

MEANINGS = {
    "E": "loss that neither size nor data takes away", "A": "of size: A / N^alpha", "alpha": "how fast size helps",
    "B": "of data: B / D^beta", "beta": "how fast data helps",
}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """What the law predicts for a model. change: compared with the configured run; both with their 95 % intervals."""

    name: str
    parameters: int
    tokens: float
    loss: float
    interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]


def show_scaling(config: TrainConfig, text: str | Corpus, out: Path) -> int:
    """Trains what is missing, prints the tables, and writes scaling.json and scaling.png; returns 130 if it was stopped."""
    plan = plan_scaling(config, text)
    widths, amounts = (len({getattr(run, name) for run in plan.runs}) for name in ("n_embd", "steps"))
    todo = [run for run in plan.runs if finished(plan, run, out, text) is None]
    print(f"{len(plan.runs)} runs, {widths} widths on {amounts} amounts of data, in {out}; {len(todo)} of them are to be made", flush=True)
    if note := plan.unknown.note():
        print(f"validation part: {note}", flush=True)
    if todo:
        with tempfile.TemporaryDirectory(prefix="tinylm-") as scratch:
            print(f"that takes about {duration(seconds_left(plan, out, text, Path(scratch)))}", flush=True)
    points = []
    for number, run in enumerate(plan.runs, 1):
        print(f"run {number} of {len(plan.runs)}: width {run.n_embd}, {run.steps:,} steps", flush=True)
        point = trained_point(plan, run, out, text, train_watched)
        if point is None:
            print(f"stopped; the same command with --out {out} goes on")
            return 130
        points.append(point)
    fit = fit_scaling_law(points, config.seed)
    predictions = predict(plan, fit)
    output = screen()
    for table in (points_table(plan, points, fit), law_table(fit), prediction_table(predictions)):
        output.print(table)
        output.print()
    for line in remarks(fit, predictions[0]):
        output.print(line)
    write_json(out / "scaling.json", as_record(config, fit, predictions))
    write_atomically(out / "scaling.png", png(scaling_figure(fit, (predictions[0].parameters, predictions[0].tokens))))
    output.print(f"written: {out / 'scaling.json'}, {out / 'scaling.png'}")
    return 0


def predict(plan: ScalingPlan, fit: ScalingFit) -> list[Prediction]:
    """Returns predictions for the configured run, ten times its data, twice its size, and both. Repeated tokens count as
    the number of new tokens that they are worth (Muennighoff et al. 2023)."""
    config = plan.config
    size = parameter_count(config, plan.tokenizer.vocab_size)(config)
    tokens = plan.train_tokens * worth_in_passes(config.steps * config.batch_size * config.block_size / plan.train_tokens)

    def of(name: str, n: int, d: float) -> Prediction:
        base = fit.law(size, tokens)
        return Prediction(
            name, n, d, fit.law(n, d), fit.interval(lambda law: law(n, d)),
            fit.law(n, d) - base, fit.interval(lambda law: law(n, d) - law(size, tokens)),
        )  # fmt: skip

    return [
        of("as configured", size, tokens),
        of("ten times the data", size, 10 * tokens),
        of("twice the size", 2 * size, tokens),
        of("both", 2 * size, 10 * tokens),
    ]


def points_table(plan: ScalingPlan, points: list[Point], fit: ScalingFit) -> Table:
    table = Table("width", "parameters", "steps", "tokens", "loss", "law", box=None)
    for run, p in zip(plan.runs, points, strict=True):
        numbers = f"{p.parameters:,}", f"{run.steps:,}", f"{p.tokens:,}", f"{p.loss:.4f}", f"{fit.law(p.parameters, p.tokens):.4f}"
        table.add_row(str(run.n_embd), *numbers)
    return table


def law_table(fit: ScalingFit) -> Table:
    unknown = fit.unidentified()
    table = Table("L = E + A/N^alpha + B/D^beta", "", "95 %", "", box=None)
    for name, (low, high) in fit.constants().items():
        meaning = MEANINGS[name] + (": these runs do not tell" if name in unknown else "")
        table.add_row(name, f"{getattr(fit.law, name):.4g}", f"{low:.4g} to {high:.4g}", meaning)
    return table


def prediction_table(predictions: list[Prediction]) -> Table:
    table = Table("predicted", "parameters", "new tokens", "loss", "95 %", "change", "95 %", box=None)
    for p in predictions:
        change = (
            (f"{p.change:+.4f}", f"{p.change_interval[0]:+.4f} to {p.change_interval[1]:+.4f}") if p is not predictions[0] else ("", "")
        )
        interval = f"{p.interval[0]:.4f} to {p.interval[1]:.4f}"
        table.add_row(p.name, f"{p.parameters:,}", f"{p.tokens:,.0f}", f"{p.loss:.4f}", interval, *change)
    return table


def remarks(fit: ScalingFit, configured: Prediction) -> list[str]:
    """Returns what the reader must know before relying on the predictions."""
    law, n, d = fit.law, configured.parameters, configured.tokens
    shares = f"{law.E:.2f} are E, {law.of_size(n):.2f} for its size, {law.of_data(d):.2f} for its data"
    lines = [f"the runs scatter about the law by {100 * fit.scatter():.1f} % of their loss"]
    lines += [f"of the {configured.loss:.2f} of the configured run {shares}"]
    if unknown := fit.unidentified():
        lines.append(
            f"these runs do not tell {', '.join(unknown)}: the interval takes more than half of what was allowed, or reaches its end; "
            "what lies beyond the runs is then a guess, whatever its own interval says"
        )
    size, data = n / max(p.parameters for p in fit.points), d / max(p.tokens for p in fit.points)
    lines.append(f"the configured run has {size:.1f} times the parameters of the largest run here, and {data:.1f} times its data")
    lines.append("the intervals hold the scatter of these runs about the law, not whether it goes on beyond them at the same learning rate")
    return lines


def as_record(config: TrainConfig, fit: ScalingFit, predictions: list[Prediction]) -> dict[str, Any]:
    """Returns the content of scaling.json."""
    return {
        "config": config.to_json(),
        "points": [dataclasses.asdict(p) for p in fit.points],
        "law": dataclasses.asdict(fit.law),
        "intervals": fit.constants(),
        "not_identified": fit.unidentified(),
        "scatter": fit.scatter(),
        "predictions": [dataclasses.asdict(p) for p in predictions],
    }
