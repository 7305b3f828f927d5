"""Inputs for every op: what the gradient checks, the comparisons with PyTorch and the tests feed it.

A new op needs samples here, in the file of its kind, and an entry in `torch_reference.py`; a test
fails until it has both. Arrays are float64 from a generator seeded by the op's name, and stand
clear of kinks, where a derivative would depend on the side that it is taken from.
"""

from tinylm.verify.samples import axes as axes
from tinylm.verify.samples import layers as layers
from tinylm.verify.samples import pointwise as pointwise
from tinylm.verify.samples import recurrence as recurrence
from tinylm.verify.samples.registry import Sample as Sample
from tinylm.verify.samples.registry import makers as makers
from tinylm.verify.samples.registry import samples_of as samples_of
