"""Inputs for every op, for the gradient checks, the comparisons with PyTorch and the tests.

A new op needs samples here, in the file of its kind, and an entry in `verify/torch/reference.py`; a test
fails until it has both. Arrays are float64 from a generator seeded by the op's name, and keep
away from kinks, where the derivative is different on the two sides.
"""

from tinylm.verify.samples import axes as axes
from tinylm.verify.samples import layers as layers
from tinylm.verify.samples import pointwise as pointwise
from tinylm.verify.samples import recurrence as recurrence
from tinylm.verify.samples.registry import Sample as Sample
from tinylm.verify.samples.registry import makers as makers
from tinylm.verify.samples.registry import samples_of as samples_of
