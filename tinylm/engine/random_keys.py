"""Random numbers: seeded, restorable, and the same on every device."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from tinylm.errors import ConfigError


class Generator:
    """A seed and a counter: every draw takes the next key, so the state is two integers.

    A key (seed, n) selects one stream of Philox4x64-10 (Salmon et al. 2011). The dropout op
    receives its key as a setting, so the same op run again repeats the mask.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts again from a seed. Raises ConfigError if it is not within 0 to 2**64 - 1."""
        if not 0 <= int(seed) < 2**64:
            raise ConfigError(f"seed {seed} is out of range: expected 0 to 2**64 - 1")
        self.state = (int(seed), 0)

    def next_key(self) -> tuple[int, int]:
        """Returns the key of a new stream."""
        seed, count = self.state
        self.state = (seed, count + 1)
        return seed, count

    def numpy(self) -> np.random.Generator:
        """Returns a NumPy Generator on a new stream: for initial weights, shuffling and sampling."""
        return np.random.Generator(philox(self.next_key()))


def philox(key: tuple[int, int]) -> np.random.Philox:
    """Returns NumPy's Philox4x64-10 at counter 0 of the stream that `key` selects."""
    return np.random.Philox(key=np.array(key, np.uint64))


def random_uint32(key: tuple[int, int], size: int) -> np.ndarray:
    """Returns `size` uniform 32-bit integers: the raw 64-bit words of the stream, low half first."""
    words = philox(key).random_raw((size + 1) // 2)
    return words.astype("<u8", copy=False).view("<u4")[:size]


default_generator = Generator(0)


class _Current(threading.local):
    generator = default_generator  # of each thread, unless it is within `drawing_from`


current = _Current()


@contextlib.contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Within it, this thread draws its random numbers from `generator`: initial weights, dropout masks, samples.

    A training run has a generator of its own and draws from it alone, so that nothing else in the process changes its
    numbers, and it changes nobody else's.
    """
    before, current.generator = current.generator, generator
    try:
        yield
    finally:
        current.generator = before


def manual_seed(seed: int) -> None:
    """Seeds every random number that tinylm draws outside of training runs, which have a seed of their own: initial weights,
    dropout, sampling. All threads draw from this one generator; use `drawing_from` for threads that must not affect each other."""
    default_generator.seed(seed)
