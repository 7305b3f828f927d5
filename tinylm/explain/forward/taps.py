"""Where a forward pass that is written out hands over its activations: to be kept, or changed.

An instrumented module has its own `forward` attribute for as long as somebody watches one of its activations; without
watchers it is the module that it was.
"""

import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn import Module

Replacement = Any  # a number, array or Tensor that takes the activation's place, or a function from the activation to it


Written = Callable[..., Any]  # a forward pass written out: called with a module, its tap, and what `forward` gets


class _Ours:
    """Sees the activations that are asked for, in the forward passes of the thread that made it."""

    def __init__(self, wanted: set[str]) -> None:
        self.wanted, self._thread = wanted, threading.get_ident()

    @property
    def awake(self) -> bool:
        return self._thread == threading.get_ident()


class Collector(_Ours):
    """Keeps the activations that are asked for: those of the latest forward pass."""

    def __init__(self, wanted: set[str], seen: dict[str, Tensor]) -> None:
        super().__init__(wanted)
        self._seen = seen
        self._steps: dict[tuple[str, int], Tensor] = {}  # of a recurrent layer that is running

    def see(self, name: str, value: Tensor) -> Tensor:
        """Keeps the value. Returns it."""
        self._seen[name] = value
        return value

    def see_step(self, name: str, value: Tensor, step: int, steps: int) -> Tensor:
        """Returns the value (N, H) of one time step, which `see_all` keeps with the others."""
        self._steps[name, step] = value
        return value

    def see_all(self, name: str, steps: int, running: Tensor | None) -> None:
        """Keeps the values of all time steps as (N, T, H): NaN where `running` (T, N, 1) is False."""
        values = ops.stack([self._steps.pop((name, step)) for step in range(steps)], axis=1)
        self._seen[name] = values if running is None else ops.where(ops.swapaxes(running, 0, 1), values, math.nan)


class Replacer(_Ours):
    """Puts other values in the place of activations."""

    def __init__(self, replacements: Mapping[str, Replacement]) -> None:
        super().__init__(set(replacements))
        self._replacements = replacements

    def see(self, name: str, value: Tensor) -> Tensor:
        """Returns what takes the place of the value. Raises ShapeError if it has another shape."""
        given = self._replacements[name]
        return _fitted(name, given(value) if callable(given) else given, value.shape, value)

    def see_step(self, name: str, value: Tensor, step: int, steps: int) -> Tensor:
        """Returns what takes the place of the value (N, H) of one time step: the function's result for (value, step), or
        the part [:, step] of what is given for all steps (N, T, H)."""
        given = self._replacements[name]
        if callable(given):
            return _fitted(f"{name} at step {step}", given(value, step), value.shape, value)
        return _fitted(name, given, (value.shape[0], steps, *value.shape[1:]), value)[:, step]

    def see_all(self, name: str, steps: int, running: Tensor | None) -> None:
        """Does nothing: each step was replaced when its turn came."""


def _fitted(name: str, given: Any, shape: Sequence[int], like: Tensor) -> Tensor:
    """Returns `given` as a tensor of this shape, and of the dtype and the device of another."""
    if not isinstance(given, Tensor):
        given = Tensor(to_device(_numbers(name, given), like.device))
    if given.dtype != like.dtype:
        given = given.astype(like.dtype)
    if given.shape == tuple(shape):
        return given
    try:
        fits = np.broadcast_shapes(given.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"the replacement of {name} has shape {given.shape}: expected {tuple(shape)}, or a shape that broadcasts to it")
    return ops.broadcast_to(given, shape)


def _numbers(name: str, given: Any) -> Any:
    """Returns a number, array or list as an array. Raises ConfigError for something else, or an array of something else."""
    try:
        array = given if hasattr(given, "dtype") and hasattr(given, "shape") else np.asarray(given)
    except ValueError:
        array = np.asarray(None)  # a list whose rows differ in length
    if array.dtype.kind not in "fiub":
        raise ConfigError(
            f"the replacement of {name} is {given!s:.60}: expected a tensor, an array, a number, or a function that returns one"
        )
    return array


Watcher = Collector | Replacer


class Tap:
    """What a written-out forward pass calls with each of its activations, under their names.

    watchers: in the order in which they came; each sees what those before it made of a value.  prefix: what precedes the names.
    """

    def __init__(self, prefix: str, watchers: list[Watcher]) -> None:
        self.prefix, self.watchers = prefix, watchers

    def within(self, part: str) -> "Tap":
        """Returns the tap of a part, such as 'attn.'."""
        return Tap(self.prefix + part, self.watchers)

    def wants(self, *names: str) -> bool:
        """Returns whether somebody watches one of these."""
        return any(self.prefix + name in watcher.wanted for watcher in self.watchers for name in names)

    def __call__(self, name: str, value: Tensor, *, sequence_first: bool = False) -> Tensor:
        """Returns the value, or what takes its place. sequence_first: it is (T, N, ...), shown to the watchers as (N, T, ...)."""
        full = self.prefix + name
        for watcher in self.watchers:
            if full in watcher.wanted:
                value = ops.swapaxes(watcher.see(full, ops.swapaxes(value, 0, 1)), 0, 1) if sequence_first else watcher.see(full, value)
        return value

    def step(self, name: str, value: Tensor, step: int, steps: int) -> Tensor:
        """Returns the value (N, H) of one time step of so many, or what takes its place."""
        full = self.prefix + name
        for watcher in self.watchers:
            if full in watcher.wanted:
                value = watcher.see_step(full, value, step, steps)
        return value

    def all_steps(self, name: str, steps: int, running: Tensor | None) -> None:
        """Says that all time steps have been shown, to those who keep them. running: (T, N, 1), False beyond a sequence's end."""
        full = self.prefix + name
        for watcher in self.watchers:
            if full in watcher.wanted:
                watcher.see_all(full, steps, running)


@dataclass
class Site:
    """A module whose forward pass makes activations.

    written: its forward pass written out, if activations inside it have names; prefix: of these names; inside: the names, in order.
    before, after: the full names of its first argument and of its result, '' for none; sequence_first: these two are (T, N, ...).
    """

    module: Module
    written: Written | None = None
    prefix: str = ""
    inside: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    sequence_first: bool = False

    def names(self) -> list[str]:
        """Returns the full names, in the order of the computation."""
        return [name for name in (self.before, *(self.prefix + name for name in self.inside), self.after) if name]


class Instrumented:
    """Takes the place of a module's `forward` while somebody watches.

    own: a forward that the module itself has, apart from its class's; it comes back at the end.
    """

    def __init__(self, site: Site, own: Written | None) -> None:
        self.watchers: list[Watcher] = []
        self._site, self._own = site, own

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        site = self._site
        watchers = [watcher for watcher in self.watchers if watcher.awake]
        inside, outside = Tap(site.prefix, watchers), Tap("", watchers)
        own = self._own if self._own is not None else partial(type(site.module).forward, site.module)
        if not arguments:  # the first one may have been named, too
            first = next(iter(inspect.signature(own).parameters))
            arguments = (named.pop(first),) if first in named else ()
        if site.before and arguments:
            arguments = (outside(site.before, arguments[0], sequence_first=site.sequence_first), *arguments[1:])
        if self._own is None and site.written is not None and inside.wants(*site.inside):
            y = site.written(site.module, inside, *arguments, **named)
        else:
            y = own(*arguments, **named)
        return outside(site.after, y, sequence_first=site.sequence_first) if site.after else y

    def leave(self) -> None:
        """Gives the module its own forward back."""
        if self._own is None:
            del self._site.module.forward
        else:
            vars(self._site.module)["forward"] = self._own
