"""What all optimisers share: parameter groups, flat buffers, clipping, state."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import device_of, to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError, ConfigError
from tinylm.optim.clipping import grad_norm, scale_for
from tinylm.optim.flat import FlatParameters, pack


class Optimizer:
    """Parameter groups and their flat buffers; subclasses give `states` and `update`.

    params: tensors, or dicts {"params": tensors, setting: value, ...} whose settings override the
    defaults, as in PyTorch. `param_groups` may be changed between steps (the learning rate is).
    """

    states: tuple[str, ...] = ()  # the arrays kept for each parameter

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        given = list(params)
        if not given:
            raise ConfigError("the optimiser got no parameters")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[FlatParameters]] = []
        seen: set[int] = set()
        for group in groups:
            unknown = set(group) - {"params", *defaults}
            if unknown:
                raise ConfigError(f"unknown optimiser settings {sorted(unknown)}: expected {sorted(defaults)}")
            members = list(group["params"])
            for p in members:
                if not isinstance(p, Tensor) or not p.requires_grad or p.node is not None:
                    raise ConfigError(f"an optimiser takes leaf tensors that require gradients, got {type(p).__name__}")
                if id(p) in seen:
                    raise ConfigError(f"a parameter of shape {p.shape} appears twice in the optimiser")
                seen.add(id(p))
            self.param_groups.append({**defaults, **group, "params": members})
            self._flats.append(pack(members))
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat, name in itertools.product(flats, self.states_of(group)):
                flat.add_state(name)

    def _all_flats(self) -> Iterator[FlatParameters]:
        return itertools.chain.from_iterable(self._flats)

    def states_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The arrays kept for each parameter of a group."""
        return self.states

    def update_stretch(self, group: dict[str, Any], flat: FlatParameters, members: range, step: int, grad_scale: Any) -> None:
        """Updates neighbouring parameters, by default as if they were one."""
        part = flat.stretch(members)
        state = {name: array[part] for name, array in flat.state.items()}
        self.update(group, flat.values[part], flat.grads[part], state, step, grad_scale)

    def update(self, group: dict[str, Any], values: Array, grads: Array, state: dict[str, Array], step: int, grad_scale: Any) -> None:
        """Changes `values` in place; all arrays are matching stretches of flat buffers."""
        raise NotImplementedError

    def step(self, max_norm: float | None = None) -> Array | None:
        """One update of every parameter that has a gradient; the others are left alone, decay included.

        max_norm: scale all gradients together so that their norm is at most this, within the
        update itself. Returns the norm before scaling (a 0-d array), None without max_norm.
        Errors: AnomalyError, before anything is written, when that norm is NaN or infinite (on
        the CPU; on a GPU looking at it would stall the device, so look at the loss).
        """
        norm, grad_scale = None, None
        if max_norm is not None:
            norm = self.grad_norm()
            if isinstance(norm, (np.ndarray, np.generic)) and not np.isfinite(norm):
                raise AnomalyError(f"the gradient norm is {float(norm)}: nothing was updated; {self._culprit()}")
            grad_scale = scale_for(norm, max_norm)
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat in flats:
                for members, done in flat.ready():
                    self.update_stretch(group, flat, members, done + 1, grad_scale)
                flat.advance()
        return norm

    def _culprit(self) -> str:
        for g, group in enumerate(self.param_groups):
            for i, p in enumerate(group["params"]):
                if p.grad is not None and not bool(array_module(p.grad).isfinite(p.grad).all()):
                    return f"the first such gradient is that of parameter {i} of group {g}, shape {p.shape}"
        return "it overflowed although every gradient is finite"

    def grad_norm(self) -> Array:
        """√Σ g² over all gradients that are present, a 0-d array."""
        return grad_norm(self.gradients())

    def gradients(self) -> list[Array]:
        """All gradients that are present, as few flat arrays: views, which may be changed before `step`."""
        return [flat.grads[flat.stretch(members)] for flat in self._all_flats() for members, _ in flat.ready()]

    def zero_grad(self) -> None:
        """Forgets all gradients (sets them to None)."""
        for flat in self._all_flats():
            for p in flat.parameters:
                p.grad = None

    def _parameters(self) -> Iterator[tuple[FlatParameters, int]]:
        """Where each parameter lives, in the order of the groups."""
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            place = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.parameters)}
            for p in group["params"]:
                yield place[id(p)]

    def state_dict(self) -> dict[str, Array]:
        """NumPy arrays "step.K" and "<state>.K" for the K-th parameter in the order of the groups."""
        out: dict[str, Array] = {}
        for k, (flat, i) in enumerate(self._parameters()):
            out[f"step.{k}"] = np.array(flat.steps[i])
            for name, array in flat.state.items():
                out[f"{name}.{k}"] = to_numpy(flat.view(array, i)).copy()
        return out

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Restores what `state_dict` gave. Errors: CheckpointError naming every key that does not fit."""
        own = self.state_dict()
        problems = [f"missing {k!r}" for k in own if k not in state] + [f"unexpected {k!r}" for k in state if k not in own]
        problems += [
            f"misshapen {k!r}: {state[k].shape}, expected {own[k].shape}" for k in own if k in state and state[k].shape != own[k].shape
        ]
        if problems:
            raise CheckpointError(f"the optimiser state does not fit {type(self).__name__}: {'; '.join(problems)}")
        for k, (flat, i) in enumerate(self._parameters()):
            flat.steps[i] = int(state[f"step.{k}"])
            for name, array in flat.state.items():
                flat.view(array, i)[...] = to_device(np.asarray(state[f"{name}.{k}"]), device_of(array))
