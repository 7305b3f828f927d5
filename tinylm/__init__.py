"""tinylm: small language models on a from-scratch tensor and autograd engine.

`import tinylm` gives Tensor, every op by its name, the autograd functions, and the packages nn,
optim, models, data, train, decode, verify and explain, which are loaded when first used.
"""

import importlib
from typing import Any

from tinylm.anomalies import detect_anomaly
from tinylm.autograd import grad, no_grad
from tinylm.checkpointing import checkpoint
from tinylm.dispatch import op
from tinylm.errors import TinylmError
from tinylm.kernel_registry import kernel, update
from tinylm.ops import *  # noqa: F403
from tinylm.ops import __all__ as _ops
from tinylm.profiler import profile
from tinylm.random_streams import manual_seed
from tinylm.tensor import Tensor

for _bindings in ("cpu", "cuda"):  # last: they register kernels for the ops above
    importlib.import_module(f"tinylm.bindings.{_bindings}")

__version__ = "0.1.0"

_PACKAGES = ("nn", "optim", "models", "data", "train", "decode", "verify", "explain")

__all__ = [
    "Tensor",
    "TinylmError",
    "checkpoint",
    "detect_anomaly",
    "grad",
    "kernel",
    "manual_seed",
    "no_grad",
    "op",
    "profile",
    "update",
    *_PACKAGES,
    *_ops,
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"tinylm.{name}")
    raise AttributeError(f"module 'tinylm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
