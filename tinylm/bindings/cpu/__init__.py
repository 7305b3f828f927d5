"""The CPU implementations of ops: importing this package registers them. Nothing is compiled or loaded before the first call."""

from tinylm.bindings.cpu import activations as activations
from tinylm.bindings.cpu import attention as attention
from tinylm.bindings.cpu import dropout as dropout
from tinylm.bindings.cpu import indexing as indexing
from tinylm.bindings.cpu import joint_linear as joint_linear
from tinylm.bindings.cpu import linear as linear
from tinylm.bindings.cpu import losses as losses
from tinylm.bindings.cpu import normalization as normalization
from tinylm.bindings.cpu import recurrent as recurrent
from tinylm.bindings.cpu import rotary as rotary
from tinylm.bindings.cpu import softmax as softmax
