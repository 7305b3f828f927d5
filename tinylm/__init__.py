"""tinylm: small language models on a from-scratch tensor and autograd engine.

`import tinylm` gives Tensor, every op of `tinylm.ops` by its name (`tinylm.softmax`), the autograd functions, and the packages
nn, optim, models, data, train, decode, verify and explain, which are loaded on first use.
"""

import importlib
from typing import Any

from tinylm.engine.anomalies import detect_anomaly
from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import no_grad
from tinylm.engine.derivatives import hvp, jacobian
from tinylm.engine.grad import grad
from tinylm.engine.kernels import kernel, update
from tinylm.engine.op import op
from tinylm.engine.products import products
from tinylm.engine.profiler import profile
from tinylm.engine.random_keys import manual_seed
from tinylm.engine.recompute import recompute
from tinylm.engine.tensor import Tensor
from tinylm.errors import TinylmError
from tinylm.moved import absent
from tinylm.ops import *  # noqa: F403
from tinylm.ops import __all__ as _ops
from tinylm.providers import PROVIDERS

for _bindings in ("cpu", "cuda"):  # last: they register kernels for the ops above
    importlib.import_module(f"tinylm.bindings.{_bindings}")

PROVIDERS["from_pretrained"] = "tinylm.pretrained.model_loading:load_model_as"
PROVIDERS["save_pretrained"] = "tinylm.pretrained.model_export:save_pretrained"
PROVIDERS["save_gguf"] = "tinylm.pretrained.gguf_export:save_gguf"

__version__ = "0.1.0"

_PACKAGES = ("nn", "optim", "models", "data", "train", "decode", "verify", "explain")

__all__ = [
    "Tensor",
    "TinylmError",
    "array_module",
    "detect_anomaly",
    "grad",
    "hvp",
    "jacobian",
    "kernel",
    "manual_seed",
    "no_grad",
    "op",
    "products",
    "profile",
    "recompute",
    "update",
    *_PACKAGES,
    *_ops,
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"tinylm.{name}")
    raise AttributeError(absent(name))


def __dir__() -> list[str]:
    return sorted(__all__)
