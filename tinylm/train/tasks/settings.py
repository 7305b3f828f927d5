"""The settings that tasks have in common, and how a run folder stores them.

A task's config inherits from one of these and from a class with the task's own settings, which begin with model and data.
The task's own come first in --help and in config.json, those in common after them.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from tinylm.checks import (
    check_at_least,
    check_below_one,
    check_choice,
    check_finite,
    check_flag,
    check_integer,
    check_positive,
    check_probability,
    shown,
)
from tinylm.engine.products import Precision
from tinylm.errors import CheckpointError, ConfigError

SMALLEST_BPE = 256  # pieces: the bytes
Sources = str | tuple[str, ...]  # where data come from: a corpus by its name, a file or a folder; or several of these
_MAY_BE_INFINITE = ("clip", "save_minutes", "rope_theta")


class Fallback(float):
    """A min_lr that nobody has given: it is at most a tenth of lr."""


class FallbackSteps(int):
    """A warmup that nobody has given: where the schedule is shorter, it is a tenth of the schedule."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of any run: the command line is derived from the fields, and config.json stores them."""

    task: ClassVar[str]  # what config.json calls it
    model_defaults: ClassVar[Mapping[str, Mapping[str, Any]]]  # what differs from the fields' defaults, by model
    added: ClassVar[Mapping[str, Any]] = {}  # settings that the first runs did not have yet, and what these runs did then

    def __post_init__(self) -> None:
        """Makes every setting of its own type, NumPy's numbers Python's. Raises ConfigError naming one that is of another type, not
        finite, or not among its choices.

        A range that becomes narrower than it was when its setting was new must bind new runs only: see `check_new`.
        """
        for field in dataclasses.fields(self):
            name, value = field.name, vars(self)[field.name]
            if field.type is int and type(value) is not FallbackSteps:
                value = check_integer(name, value)
            elif field.type is float and type(value) is not Fallback:
                value = check_at_least(0, name, value, finite=False) if name in _MAY_BE_INFINITE else check_finite(name, value)
            elif field.type is bool:
                value = check_flag(name, value)
            elif field.type is str:
                value = os.fspath(value) if isinstance(value, os.PathLike) else value
                if not isinstance(value, str):
                    raise ConfigError(f"{name} is {shown(value)}: expected text")
            elif field.type == Sources:
                value = _sources(name, value)
            elif get_origin(field.type) is Literal:
                check_choice(name, value, get_args(field.type))
            object.__setattr__(self, name, value)

    def check_new(self) -> None:
        """Raises ConfigError for what the first runs were allowed: it binds new runs only."""

    def require_at_least(self, least: int, *names: str) -> None:
        """Raises ConfigError naming the first of these settings that is below `least`."""
        for name in names:
            check_at_least(least, name, vars(self)[name], finite=False)

    @classmethod
    def of_model(cls, model: str) -> Self:
        """Returns the settings that `--model` brings. Raises ConfigError for an unknown model."""
        check_choice("model", model, cls.model_defaults)
        return cls(**{"model": model, **cls.model_defaults[model]})

    def to_json(self) -> dict[str, Any]:
        """Returns the settings by name, as JSON takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def old_values(cls, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what runs did for which a later setting is not recorded, by its name."""
        return cls.added

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Returns the settings that `to_json` gave, in this version or an older one. Raises CheckpointError naming what does not fit."""
        if not isinstance(record, dict):
            raise CheckpointError("the run's config is not a record")
        record = {**cls.old_values(record), **record}
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if record.keys() != fields.keys():
            missing, unexpected = sorted(fields.keys() - record.keys()), sorted(record.keys() - fields.keys())
            raise CheckpointError(f"the run's config does not fit this version of tinylm: missing {missing}, unexpected {unexpected}")
        for name, field in fields.items():
            value, choices, kind = record[name], get_args(field.type), field.type
            if kind == Sources:
                fits = _are_sources(value)  # JSON makes a list of several
            else:
                fits = value in choices if choices else type(value) is kind or (kind is float and type(value) is int)
            if not fits:
                raise CheckpointError(f"the run's config does not fit: {name} is {value!r}")
        return cls(**record)


def _are_sources(value: Any) -> bool:
    several = value if isinstance(value, list | tuple) else [value]
    return len(several) > 0 and all(isinstance(source, str | os.PathLike) for source in several)


def _sources(name: str, value: Any) -> Sources:
    """Returns one source as text, several as a tuple. Raises ConfigError for anything else."""
    if not _are_sources(value):
        raise ConfigError(f"{name} is {shown(value)}: expected the name of a corpus, a file or a folder, or several of these")
    several = tuple(str(os.fspath(source)) for source in (value if isinstance(value, list | tuple) else [value]))
    return several[0] if len(several) == 1 else several


@dataclass(frozen=True, kw_only=True)
class UpdateSettings(Settings):
    """The settings of any training by gradients."""

    added: ClassVar[Mapping[str, Any]] = {"precision": "float32"}

    seed: int = 0
    """of weights, batches and dropout"""
    dropout: float = 0.0
    """probability of dropping an activation in training"""
    lr: float = 1e-3
    """peak learning rate, after the warmup"""
    weight_decay: float = 0.1
    """AdamW's decay of matrices; vectors have none"""
    precision: Precision = "float32"
    """of matrix products, in training and validation: float32, or operands rounded to bfloat16 and sums in float32; a resume may
    change it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(0, "lr", "weight_decay")
        check_probability(self.dropout)


@dataclass(frozen=True, kw_only=True)
class LoopSettings(UpdateSettings):
    """The settings of the training loop: how long, how fast, and when it records, validates and saves."""

    added: ClassVar[Mapping[str, Any]] = {
        **UpdateSettings.added, "save_minutes": 0.0, "keep": 1, "ema": 0.0, "patience": 0, "sample_every": 0, "eval_tokens": 0,
    }  # fmt: skip

    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    steps: int = 2000
    """the step to stop at; a stopped run can be resumed with more"""
    schedule_steps: int = 2000
    """the step at which the learning rate has come down to its minimum, whatever --steps says"""
    min_lr: float = Fallback(1e-4)
    """learning rate at the end of the cosine; if only lr is given, at most a tenth of it"""
    warmup: int = FallbackSteps(100)
    """steps of linear warmup; if it is not given and the schedule is shorter, a tenth of the schedule"""
    clip: float = 1.0
    """the largest norm of all gradients together"""

    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    eval_every: int = 500
    """steps between validations; the best one is kept in checkpoints/"""
    eval_tokens: int = 0
    """tokens of the validation part that a validation reads, from its beginning; 0: all"""
    save_every: int = 500
    """steps between checkpoints to resume from"""
    save_minutes: float = 10.0
    """minutes after which there is a checkpoint in any case; 0: by steps alone"""
    keep: int = 3
    """how many of the last checkpoints are kept, beside the best"""
    ema: float = 0.0
    """decay of a moving average of the weights, which is validated and saved as the model; 0: none, 0.999 is usual"""
    patience: int = 0
    """validations in a row without a better loss after which the run stops; 0: it goes on"""
    sample_every: int = 0
    """steps between samples of what the model says, which are printed and kept with the run; 0: none. No other number changes by them"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.min_lr) is Fallback:
            object.__setattr__(self, "min_lr", min(float(self.min_lr), self.lr / 10))
        if type(self.warmup) is FallbackSteps:
            longer = self.warmup > self.schedule_steps
            object.__setattr__(self, "warmup", self.schedule_steps // 10 if longer else int(self.warmup))
        self.require_at_least(1, "schedule_steps", "log_every", "eval_every", "save_every", "keep")
        self.require_at_least(0, "steps", "min_lr", "save_minutes", "patience", "sample_every", "eval_tokens")
        check_positive(clip=self.clip)
        check_below_one("ema", self.ema)

    def check_new(self) -> None:
        super().check_new()
        if self.min_lr > self.lr:
            raise ConfigError(f"min_lr is {self.min_lr:g}: expected at most lr, {self.lr:g}, from which the learning rate comes down to it")
        if not 0 <= self.warmup <= self.schedule_steps:
            raise ConfigError(f"warmup {self.warmup} is out of range: expected 0 to the schedule's {self.schedule_steps} steps")
