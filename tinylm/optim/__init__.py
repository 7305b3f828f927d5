"""Optimisers, learning-rate schedules and gradient clipping."""

import importlib

from tinylm.optim.adam import Adam as Adam
from tinylm.optim.adam import AdamW as AdamW
from tinylm.optim.muon import Muon as Muon
from tinylm.optim.optimizer import Optimizer as Optimizer
from tinylm.optim.optimizer import clip_grad_norm_ as clip_grad_norm_
from tinylm.optim.schedules import Constant as Constant
from tinylm.optim.schedules import Noam as Noam
from tinylm.optim.schedules import Schedule as Schedule
from tinylm.optim.schedules import WarmupCosine as WarmupCosine
from tinylm.optim.schedules import WarmupLinear as WarmupLinear
from tinylm.optim.sgd import SGD as SGD

for _device in ("cpu", "cuda"):  # last: they register kernels for the updates above
    importlib.import_module(f"tinylm.bindings.{_device}.updates")
