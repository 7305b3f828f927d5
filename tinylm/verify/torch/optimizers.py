"""Optimisers written with PyTorch, to compare tinylm's with. Importing this file imports PyTorch."""

from collections.abc import Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class TorchMuon(torch.optim.Optimizer):
    """tinylm.optim.Muon's orthogonal groups in PyTorch, in the parameters' own precision.

    torch.optim.Muon iterates in bfloat16 and does not support stacked matrices, so it agrees to two digits only.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, *, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                v = self.state[w].setdefault("momentum_buffer", torch.zeros_like(w))
                v.lerp_(w.grad, 1 - group["momentum"])
                direction = w.grad.lerp(v, group["momentum"])
                m, n = w.shape
                squares = direction.split(n) if m % n == 0 else [direction]
                w.mul_(1 - group["lr"] * group["weight_decay"])
                w.sub_(group["lr"] * torch.cat([_orthogonal(square) for square in squares]))


def _orthogonal(g: torch.Tensor) -> torch.Tensor:
    m, n = g.shape
    x = g.T if m > n else g
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if m > n else x) * max(1, m / n) ** 0.5
