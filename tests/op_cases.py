"""Every op x sample x implementation x device, for the tests that apply to all of them.

The implementations of an op are its body ("reference") and each kernel registered for the device. The
devices are the CPU and a GPU, or "emulated" in its place if there is none: see tests/cuda_on_cpu.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu.fixtures import gpu_required, has_gpu

from tinylm import ops
from tinylm.engine import kernels
from tinylm.engine.devices import to_device
from tinylm.engine.grad import grad
from tinylm.engine.kernels import registry
from tinylm.engine.tensor import Tensor
from tinylm.verify.jacobians import flatten
from tinylm.verify.op_checks import flat_arguments
from tinylm.verify.samples import makers, samples_of

DEVICES = ("cpu", "cuda" if has_gpu() or gpu_required() else "emulated")


def kind(device: str) -> str:
    """Returns "cpu" or "cuda", as kernels are registered."""
    return "cpu" if device == "cpu" else "cuda"


def cases(dtype: str, which: Any = lambda name, sample: True) -> list[Any]:
    """Returns pytest parameters (name, sample, implementation, device); the device is a fixture's parameter."""
    return [
        pytest.param(name, sample, implementation, device, id=f"{name}-{sample.note.replace(' ', '_')}-{implementation}-{device}")
        for name, record in registry.items()
        if name in makers
        for sample in samples_of(name)
        if which(name, sample)
        for device in DEVICES
        for implementation in ("reference", *(["kernel"] if (kind(device), dtype) in record.kernels else []))
    ]


def parametrize(dtype: str, which: Any = lambda name, sample: True) -> Any:
    return pytest.mark.parametrize(("name", "sample", "implementation", "device"), cases(dtype, which), indirect=["device"])


def use(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the dispatcher choose the references, or kernels wherever one fits."""
    monkeypatch.setattr(kernels, "_kernels_allowed", "reference" if implementation == "reference" else "auto")


def run(name: str, args: Any, settings: dict[str, Any], seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Returns the op's outputs, and the gradients of its floating arrays under a random cotangent."""
    tensors = [
        [Tensor(m, requires_grad=True) for m in a] if isinstance(a, list) and a and hasattr(a[0], "dtype") else _leaf(a) for a in args
    ]
    out = getattr(ops, name)(*tensors, **settings)
    outputs = list(out) if isinstance(out, tuple) else [out]
    leaves = [t for t in flat_arguments(tensors) if isinstance(t, Tensor) and t.requires_grad]
    floating = [y for y in outputs if y.requires_grad]
    gradients: list[Any] = []
    if floating:
        joined = flatten(floating)
        cotangent = np.random.default_rng(seed).standard_normal(joined.size).astype(joined.dtype)
        cotangent.flags.writeable = False
        found = grad(joined, leaves, to_device(cotangent, joined.device))
        gradients = [None if g is None else g.numpy() for g in found]
    return [y.numpy() for y in outputs], gradients


def _leaf(a: Any) -> Any:
    return Tensor(a, requires_grad=True) if hasattr(a, "dtype") and a.dtype.kind == "f" else a


def layouts(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the same values in other memory layouts, and read-only."""
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "Fortran order", x.copy(order="F")
    yield "every second element", wide[..., 0]
    yield "negative strides", np.asarray(np.flip(np.flip(x).copy()))
    yield "read-only", fixed
