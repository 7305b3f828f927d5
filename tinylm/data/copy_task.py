"""The copy task: symbols to remember while noise passes. It shows how far back a model can look.

After Hochreiter & Schmidhuber 1997, "Long short-term memory", Neural Computation 9, experiment 2,
and Arjovsky et al. 2016, arXiv:1511.06464, section 5.1, with noise instead of blanks in between.
"""

from dataclasses import dataclass

import numpy as np

from tinylm.checks import check_sizes
from tinylm.errors import ConfigError

IGNORED = -100  # as a target: not scored, the ignore_index of ops.cross_entropy


@dataclass(frozen=True)
class CopyTask:
    """Sequences: payload, `gap` tokens of noise, a marker, the payload again.

    payload: how many symbols it has, drawn with replacement, so that none depends on another.  symbols, noise: the sizes of
    the two alphabets. Ids: symbols from 0, then noise, then the marker.
    """

    payload: int = 3
    symbols: int = 8
    noise: int = 8

    def __post_init__(self) -> None:
        check_sizes(payload=self.payload, symbols=self.symbols, noise=self.noise)

    @property
    def marker(self) -> int:
        """The id that calls for the copy."""
        return self.symbols + self.noise

    @property
    def vocab_size(self) -> int:
        return self.marker + 1

    @property
    def chance(self) -> float:
        """The best accuracy per symbol without looking at the payload."""
        return 1 / self.symbols

    def length(self, gap: int) -> int:
        """Returns how many tokens a sequence has."""
        return 2 * self.payload + gap + 1

    def sequences(self, gap: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Returns `count` random sequences, (count, length(gap)) int64. Raises ConfigError for a negative gap."""
        if gap < 0:
            raise ConfigError(f"gap is {gap}: expected at least 0")
        payload = rng.integers(self.symbols, size=(count, self.payload))
        noise = self.symbols + rng.integers(self.noise, size=(count, gap))
        return np.concatenate([payload, noise, np.full((count, 1), self.marker), payload], axis=1)

    def targets(self, sequences: np.ndarray) -> np.ndarray:
        """Returns what a model of sequences[:, :-1] shall predict, in the same shape: the next token within the repeated
        payload, IGNORED before it."""
        targets = sequences[:, 1:].copy()
        targets[:, : -self.payload] = IGNORED
        return targets
