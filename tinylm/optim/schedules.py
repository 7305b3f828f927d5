"""Learning rates as functions of the step (0 for the first one)."""

import math
from dataclasses import dataclass
from typing import Protocol

from tinylm.checks import as_number, check_at_least, check_sizes, shown
from tinylm.errors import ConfigError


class Schedule(Protocol):
    """A function from the step to the learning rate."""

    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """lr after a linear warmup of `warmup` steps."""

    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, "lr", self.lr)
        check_at_least(0, "warmup", self.warmup)

    def __call__(self, step: int) -> float:
        return self.lr * _warmup_factor(step, self.warmup)


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warmup to lr, then half a cosine down to min_lr at step `steps`, then min_lr.

    Loshchilov & Hutter 2016, arXiv:1608.03983, eq. 5, without restarts.
    """

    lr: float
    min_lr: float
    warmup: int
    steps: int

    def __post_init__(self) -> None:
        _check_fall(self)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * _warmup_factor(step, self.warmup)
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.min_lr + 0.5 * (1 + math.cos(math.pi * done)) * (self.lr - self.min_lr)


@dataclass(frozen=True)
class StoredCosine(WarmupCosine):
    """WarmupCosine of a run's configuration: in runs of earlier versions min_lr may be above lr. New ones are refused by its checks."""

    def __post_init__(self) -> None:
        _check_rates(self)


@dataclass(frozen=True)
class WarmupLinear:
    """Linear warmup to lr, then a straight line down to min_lr at step `steps`, then min_lr."""

    lr: float
    min_lr: float
    warmup: int
    steps: int

    def __post_init__(self) -> None:
        _check_fall(self)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * _warmup_factor(step, self.warmup)
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.lr + (self.min_lr - self.lr) * done


@dataclass(frozen=True)
class Noam:
    """scale d_model^-½ min(t^-½, t warmup^-1.5), t = step + 1.  Vaswani et al. 2017, eq. 3."""

    d_model: int
    warmup: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(d_model=self.d_model)
        check_at_least(0, "warmup", self.warmup)
        check_at_least(0, "scale", self.scale)

    def __call__(self, step: int) -> float:
        t = step + 1
        return self.scale * self.d_model**-0.5 * min(t**-0.5, t * max(self.warmup, 1) ** -1.5)


def _check_fall(schedule: WarmupCosine | WarmupLinear) -> None:
    """Raises ConfigError as `_check_rates` does, and for a min_lr above lr."""
    _check_rates(schedule)
    if schedule.min_lr > schedule.lr:
        raise ConfigError(f"min_lr is {shown(schedule.min_lr)}: expected at most lr, {shown(schedule.lr)}")


def _check_rates(schedule: WarmupCosine | WarmupLinear) -> None:
    """Raises ConfigError for learning rates below 0 or not finite, and for a warmup that does not end within the schedule."""
    check_at_least(0, "lr", schedule.lr)
    check_at_least(0, "min_lr", schedule.min_lr)
    check_at_least(0, "steps", schedule.steps)
    if not 0 <= as_number(schedule.warmup) <= schedule.steps:
        raise ConfigError(f"warmup {shown(schedule.warmup)} is out of range: expected 0 to the schedule's {schedule.steps} steps")


def _warmup_factor(step: int, warmup: int) -> float:
    """Returns the part of the learning rate that a linear warmup of `warmup` steps allows, up to 1."""
    return min((step + 1) / (warmup + 1), 1.0)
