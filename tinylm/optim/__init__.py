"""Optimisers, learning-rate schedules and gradient clipping."""

import importlib

from tinylm.optim.adam import Adam, AdamW
from tinylm.optim.gradient_clipping import clip_grad_norm_
from tinylm.optim.muon import Muon
from tinylm.optim.optimizer import Optimizer
from tinylm.optim.schedules import Constant, Noam, Schedule, WarmupCosine, WarmupLinear
from tinylm.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Constant", "Muon", "Noam", "Optimizer", "Schedule", "WarmupCosine", "WarmupLinear", "clip_grad_norm_"]

for _device in ("cpu", "cuda"):  # last: they register kernels for the updates above
    importlib.import_module(f"tinylm.bindings.{_device}.updates")
