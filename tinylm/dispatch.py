"""@op, @kernel, @update: from a function on raw arrays to one on tensors.

An op's body computes a value and its vjp on raw arrays. `@op` unwraps the tensors, lets the body
or a faster kernel do the work, wraps the result, and records a node when a gradient is needed.
"""

import functools
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm.autograd import Node, anomaly, check_value, mode
from tinylm.backend import array_module, default_generator, device_of
from tinylm.errors import ConfigError, DeviceError
from tinylm.tensor import Tensor, as_array

launches: Counter[tuple[str, str]] = Counter()  # (op, "cpu" or "cuda") -> how often its kernel ran
registry: dict[str, "Op"] = {}  # every op of tinylm itself, by name
updates: dict[str, "Update"] = {}

hidden_files: set[str] = set()  # thin wrappers around ops: messages name the line that called them

_kernels_allowed = os.environ.get("TINYLM_KERNELS", "auto")
if _kernels_allowed not in ("auto", "reference"):
    raise ConfigError(f"TINYLM_KERNELS is {_kernels_allowed!r}: expected 'auto' or 'reference'")


class _Kernels:
    """The faster implementations of one op, by (device kind, dtype name)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kernels: dict[tuple[str, str], Callable[..., Any]] = {}

    def choose(self, arrays: Sequence[Any]) -> tuple[Callable[..., Any], str] | None:
        """The kernel for these arrays (all floating ones must share its device and dtype)."""
        if not self.kernels or _kernels_allowed == "reference":
            return None
        kinds = {(device_of(a).partition(":")[0], a.dtype.name) for a in arrays if getattr(a, "dtype", None) is not None and a.dtype.kind == "f"}
        if len(kinds) != 1:
            return None
        kind = kinds.pop()
        found = self.kernels.get(kind)
        return None if found is None else (found, kind[0])


class Op(_Kernels):
    """What `@op` knows of an op: its name, body and kernels."""

    def __init__(self, name: str, body: Callable[..., Any], count: int, sequence: bool) -> None:
        super().__init__(name)
        self.body = body
        self.count = count  # how many leading arguments are arrays
        self.sequence = sequence  # the one array argument is a sequence of arrays
        self.as_tensor = Tensor.as_tensor

    def compute(self, arrays: Sequence[Any], extra: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """(value, vjp) from the kernel that fits, or from the body."""
        args = ([arrays] if self.sequence else [*arrays]) + [*extra]
        chosen = self.choose(arrays)
        if chosen is not None:
            result = chosen[0](*args, **settings)
            if result is not NotImplemented:
                launches[self.name, chosen[1]] += 1
                return result
        return self.body(*args, **settings)

    def record_vjp(self, inputs: Sequence[Any], settings: tuple[tuple[Any, ...], dict[str, Any]]) -> Callable[..., Any]:
        """The vjp of the body run again on tensors, so that what it computes is recorded too."""
        args: list[Any] = [Tensor(x) if getattr(x, "dtype", None) is not None and not isinstance(x, Tensor) and x.dtype.kind == "f" else x for x in inputs]
        args = [x.data if isinstance(x, Tensor) and x.dtype.kind != "f" else x for x in args]
        extra, named = settings
        return self.body(*([args] if self.sequence else args), *extra, **named)[1]


def _check_devices(name: str, arrays: Sequence[Any]) -> None:
    devices = {device_of(a) for a in arrays if hasattr(a, "dtype")}
    if len(devices) > 1:
        raise DeviceError(f"{name}: the arguments are on different devices, {' and '.join(sorted(devices))}")


def _wrap(value: Any, inputs: Sequence[Any], arrays: Sequence[Any]) -> Tensor:
    """A tensor around a result; a view shares the version counter of what it looks into."""
    out = Tensor(value if type(value) is np.ndarray else array_module(value, *arrays).asarray(value))
    base = out.data.base
    for x in inputs:
        if isinstance(x, Tensor) and (x.data is base or x.data is out.data or (base is not None and x.data.base is base)):
            out.version_cell = x.version_cell
            break
    return out


def _caller(frame: Any) -> Any:
    """The frame that called the op, past thin wrappers."""
    return frame.f_back if frame.f_code.co_filename in hidden_files else frame


_NO_SETTINGS: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
_PLAIN = frozenset({int, float, bool, type(None)})


def _raw(x: Any) -> Any:
    """A non-tensor argument as ops take it: NumPy scalars count as Python numbers, so that
    they do not promote float32."""
    if isinstance(x, np.generic):
        return x.item()
    return as_array(x)


def op(body: Callable[..., Any] | None = None, *, sequence: bool = False, random: bool = False) -> Any:
    """Makes a differentiable operation of a body on raw arrays.

    body(arrays, /, settings) returns (value, vjp); vjp(dy) returns one gradient an array argument,
    None for integers and absent arrays, and a vjp of None says that there is no derivative.
    A tuple as value means several outputs, and the vjp then takes a cotangent for each. The
    parameters before `/` are the arrays (without a `/`: all positional ones).
    sequence: the one array parameter is a sequence of arrays, with a gradient each.
    random: the body takes a setting `key`, drawn from the default generator when not given.
    """
    if body is None:
        return functools.partial(op, sequence=sequence, random=random)
    made = _make(body, sequence, random)
    if body.__module__.startswith("tinylm.ops."):
        registry[made.op.name] = made.op
    return made


def _make(body: Callable[..., Any], sequence: bool, random: bool) -> Any:
    parameters = inspect.signature(body).parameters.values()
    only = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    arrays_named = only or [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    names = [p.name for p in arrays_named]
    count = len(names)
    required = sum(p.default is p.empty for p in arrays_named)
    if count == 0:
        raise TypeError(f"@op: {body.__name__} has no array parameters")
    if sequence and count != 1:
        raise TypeError(f"@op(sequence=True): {body.__name__} must have one array parameter before '/'")
    record = Op(body.__name__, body, count, sequence)
    kernels, get_frame, ndarray, new = record.kernels, sys._getframe, np.ndarray, Tensor.__new__  # locals: this is the hot path

    @functools.wraps(body)
    def call(*args: Any, **settings: Any) -> Any:
        if len(args) == count:
            inputs, extra = args, ()
        else:
            if len(args) < count and not only:  # arrays given by name
                args = (*args, *(settings.pop(n) for n in names[len(args) :] if n in settings))
            if required <= len(args) < count:
                args = (*args, *(None,) * (count - len(args)))  # optional arrays by omission
            inputs, extra = args[:count], args[count:]
        if sequence:
            inputs = tuple(inputs[0])
        arrays, parents, cells = [], [], []
        track = foreign = False
        version = 0
        for a in inputs:
            if isinstance(a, Tensor):
                data = a.data
                arrays.append(data)
                cell = a.version_cell
                cells.append(cell)
                version += cell[0]
                if a.requires_grad:
                    track = True
                    parents.append(a)
                else:
                    parents.append(None)
                if type(data) is not ndarray:
                    foreign = True
            else:
                if type(a) not in _PLAIN:
                    a = _raw(a)
                    foreign = foreign or type(a) is not ndarray
                arrays.append(a)
                parents.append(None)
        if foreign:
            _check_devices(record.name, arrays)
        if random and settings.get("key") is None:
            settings["key"] = default_generator.next_key()

        if kernels or extra or sequence:
            value, vjp = record.compute(arrays, extra, settings)
        else:
            value, vjp = body(*arrays, **settings)

        if type(value) is tuple:
            outputs = tuple(_wrap(v, inputs, arrays) for v in value)
        else:
            if type(value) is not ndarray or value.base is not None or value is arrays[0]:
                out = _wrap(value, inputs, arrays)
            else:
                out = new(Tensor)
                out.data = value
                out.grad = out.grad_buffer = out.node = None
                out.requires_grad = False
                out.output = 0
                out.version_cell = [0]
            outputs = (out,)
        if anomaly.detect:
            where = _caller(get_frame(1))
            for out in outputs:
                check_value(record.name, f"{where.f_code.co_filename}:{where.f_lineno}", out, inputs, "value")
        if track and vjp is not None and mode.recording:
            where = get_frame(1)
            if where.f_code.co_filename in hidden_files:
                where = _caller(where)
            for out in outputs:
                cells.append(out.version_cell)
                version += out.version_cell[0]
            node = Node(record, inputs, (extra, settings) if extra or settings else _NO_SETTINGS, parents, vjp, cells, version, where.f_code, where.f_lasti)
            if len(outputs) == 1:
                out.node = node
                out.requires_grad = True
            else:
                node.outputs = [functools.partial(array_module(v.data).zeros, v.shape, v.dtype) for v in outputs]
                for i, out in enumerate(outputs):
                    out.node, out.output, out.requires_grad = node, i, out.data.dtype.kind == "f"
        return outputs if type(value) is tuple else out

    call.op = record  # type: ignore[attr-defined]
    return call


class Update(_Kernels):
    """An in-place update on raw arrays: called like its reference, a kernel when one fits."""

    def __init__(self, body: Callable[..., None]) -> None:
        super().__init__(body.__name__)
        self.body = body
        functools.update_wrapper(self, body)

    def __call__(self, *arrays: Any, **settings: Any) -> None:
        chosen = self.choose(arrays)
        if chosen is not None and chosen[0](*arrays, **settings) is not NotImplemented:
            launches[self.name, chosen[1]] += 1
            return
        self.body(*arrays, **settings)


def update(body: Callable[..., None]) -> Update:
    """Makes an in-place update without gradient (an optimiser's step) of a body on raw arrays,
    so that kernels can be registered for it as for an op."""
    made = Update(body)
    if body.__module__.startswith("tinylm."):
        updates[made.name] = made
    return made


def kernel(target: str | Any, *, device: str, dtypes: Sequence[str] = ("float32",)) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a faster implementation of an op or update (its name, or the op itself).

    It takes the same arguments and keeps the same contract as the body, and may return
    NotImplemented for shapes or layouts it does not serve: the body then does the work.
    TINYLM_KERNELS=reference disables them all.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"kernel device {device!r}: expected 'cpu' or 'cuda'")
    holder: Any = (registry.get(target) or updates.get(target)) if isinstance(target, str) else getattr(target, "op", target)
    if holder is None:
        raise ConfigError(f"kernel for an unknown op {target!r}")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for dtype in dtypes:
            if (device, dtype) in holder.kernels:
                raise ConfigError(f"{holder.name} has a kernel for {device} {dtype} already")
            holder.kernels[device, dtype] = function
        return function

    return register
