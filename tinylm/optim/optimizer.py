"""What all optimisers have in common: parameter groups, names, flat buffers, clipping by the global norm, state.

The parameters of a group lie in one flat array and their gradients in another, so a hundred small updates become one long one.
Each parameter's `.data` becomes a view of the flat values, and the backward pass writes its gradient straight into the flat gradients.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.checks import check_at_least, shown
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import device_of, make_current, to_device, to_numpy
from tinylm.engine.kernels import update
from tinylm.engine.stored_weights import check_trainable
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError, ShapeError
from tinylm.optim.stored_state import by_name, checked_names, fitting_state

_ALIGNMENT = 64  # bytes: the alignment of a parameter must not depend on the run, or sums round differently


def _aligned_zeros(xp: Any, size: int, dtype: Any) -> Array:
    """Returns a 1-D array of zeros whose first element lies on a 64-byte boundary."""
    item = dtype.itemsize
    raw = xp.zeros(size + _ALIGNMENT // item, dtype)
    address = raw.ctypes.data if isinstance(raw, np.ndarray) else 0  # CuPy's memory begins at multiples of 512 bytes
    skip = (-address % _ALIGNMENT) // item
    return raw[skip : skip + size]


class FlatParameters:
    """Parameters of one dtype and device in one array; `grads` and the arrays of `state` have the same layout."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        first = parameters[0].data
        xp = array_module(first)
        step = _ALIGNMENT // first.dtype.itemsize
        self.parameters = list(parameters)
        self.slices = []
        end = 0
        for p in parameters:
            self.slices.append(slice(end, end + p.size))
            end += math.ceil(p.size / step) * step
        self.values = _aligned_zeros(xp, end, first.dtype)
        self.grads = _aligned_zeros(xp, end, first.dtype)
        self.steps = [0] * len(self.parameters)  # updates each parameter has had
        self.state: dict[str, Array] = {}
        self.views = []
        for p, at in zip(self.parameters, self.slices, strict=True):
            self.values[at] = p.data.reshape(-1)
            p.data = self.values[at].reshape(p.shape)
            p.grad_buffer = self.grads[at].reshape(p.shape)
            if p.grad is not None:
                p.grad_buffer[...] = p.grad
                p.grad = p.grad_buffer
            self.views.append(p.data)

    def add_state(self, name: str) -> None:
        """Adds an array of zeros of the same layout, such as a momentum."""
        self.state[name] = _aligned_zeros(array_module(self.values), self.values.size, self.values.dtype)

    def view(self, array: Array, index: int) -> Array:
        """Returns the part of a flat array that belongs to parameter `index`, in its shape."""
        return array[self.slices[index]].reshape(self.parameters[index].shape)

    def segments(self) -> Iterator[tuple[range, int]]:
        """Yields (indices, step count) of each longest run of adjacent parameters that have a gradient and the same
        number of updates; parameters without a gradient are left out."""
        for i, p in enumerate(self.parameters):
            if p.data is not self.views[i]:
                raise ConfigError(f"parameter {i} of shape {p.shape} was moved after the optimiser was made: make the optimiser last")
            if p.grad is not None and p.grad is not p.grad_buffer:
                assert p.grad_buffer is not None
                if (shape := getattr(p.grad, "shape", None)) != p.shape:  # it would be broadcast
                    raise ShapeError(f"parameter {i} has a gradient of shape {shape}, expected its own, {p.shape}")
                p.grad_buffer[...] = p.grad
                p.grad = p.grad_buffer
        i = 0
        while i < len(self.parameters):
            if self.parameters[i].grad is None:
                i += 1
                continue
            start = i
            while i < len(self.parameters) and self.parameters[i].grad is not None and self.steps[i] == self.steps[start]:
                i += 1
            yield range(start, i), self.steps[start]

    def span(self, members: range) -> slice:
        """Returns the slice of a flat array that holds adjacent parameters, with the padding that follows them."""
        stop = self.slices[members.stop].start if members.stop < len(self.slices) else self.values.size
        return slice(self.slices[members.start].start, stop)

    def advance(self) -> None:
        """Counts one more update of each parameter that has a gradient, and bumps its version."""
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                self.steps[i] += 1
                p.bump_version()


