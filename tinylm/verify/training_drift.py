"""How far a training run of tinylm and one of PyTorch drift apart, step by step.

Rounding alone makes two runs part, and training amplifies it. So a third run is made: in float32, PyTorch's
in float64, which does not round; in float64, PyTorch's from weights that are one unit in the last place
off. What it drifts from PyTorch's own run is no error of anyone's.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinylm import optim
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.nn import Module
from tinylm.verify.batches import called, members, named_arguments
from tinylm.verify.jacobians import flatten
from tinylm.verify.parity import in_torch
from tinylm.verify.reports import Report, Row

ALLOWED = 30.0  # times the drift that rounding alone makes
_LR, _MOMENTUM = 0.1, 0.9


@dataclass(frozen=True)
class Drift:
    """Of each step: both losses, and the relative distance of all parameters from PyTorch's, ours and the control's."""

    title: str
    losses: list[float]
    torch_losses: list[float]
    distances: list[float]
    control: list[float]

    def report(self) -> Report:
        """The last step: a failure where the distance is more than 30 times what rounding alone makes."""
        allowed = ALLOWED * max(max(self.control), 1e-15)
        detail = f"{self.distances[-1]:.1e} after {len(self.distances)} steps, of which rounding alone would make {self.control[-1]:.1e}"
        return Report(self.title, allowed, (Row("distance of the parameters", max(self.distances), detail),))

    def record(self) -> dict[str, Any]:
        """The series as JSON has them."""
        return {"loss": self.losses, "torch_loss": self.torch_losses, "distance": self.distances, "distance_by_rounding": self.control}


def drift(model: Module, torch_model: Any, batch: Any, steps: int, *, dtype: str = "float32", seed: int = 0) -> Drift:
    """Trains copies of both for some steps on one batch, from torch_model's weights, with SGD (lr 0.1,
    momentum 0.9): Adam divides the size of a gradient out, and a wrong size would not show.

    The loss is half the mean squared distance of the floating outputs from fixed random targets.
    batch as `compare` takes it; names and shapes of the state must be equal, and dropout off.
    """
    import torch

    kind = getattr(torch, dtype)
    first = copy.deepcopy(torch_model).to(kind)
    control = copy.deepcopy(first).to(torch.float64)
    if dtype == "float64":
        with torch.no_grad():
            for p in control.parameters():
                p.copy_(torch.nextafter(p, torch.full_like(p, torch.inf)))
    ours = copy.deepcopy(model).to(dtype=dtype).train(torch_model.training)
    ours.load_state_dict(first.state_dict())
    device = next((p.device for p in ours.parameters()), "cpu")
    arguments = named_arguments(batch, device, dtype)
    size = sum(t.size for t in members(called(ours, batch, arguments)) if t.dtype.kind == "f")
    targets = np.random.default_rng(seed).standard_normal(size).astype(dtype)

    optimizer = optim.SGD(ours.parameters(), lr=_LR, momentum=_MOMENTUM)
    goal = Tensor(to_device(targets, device))

    def step() -> float:
        y = flatten([t for t in members(called(ours, batch, arguments)) if t.dtype.kind == "f"])
        loss = ((y - goal) ** 2).mean() * 0.5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    torch_steps = [
        _torch_step(m, batch, in_torch(batch, name), torch.from_numpy(targets.astype(name)))
        for m, name in ((first, dtype), (control, "float64"))
    ]
    rows: list[tuple[float, float, float, float]] = []
    for _ in range(steps):
        losses = step(), torch_steps[0](), torch_steps[1]()
        theirs = {name: p.numpy(force=True) for name, p in first.named_parameters()}
        distance = _distance({name: p.numpy() for name, p in ours.named_parameters()}, theirs)
        rows.append((losses[0], losses[1], distance, _distance({n: p.numpy(force=True) for n, p in control.named_parameters()}, theirs)))
    series = [list(column) for column in zip(*rows, strict=True)]
    return Drift(f"{type(model).__name__}, {steps} steps in {dtype}", *series)


def _torch_step(model: Any, batch: Any, arguments: dict[str, Any], targets: Any) -> Callable[[], float]:
    """A training step of PyTorch with the same loss and settings."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=_MOMENTUM)

    def step() -> float:
        y = torch.cat([t.reshape(-1) for t in members(called(model, batch, arguments)) if t.is_floating_point()])
        loss = ((y - targets) ** 2).mean() * 0.5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """‖a - b‖ / ‖b‖ over all parameters together."""
    difference = np.linalg.norm([np.linalg.norm(a[name].astype(np.float64) - b[name]) for name in a])
    return float(difference / np.linalg.norm([np.linalg.norm(b[name].astype(np.float64)) for name in a]))
