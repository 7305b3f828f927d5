"""What `import tinylm` gives, for editors and type checkers: the packages too, which are loaded when first used."""

from tinylm import data as data
from tinylm import decode as decode
from tinylm import explain as explain
from tinylm import models as models
from tinylm import nn as nn
from tinylm import optim as optim
from tinylm import train as train
from tinylm import verify as verify
from tinylm.engine.anomalies import detect_anomaly as detect_anomaly
from tinylm.engine.arrays import array_module as array_module
from tinylm.engine.autograd import no_grad as no_grad
from tinylm.engine.derivatives import hvp as hvp
from tinylm.engine.derivatives import jacobian as jacobian
from tinylm.engine.grad import grad as grad
from tinylm.engine.kernels import kernel as kernel
from tinylm.engine.kernels import update as update
from tinylm.engine.op import op as op
from tinylm.engine.products import products as products
from tinylm.engine.profiler import profile as profile
from tinylm.engine.random_keys import manual_seed as manual_seed
from tinylm.engine.recompute import recompute as recompute
from tinylm.engine.tensor import Tensor as Tensor
from tinylm.errors import TinylmError as TinylmError
from tinylm.ops import *  # noqa: F403

__version__: str
