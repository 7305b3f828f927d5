"""The CUDA implementations of ops: importing this package registers them. It does not import CuPy.

Those of the optimisers' updates are in `updates`, which tinylm.optim imports.
"""

from tinylm.bindings.cuda import attention as attention
from tinylm.bindings.cuda import lookups as lookups
from tinylm.bindings.cuda import normalizations as normalizations
from tinylm.bindings.cuda import pointwise as pointwise
from tinylm.bindings.cuda import positions as positions
from tinylm.bindings.cuda import probabilities as probabilities
from tinylm.bindings.cuda import products as products
from tinylm.bindings.cuda import projections as projections
from tinylm.bindings.cuda import randomness as randomness
from tinylm.bindings.cuda import recurrence as recurrence
