"""The CPU implementations of ops: importing this package registers them. Nothing is compiled or loaded before the first call."""

from tinylm.bindings.cpu import attention as attention
from tinylm.bindings.cpu import lookups as lookups
from tinylm.bindings.cpu import normalizations as normalizations
from tinylm.bindings.cpu import pointwise as pointwise
from tinylm.bindings.cpu import positions as positions
from tinylm.bindings.cpu import probabilities as probabilities
from tinylm.bindings.cpu import products as products
from tinylm.bindings.cpu import projections as projections
from tinylm.bindings.cpu import randomness as randomness
from tinylm.bindings.cpu import recurrence as recurrence
