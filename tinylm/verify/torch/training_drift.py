"""How far a training run of tinylm and one of PyTorch drift apart, step by step. Importing this file imports PyTorch.

Rounding alone makes two runs diverge, and training amplifies it. So a third run is made as a control: in float32,
PyTorch's in float64, which does not round; in float64, PyTorch's from weights that are one unit in the last place
off. How far that one drifts from PyTorch's own run is no error of anyone's.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tinylm import optim
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, listed
from tinylm.nn import Module
from tinylm.verify.arguments import named_arguments, outputs_of, prepared
from tinylm.verify.jacobians import flatten
from tinylm.verify.reports import Drift
from tinylm.verify.torch.reference import in_torch
from tinylm.verify.torch.structure import compared_structure, take_weights

_LR, _MOMENTUM = 0.1, 0.9


def drift(model: Module, torch_model: Any, batch: Any, steps: int, *, dtype: str = "float32", seed: int = 0) -> Drift:
    """Trains copies of both for some steps on one batch, from torch_model's weights, with SGD (lr 0.1,
    momentum 0.9): Adam divides the size of a gradient out, and a wrong size would not show.

    The loss is half the mean squared distance of the floating outputs from fixed random targets.
    batch as `compare` takes it, with dropout off. Raises ConfigError if names, shapes or ties of the parameters differ.
    """
    structure = compared_structure(model, torch_model)
    if structure.rows:
        problems = listed([f"{row.name}: {row.detail}" for row in structure.rows])
        raise ConfigError(f"{type(model).__name__} cannot be trained beside PyTorch's model: {problems}")
    kind = getattr(torch, dtype)
    first = copy.deepcopy(torch_model).to(kind)
    control = copy.deepcopy(first).to(torch.float64)
    if dtype == "float64":
        with torch.no_grad():
            for p in control.parameters():
                p.copy_(torch.nextafter(p, torch.full_like(p, torch.inf)))
    ours, arguments = prepared(model, batch, dtype)
    take_weights(ours.train(torch_model.training), first, structure.shared)

    def outputs() -> Tensor:
        return flatten([t for t in outputs_of(ours, batch, arguments) if t.dtype.kind == "f"])

    y = outputs().detach()
    targets = np.random.default_rng(seed).standard_normal(y.size).astype(dtype)
    goal = Tensor(to_device(targets, y.device))
    optimizer = optim.SGD(ours.parameters(), lr=_LR, momentum=_MOMENTUM)

    all_steps = (
        functools.partial(_train_step, outputs, goal, optimizer),
        _torch_step(first, batch, targets), _torch_step(control, batch, targets.astype(np.float64)),
    )  # fmt: skip
    rows: list[tuple[float, float, float, float]] = []
    for _ in range(steps):
        losses = [step() for step in all_steps]
        theirs = _values(first)
        distance = _distance({name: p.numpy() for name, p in ours.named_parameters()}, theirs)
        rows.append((losses[0], losses[1], distance, _distance(_values(control), theirs)))
    series = [list(column) for column in zip(*rows, strict=True)]
    return Drift(f"{type(model).__name__}, {steps} steps in {dtype}", *series)


def _torch_step(model: Any, batch: Any, targets: np.ndarray) -> Callable[[], float]:
    """Returns a training step of PyTorch with the same loss and settings, in the targets' dtype."""
    arguments = named_arguments(batch, lambda x: in_torch(x, str(targets.dtype)))
    goal = torch.from_numpy(targets)
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=_MOMENTUM)

    def outputs() -> torch.Tensor:
        return torch.cat([t.reshape(-1) for t in outputs_of(model, batch, arguments) if t.is_floating_point()])

    return functools.partial(_train_step, outputs, goal, optimizer)


def _train_step(outputs: Callable[[], Any], goal: Any, optimizer: Any) -> float:
    """Makes a training step, of tinylm or of PyTorch, and returns its loss."""
    loss = ((outputs() - goal) ** 2).mean() * 0.5
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.item())


def _values(model: Any) -> dict[str, np.ndarray]:
    """Returns the parameters of a PyTorch model by name, tied ones under each of theirs, of which tinylm's may be another one first."""
    return {name: p.numpy(force=True) for name, p in model.named_parameters(remove_duplicate=False)}


def _distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """‖a - b‖ / ‖b‖ over all parameters together."""
    difference = np.linalg.norm([np.linalg.norm(a[name].astype(np.float64) - b[name]) for name in a])
    return float(difference / np.linalg.norm([np.linalg.norm(b[name].astype(np.float64)) for name in a]))