class Optimizer:
    """Parameter groups and their flat buffers; subclasses define `states`, `update` and `check`.

    params: tensors, or dicts {"params": tensors, setting: value, ...} whose settings override the
    defaults, as in PyTorch. The settings in `param_groups` may be changed between steps (the learning rate is).
    A tensor may come as a pair with its name, as `Module.named_parameters` gives it. The state then has the parameters by name,
    and also fits a model that has them in another order.
    Raises ConfigError for a setting outside its range, here or in the step after it was changed.
    """

    states: tuple[str, ...] = ()  # the arrays kept for each parameter
    squares: tuple[str, ...] = ()  # those of them that cannot be negative

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if isinstance(params, Tensor):  # iterating over it would give its rows
            raise ConfigError(f"the optimiser got one tensor of shape {params.shape}: expected a list of tensors or of groups")
        if hasattr(params, "named_parameters"):
            raise ConfigError(f"the optimiser got a {type(params).__name__}: expected its parameters, model.parameters()")
        given = list(params)
        if not given:
            raise ConfigError("the optimiser got no parameters: expected tensors, such as model.parameters()")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        self._checked: list[dict[str, Any]] = []  # the settings of each group when they were checked last
        self._flats: list[list[FlatParameters]] = []
        self._names: list[Any] = []  # of the parameters in the order of the groups; without names their numbers
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, dict) or "params" not in group:
                raise ConfigError(f"an optimiser takes tensors, or records with their 'params', got {shown(group)} among these")
            unknown = set(group) - {"params", *defaults}
            if unknown:
                raise ConfigError(f"unknown optimiser settings {sorted(unknown)}: expected {sorted(defaults)}")
            given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            pairs = [p if isinstance(p, tuple) and len(p) == 2 else (k, p) for k, p in enumerate(given, len(self._names))]
            members = [p for _, p in pairs]
            self._names += [name for name, _ in pairs]
            kinds: dict[tuple[str, str], list[Tensor]] = {}
            for name, p in pairs:
                if not isinstance(p, Tensor) or not p.requires_grad or p.node is not None:
                    raise ConfigError(f"an optimiser takes leaf tensors that require gradients, got {type(p).__name__}")
                check_trainable(p.data, name)
                if id(p) in seen:
                    raise ConfigError(f"a parameter of shape {p.shape} appears twice in the optimiser")
                seen.add(id(p))
                kinds.setdefault((p.dtype.name, p.device), []).append(p)
            self.param_groups.append({**defaults, **group, "params": members})
            self.check(self.param_groups[-1])
            self._flats.append([FlatParameters(alike) for alike in kinds.values()])
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat, name in itertools.product(flats, self.states_of(group)):
                flat.add_state(name)
        self._names = checked_names(self._names)
        self._checked = [{name: group[name] for name in defaults} for group in self.param_groups]

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ConfigError for a setting, which would have no effect here: each group has its own."""
        if any(name in known for known in self.__dict__.get("_checked", ())):
            raise ConfigError(f"{name} is a setting of the groups: set it as optimizer.param_groups[0]['{name}'], and so on")
        super().__setattr__(name, value)

    def check(self, group: dict[str, Any]) -> None:
        """Makes a group's settings Python's own numbers. Raises ConfigError for one outside its range."""
        for name in ("lr", "weight_decay"):
            if name in group:
                group[name] = check_at_least(0, name, group[name])

    def _check_changes(self) -> None:
        """Checks the groups whose settings were changed since they were checked last."""
        for group, known in zip(self.param_groups, self._checked, strict=True):
            for name, value in known.items():
                now = group[name]
                if now is value or (name == "lr" and type(now) is float and 0 <= now < math.inf):  # it changes in every step
                    continue
                self.check(group)
                known.update({each: group[each] for each in known})
                break

    def _all_flats(self) -> Iterator[FlatParameters]:
        return itertools.chain.from_iterable(self._flats)

    def states_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Returns the names of the arrays kept for each parameter of a group."""
        return self.states

    def update_segment(self, group: dict[str, Any], flat: FlatParameters, members: range, step: int, grad_scale: Any) -> None:
        """Updates adjacent parameters, by default as if they were one."""
        part = flat.span(members)
        state = {name: array[part] for name, array in flat.state.items()}
        self.update(group, flat.values[part], flat.grads[part], state, step, grad_scale)

    def update(self, group: dict[str, Any], values: Array, grads: Array, state: dict[str, Array], step: int, grad_scale: Any) -> None:
        """Changes `values` in place; all arrays are the same span of flat buffers."""
        raise NotImplementedError

    def step(self, max_norm: float | None = None) -> Array | None:
        """Updates every parameter that has a gradient; the others are not changed, not even by weight decay.

        max_norm: scales all gradients together so that their norm is at most this, within the
        update itself. Returns the norm before scaling (a 0-d array), None without max_norm.
        Raises AnomalyError, before anything is written, if that norm is NaN or infinite (on
        the CPU; reading it on a GPU would stall the device, so look at the loss there). Raises ConfigError
        for a max_norm that is not a number of at least 0, and for a setting of a group that was made such.
        """
        self._check_changes()
        norm, grad_scale = None, None
        if max_norm is not None:
            if type(max_norm) is not float or not max_norm >= 0:
                max_norm = check_at_least(0, "max_norm", max_norm, finite=False)
            norm = self.grad_norm()
            if isinstance(norm, (np.ndarray, np.generic)) and not np.isfinite(norm):
                raise AnomalyError(f"the gradient norm is {float(norm)}: nothing was updated; {self._first_not_finite()}")
            grad_scale = clipping_factor(norm, max_norm)
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat in flats:
                for members, done in flat.segments():
                    self.update_segment(group, flat, members, done + 1, grad_scale)
                flat.advance()
        return norm

    def _first_not_finite(self) -> str:
        for g, group in enumerate(self.param_groups):
            for i, p in enumerate(group["params"]):
                if p.grad is not None and not bool(array_module(p.grad).isfinite(p.grad).all()):
                    return f"the first such gradient is that of parameter {i} of group {g}, shape {p.shape}"
        return "it overflowed although every gradient is finite"

    def grad_norm(self) -> Array:
        """Returns √Σ g² over all gradients that are present, a 0-d array."""
        return grad_norm(self.gradients())

    def gradients(self) -> list[Array]:
        """Returns all gradients that are present, as few flat arrays: views, which may be changed before `step`."""
        return [flat.grads[flat.span(members)] for flat in self._all_flats() for members, _ in flat.segments()]

    def zero_grad(self) -> None:
        """Sets all gradients to None."""
        for flat in self._all_flats():
            for p in flat.parameters:
                p.grad = None

    def _parameters(self) -> Iterator[tuple[FlatParameters, int]]:
        """Yields the flat buffer of each parameter and its index there, in the order of the groups."""
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            place = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.parameters)}
            for p in group["params"]:
                yield place[id(p)]

    def state_dict(self) -> dict[str, Array]:
        """Returns NumPy arrays: "step.NAME" and "<state>.NAME" for each parameter, by its number in the order of the groups if it
        has no name, and "lr.G", the learning rate of group number G."""
        out: dict[str, Array] = {}
        for key, (flat, i) in zip(self._names, self._parameters(), strict=True):
            out[f"step.{key}"] = np.array(flat.steps[i])
            for name, array in flat.state.items():
                out[f"{name}.{key}"] = to_numpy(flat.view(array, i)).copy()
        return out | {f"lr.{g}": np.array(group["lr"]) for g, group in enumerate(self.param_groups)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Restores what `state_dict` returned: also by the parameters' numbers, and without learning rates, which then stay as they are.

        Raises CheckpointError as `fitting_state` does, before anything is changed."""
        found = fitting_state(self.state_dict(), self.as_written_today(state), self.squares, type(self).__name__)
        for key, (flat, i) in zip(self._names, self._parameters(), strict=True):
            flat.steps[i] = int(found[f"step.{key}"])
            for name, array in flat.state.items():
                flat.view(array, i)[...] = to_device(found[f"{name}.{key}"], device_of(array))
        for g, group in enumerate(self.param_groups):
            group["lr"] = float(found[f"lr.{g}"])

    def as_written_today(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a state with the parameters' names in place of their numbers, and with this optimiser's learning rates if it has none."""
        rates = {f"lr.{g}": np.array(group["lr"]) for g, group in enumerate(self.param_groups)}
        return by_name(state, self._names) | ({} if any(key.startswith("lr.") for key in state) else rates)


@update
def squared_norm(grad: Array, total: Array, /) -> None:
    """total += Σ grad², for a flat gradient and a total of shape ()."""
    total += array_module(grad).dot(grad, grad)


def grad_norm(grads: Sequence[Array]) -> Array:
    """Returns √Σ g² over all arrays, a 0-d array on their device."""
    if not grads:
        return array_module().zeros(())
    make_current(grads[0])
    total = array_module(grads[0]).zeros((), grads[0].dtype)
    for g in grads:
        squared_norm(g.reshape(-1), total)
    return array_module(total).sqrt(total)


def clipping_factor(norm: Array, max_norm: float) -> Array:
    """Returns min(1, max_norm / (norm + 1e-6)), PyTorch's factor, as a 0-d array on the norm's device."""
    return array_module(norm).minimum(max_norm / (norm + norm.dtype.type(1e-6)), norm.dtype.type(1))
