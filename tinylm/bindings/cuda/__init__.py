"""The CUDA implementations of ops: importing this package registers them. It does not import CuPy.

Those of the optimisers' updates are in `updates`, which tinylm.optim imports.
"""

from tinylm.bindings.cuda import activations as activations
from tinylm.bindings.cuda import attention as attention
from tinylm.bindings.cuda import dropout as dropout
from tinylm.bindings.cuda import indexing as indexing
from tinylm.bindings.cuda import joint_linear as joint_linear
from tinylm.bindings.cuda import linear as linear
from tinylm.bindings.cuda import losses as losses
from tinylm.bindings.cuda import normalization as normalization
from tinylm.bindings.cuda import recurrent as recurrent
from tinylm.bindings.cuda import rotary as rotary
from tinylm.bindings.cuda import softmax as softmax
