"""The moving average of a model's weights."""

import contextlib
from collections.abc import Iterator, Mapping

from tinylm.engine.arrays import Array
from tinylm.nn import Module


class WeightAverage:
    """a ← d a + (1 - d) w after every update, which begins as the first weights.

    d = min(decay, (1 + t) / (10 + t)) after update t: early weights, far from good, are soon forgotten.
    Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the exponential
    form and its start as in Tarvainen & Valpola 2017, arXiv:1703.01780, and TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.arrays: Mapping[str, Array] = {name: p.data.copy() for name, p in self.parameters.items()}

    def update(self, t: int) -> None:
        """Adds the weights after update t, counted from 1."""
        decay = min(self.decay, (1 + t) / (10 + t))
        for name, p in self.parameters.items():
            average = self.arrays[name]
            average += (p.data - average) * (1 - decay)

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Goes on from averages that were saved."""
        for name, average in self.arrays.items():
            average[...] = arrays[name]

    def assign(self) -> None:
        """Makes the averages the model's weights."""
        for name, p in self.parameters.items():
            p.data[...] = self.arrays[name]
            p.bump_version()

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Within it the model has the averages as its weights."""
        own = {name: p.data.copy() for name, p in self.parameters.items()}
        self.assign()
        try:
            yield
        finally:
            for name, p in self.parameters.items():
                p.data[...] = own[name]
                p.bump_version()
