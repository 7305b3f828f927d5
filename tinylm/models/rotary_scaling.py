"""Rotary frequencies scaled for contexts that are longer than those of training, one class for each rule.

A head of width D turns its pair i by f_i = theta^(-2i/D) radians per position (Su et al. 2021, arXiv:2104.09864). In a text that
is longer than those of training, slow pairs reach angles that the model has never seen. Each rule makes other frequencies of f;
YaRN also multiplies queries and keys by a factor (`attention`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.checks import check_at_least, check_positive, check_sizes
from tinylm.errors import ConfigError

Frequencies = tuple[float, ...]


def plain_frequencies(theta: float, width: int) -> Frequencies:
    """Returns theta^(-2i/D) for the pairs i of a head of width D, in radians per position."""
    return tuple(theta ** (-2 * i / width) for i in range(width // 2))


class Scaling:
    """What the rules have in common.

    by_length: whether the frequencies depend on the text's length.
    """

    by_length = False

    @property
    def attention(self) -> float:
        """What queries and keys are each multiplied by."""
        return 1.0

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        """Returns the frequencies of a head of this width in a text of `length` tokens."""
        raise NotImplementedError(f"{type(self).__name__} has no frequencies")


@dataclass(frozen=True)
class LinearScaling(Scaling):
    """f / factor: positions are squeezed into those of training.  Chen et al. 2023, arXiv:2306.15595, eq. 4."""

    factor: float = 2.0

    def __post_init__(self) -> None:
        check_positive(factor=self.factor)

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        return tuple(f / self.factor for f in plain_frequencies(theta, width))


@dataclass(frozen=True)
class DynamicScaling(Scaling):
    """ "Dynamic NTK": theta grows with the length L of a text, from L0 = original_block_size on.

    theta' = theta (1 + s (L / L0 - 1))^(D / (D - 2)) with s = factor, which is the scaling of theta by NTK theory (Peng et al.
    2023, arXiv:2309.00071, eq. 16) for a scale that grows with the text (section 3.3). All positions use the theta of the text's
    length: step by step, keys are kept as they are before their rotation, while what deeper layers read of earlier positions stays
    as it was computed.
    """

    factor: float = 2.0
    original_block_size: int = 2048
    by_length = True

    def __post_init__(self) -> None:
        check_at_least(1, "rotary scaling: factor", self.factor)
        check_sizes(original_block_size=self.original_block_size)

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        if width == 2:  # its only frequency is theta^0, whatever theta
            return plain_frequencies(theta, width)
        grown = 1 + self.factor * max(length / self.original_block_size - 1, 0.0)
        return plain_frequencies(theta * grown ** (width / (width - 2)), width)


@dataclass(frozen=True)
class RotaryScaling(Scaling):
    """Llama 3.1's scaling of rotary frequencies for contexts longer than original_block_size, in which t turns are made.

    Frequencies with t below low_freq_factor are divided by factor, those with t above high_freq_factor are kept, and those
    between are interpolated linearly in t.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_block_size: int = 8192

    def __post_init__(self) -> None:
        check_positive(factor=self.factor, low_freq_factor=self.low_freq_factor, original_block_size=self.original_block_size)
        if not self.high_freq_factor > self.low_freq_factor:
            raise ConfigError(
                f"rotary scaling: high_freq_factor is {self.high_freq_factor}: expected more than low_freq_factor, {self.low_freq_factor}"
            )

    def __call__(self, frequency: float) -> float:
        turns = self.original_block_size * frequency / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = min(max(kept, 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / self.factor

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        return tuple(map(self, plain_frequencies(theta, width)))


@dataclass(frozen=True)
class YarnScaling(Scaling):
    """YaRN: pairs that make more than beta_fast turns in original_block_size are kept, those with fewer than beta_slow are divided
    by factor, and those between are interpolated linearly in their number i.  Peng et al. 2023, arXiv:2309.00071, section 3.2.

    Pair i makes b turns where i = D ln(original_block_size / (2π b)) / (2 ln theta). The paper interpolates in b; its own code,
    transformers and llama.cpp do so in i, between limits that are rounded outwards (`rounded`), and so does this.
    attention_factor: what queries and keys are each multiplied by; None for 0.1 ln factor + 1, eq. 22.
    """

    factor: float = 4.0
    original_block_size: int = 2048
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    rounded: bool = True

    def __post_init__(self) -> None:
        check_at_least(1, "rotary scaling: factor", self.factor)
        check_sizes(original_block_size=self.original_block_size)
        check_positive(beta_slow=self.beta_slow)
        if self.attention_factor is not None:
            check_positive(attention_factor=self.attention_factor)
        if not self.beta_fast > self.beta_slow:
            raise ConfigError(f"rotary scaling: beta_fast is {self.beta_fast}: expected more than beta_slow, {self.beta_slow}")

    @property
    def attention(self) -> float:
        """What queries and keys are each multiplied by."""
        return yarn_attention(self.factor) if self.attention_factor is None else self.attention_factor

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        first, last = (self._pair(turns, theta, width) for turns in (self.beta_fast, self.beta_slow))
        if self.rounded:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        if first > last:
            raise ConfigError(
                f"rotary scaling: no pair of a head of width {width} makes {self.beta_slow:g} to {self.beta_fast:g} turns in "
                f"{self.original_block_size} positions with rope_theta {theta:g}"
            )
        step = max(last - first, 0.001)
        shares = [min(max((i - first) / step, 0.0), 1.0) for i in range(width // 2)]  # of the division by factor
        return tuple(f / self.factor * share + f * (1 - share) for f, share in zip(plain_frequencies(theta, width), shares, strict=True))

    def _pair(self, turns: float, theta: float, width: int) -> float:
        """Returns the number, with a fraction, of the pair that makes so many turns in original_block_size."""
        if theta <= 1:
            raise ConfigError(f"rotary scaling: rope_theta is {theta}: yarn needs more than 1")
        return width * math.log(self.original_block_size / (turns * 2 * math.pi)) / (2 * math.log(theta))


def yarn_attention(factor: float, weight: float = 1.0) -> float:
    """Returns √(1/t) = 0.1 weight ln factor + 1.  Peng et al. 2023, arXiv:2309.00071, eq. 22; weight: 1 there."""
    return 0.1 * weight * math.log(factor) + 1.0


@dataclass(frozen=True)
class FrequencyFactors(Scaling):
    """f_i / factors_i: what any rule that does not depend on the length amounts to, as GGUF files store it.

    attention_factor: what queries and keys are each multiplied by.
    """

    factors: Frequencies = ()
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        for i, factor in enumerate(self.factors):
            check_positive(**{f"rotary scaling: factor {i}": factor})
        check_positive(attention_factor=self.attention_factor)

    @property
    def attention(self) -> float:
        """What queries and keys are each multiplied by."""
        return self.attention_factor

    def frequencies(self, theta: float, width: int, length: int) -> Frequencies:
        if len(self.factors) != width // 2:
            raise ConfigError(f"rotary scaling: {len(self.factors)} factors for heads of width {width}: expected {width // 2}")
        return tuple(f / factor for f, factor in zip(plain_frequencies(theta, width), self.factors, strict=True))


def factors_of(frequencies: Sequence[float], theta: float, width: int) -> Frequencies:
    """Returns the factors of `FrequencyFactors` that give these frequencies."""
    return tuple(plain / f for plain, f in zip(plain_frequencies(theta, width), frequencies, strict=True))
