"""Dropout that grows with training."""

from tinylm import nn


class DropoutRamp:
    """Every dropout probability p of a model, at step k of a ramp of n steps: p min(1, k / n).

    Dropout slows learning in the first steps, when the model does not overfit yet, and helps in the last ones, when
    it does. Morerio et al. 2017, arXiv:1703.06229, who let the rate approach p exponentially.
    A ramp of 0 steps leaves the probabilities as they are.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        self.steps = steps
        self._full: list[tuple[nn.Module, str, float]] = []
        for module in model.modules():
            name = "p" if isinstance(module, nn.Dropout) else "dropout"
            probability = getattr(module, name, None)
            if isinstance(probability, (int, float)):  # elsewhere `dropout` is a layer, and one of the modules itself
                self._full.append((module, name, probability))

    def set(self, k: int) -> None:
        """Makes the probabilities those of step k, counted from 0."""
        if self.steps:
            for module, name, probability in self._full:
                setattr(module, name, probability * min(1.0, k / self.steps))
