"""The runs that a scaling law is fitted to: the configured model in smaller widths, each on several amounts of data.

No run reads a token twice: the batches of a first epoch do not overlap, and each run makes a part of them only.
Each has its own complete schedule, the configured one with all its steps in proportion, since the losses in the middle of a
longer run are worse than those of a run that ends there (Hoffmann et al. 2022, section 3.1), and the learning rate that suits its width
(`sizes.widened`).
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.data import Corpus, Tokenizer
from tinylm.data.unknown import NOT_COUNTED, Unknown
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists
from tinylm.studies.estimates import estimate
from tinylm.studies.scaling_laws import Point
from tinylm.studies.sizes import widened
from tinylm.train.run_folder import never_started
from tinylm.train.tasks.data_note import data_note, what_changed
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.language_modeling import Run, make_batches, prepare
from tinylm.train.tasks.loading import read_config

WIDTHS = (0.25, 0.375, 0.5, 0.75)  # of the configured one
AMOUNTS = (0.125, 0.25, 0.5, 1.0)  # of the tokens that the configured run reads, or of one pass where it reads more


@dataclass(frozen=True)
class ScalingPlan:
    """runs: what to train, widths from narrow to wide, each with little data first.  train_tokens: in one pass, of whose whole batches
    there are batches_per_pass."""

    config: TrainConfig
    runs: tuple[TrainConfig, ...]
    tokenizer: Tokenizer
    train_tokens: int
    batches_per_pass: int
    unknown: Unknown = NOT_COUNTED  # words of the validation part

    def folder(self, out: Path, config: TrainConfig) -> Path:
        """Returns the folder of a run, which is an ordinary run folder."""
        return out / f"width-{config.n_embd}-steps-{config.steps}"


def plan_scaling(config: TrainConfig, text: str | Corpus) -> ScalingPlan:
    """Returns the runs for a configured one.

    Raises ConfigError if it does not allow three narrower widths or three amounts of data, DataError for too little data.
    """
    tokenizer, train_ids, _, _, unknown = prepare(config, text, None)
    in_a_pass = make_batches(config, train_ids).batches_per_epoch
    most = min(config.steps, in_a_pass)
    others = (widened(config, factor) for factor in WIDTHS)
    widths = list({found.n_embd: found for found in others if found.n_embd < config.n_embd}.values())
    amounts = list(dict.fromkeys(max(1, round(most * fraction)) for fraction in AMOUNTS))
    if len(widths) < 3:
        raise ConfigError(
            f"n_embd {config.n_embd} with {config.n_head} heads: narrower widths {sorted(w.n_embd for w in widths)}, a scaling law needs 3"
        )
    if len(amounts) < 3:
        raise ConfigError(f"{most} steps are a pass, or all that steps allows: a scaling law needs 8 or more, for 3 amounts of data")
    runs = tuple(scheduled(width, steps) for width, steps in itertools.product(widths, amounts))
    return ScalingPlan(config, runs, tokenizer, len(train_ids), in_a_pass, unknown)


def scheduled(config: TrainConfig, steps: int) -> TrainConfig:
    """Returns the config with its whole schedule in this number of steps, validated and saved at the end."""
    fraction = steps / config.schedule_steps
    warmup, dropout_ramp = (round(n * fraction) for n in (config.warmup, config.dropout_ramp))
    return dataclasses.replace(
        config, steps=steps, schedule_steps=steps, warmup=warmup, dropout_ramp=dropout_ramp,
        eval_every=steps, save_every=steps, keep=1, patience=0, sample_every=0,
    )  # fmt: skip


def tokens_read(config: TrainConfig) -> int:
    """Returns how many tokens a run reads."""
    return config.steps * config.batch_size * config.block_size


def finished(plan: ScalingPlan, config: TrainConfig, out: Path, text: str | Corpus) -> dict[str, Any] | None:
    """Returns the summary of a finished run, or None if it has not started or was stopped.

    Raises CheckpointError if its folder holds a run with other settings or on other data.
    """
    folder = plan.folder(out, config)
    if not exists(folder / "config.json") or never_started(folder):
        return None
    same = read_config(folder, TrainConfig)[0] == config and not what_changed(folder, data_note(text, "the text"))
    if not same:
        raise CheckpointError(f"{folder} holds a run of other settings or on other data: choose another folder")
    return read_json(folder / "summary.json") if exists(folder / "summary.json") else None


def expected_seconds(plan: ScalingPlan, out: Path, text: str | Corpus, scratch: Path) -> list[float]:
    """Returns about how long each of the runs will take, 0 for a finished one, measured for each width on its first steps, in scratch
    folders."""
    taken = []
    for width, group in itertools.groupby(plan.runs, key=lambda config: config.n_embd):
        runs = list(group)
        missing = [finished(plan, config, out, text) is None for config in runs]
        if not any(missing):
            taken += [0.0] * len(runs)
            continue
        found = estimate(runs[-1], scratch / f"width-{width}", text, plan.tokenizer, seconds=0.5).seconds
        once = found.start + found.validations + found.checkpoints
        in_steps = (found.steps + found.records) / runs[-1].steps
        taken += [once + in_steps * config.steps if needed else 0.0 for config, needed in zip(runs, missing, strict=True)]
    return taken


def seconds_left(expected: list[float], done: list[float]) -> float:
    """Returns about how long the rest of the runs takes, if they err as much as the first ones did.

    expected: of all runs; done: what the first ones took, 0 for those that were finished before."""
    known = sum(seconds for seconds, took in zip(expected, done, strict=False) if took)
    return sum(expected[len(done) :]) * (sum(done) / known if known else 1.0)


def trained_point(
    plan: ScalingPlan, config: TrainConfig, out: Path, text: str | Corpus, train: Callable[[Run], dict[str, Any] | None]
) -> Point | None:
    """Returns the point of one run. Unless it is finished, `train` trains it, from its checkpoint if it was stopped. Returns None
    if it is stopped again."""
    summary = finished(plan, config, out, text)
    if summary is None:
        folder = plan.folder(out, config)
        summary = train(Run(config, folder, text, plan.tokenizer, resume=exists(folder / "config.json")))
    if summary is None:
        return None
    return Point(summary["parameters"], tokens_read(config), summary["val_loss"])
