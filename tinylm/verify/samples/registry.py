"""Samples of ops, their registry, and the random arrays that they are made of."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinylm.errors import ConfigError

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """One call of an op: a short description, its arguments by position (a list is a sequence of
    arrays) and by name."""

    note: str
    args: tuple[Any, ...]
    settings: dict[str, Any]
    derivative: bool = True  # False where the gradient is not the derivative, by the op's definition


Samples: TypeAlias = Iterator[Sample]
Maker: TypeAlias = Callable[[Rng], Samples]
makers: dict[str, Maker] = {}  # op name -> its samples


def sample(note: str, *args: Any, **settings: Any) -> Sample:
    """Returns the sample of the call op(*args, **settings)."""
    return Sample(note, args, settings)


def samples_for(*names: str) -> Callable[[Maker], Maker]:
    """Registers a generator of samples for the ops of these names."""

    def register(maker: Maker) -> Maker:
        for name in names:
            makers[name] = maker
        return maker

    return register


def samples_of(name: str, seed: int = 0) -> list[Sample]:
    """Returns the samples of an op, the same at each call with one seed. Raises ConfigError if it has none."""
    if name not in makers:
        raise ConfigError(f"op {name!r} has no samples: add some under tinylm/verify/samples/")
    return list(makers[name](np.random.default_rng(zlib.crc32(name.encode()) + seed)))


# ---------------------------------------------------------------- arrays


def normal(rng: Rng, *shape: int) -> np.ndarray:
    """N(0, 1)."""
    return np.asarray(rng.standard_normal(shape))


def nonzero(rng: Rng, *shape: int) -> np.ndarray:
    """Both signs, at least 0.2 from 0."""
    x = normal(rng, *shape)
    return np.asarray(x + np.where(x < 0, -0.2, 0.2))


def positive(rng: Rng, *shape: int) -> np.ndarray:
    """0.2 and more."""
    return np.asarray(np.abs(nonzero(rng, *shape)))


def distinct(rng: Rng, *shape: int) -> np.ndarray:
    """Values at least 0.1 apart and 0.05 from 0, in random order, two thirds positive: the largest stays the largest."""
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n // 3) * 0.2 + rng.uniform(0.05, 0.15, n)).reshape(shape)
