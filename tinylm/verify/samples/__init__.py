"""Inputs for every op, for the gradient checks, the comparisons with PyTorch and the tests.

A new op needs samples here, in the file of its kind, and an entry in `verify/torch/reference.py`; a test
fails until it has both. Arrays are float64 from a generator seeded by the op's name, and keep
away from kinks, where the derivative is different on the two sides.
"""

from tinylm.verify.samples import axes, layers, pointwise, recurrence
from tinylm.verify.samples.registry import Sample, makers, samples_of

__all__ = ["Sample", "axes", "layers", "makers", "pointwise", "recurrence", "samples_of"]
