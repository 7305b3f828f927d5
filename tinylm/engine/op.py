"""@op: from a function on raw arrays to one on tensors.

An op's body computes a value and its vjp on raw arrays. `@op` unwraps the tensors, lets the body
or a faster kernel do the work, wraps the result, and records a node when a gradient is needed.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, ParamSpec, Protocol, overload

import numpy as np

from tinylm.engine.anomalies import anomaly, check_value, place
from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import Node, mode
from tinylm.engine.composed import composed_vjp
from tinylm.engine.devices import device_of, make_current
from tinylm.engine.kernels import Kernels, launches, profiling, registry
from tinylm.engine.op_errors import explain
from tinylm.engine.random_keys import current
from tinylm.engine.stored_weights import StoredWeights, decoded
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import AutogradError, DeviceError

P = ParamSpec("P")


class Op(Kernels):
    """What `@op` knows about an op: its name, body and kernels."""

    def __init__(self, name: str, body: Callable[..., Any], count: int, sequence: bool, composed: Callable[..., Any] | None = None) -> None:
        super().__init__(name)
        self.body = body
        self.composed = composed  # the same function of small ops, for derivatives of derivatives
        self.count = count  # how many leading arguments are arrays
        self.sequence = sequence  # the one array argument is a sequence of arrays
        self.as_tensor = Tensor.as_tensor

    def compute(self, arrays: Sequence[Any], extra: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """Returns (value, vjp) from the kernel that fits, or from the body."""
        if not self.reads_stored:
            arrays = decoded(arrays)
        args = ([arrays] if self.sequence else [*arrays]) + [*extra]
        chosen = self.choose(arrays)
        if chosen is not None:
            result = chosen[0](*args, **settings)
            if result is not NotImplemented:
                launches[self.name, chosen[1]] += 1
                return result
        return self.body(*(decoded(args) if self.reads_stored else args), **settings)

    def record_vjp(self, inputs: Sequence[Any], settings: tuple[tuple[Any, ...], dict[str, Any]]) -> Callable[..., Any]:
        """Returns the vjp of the body (or of its composed twin) run again on tensors, so that what it computes is recorded too."""
        args: list[Any] = [
            Tensor(x) if getattr(x, "dtype", None) is not None and not isinstance(x, Tensor) and x.dtype.kind == "f" else x for x in inputs
        ]
        args = [x.data if isinstance(x, Tensor) and x.dtype.kind != "f" else x for x in args]
        extra, named = settings
        if self.composed is not None:
            return composed_vjp(self.composed, args, extra, named)
        return self.pair(self.body(*([args] if self.sequence else args), *extra, **named))[1]

    def pair(self, result: Any) -> tuple[Any, Any]:
        """Returns what a body or kernel returned, if it is (value, vjp). Raises AutogradError for anything else."""
        if isinstance(result, (tuple, list)) and len(result) == 2 and (result[1] is None or callable(result[1])):
            return result[0], result[1]
        self.refuse(type(result).__name__)

    def refuse(self, returned: str) -> NoReturn:
        """Raises AutogradError for a body that returned something else than (value, vjp)."""
        raise AutogradError(
            f"the body of {self.name} returned {returned}, expected (value, vjp): arrays, and a function from their "
            "cotangents to one gradient per argument (None in its place if there is no derivative)"
        )


def _choose_device(name: str, arrays: Sequence[Any]) -> None:
    """Computes where the arrays are. Raises DeviceError if they are not all on one device."""
    found = {device_of(a): a for a in arrays if hasattr(a, "dtype")}
    if len(found) > 1:
        raise DeviceError(f"{name}: the arguments are on different devices, {' and '.join(sorted(found))}")
    for a in found.values():
        make_current(a)


def _wrap(record: Op, value: Any, inputs: Sequence[Any], arrays: Sequence[Any]) -> Any:
    """Returns a tensor around a result, a tuple of tensors around several. A view shares the version cell of
    the tensor whose memory it shows."""
    if type(value) is tuple:
        return tuple(_wrap(record, v, inputs, arrays) for v in value)
    if value is None or isinstance(value, Tensor):
        record.refuse(f"{type(value).__name__} as a value")
    out = Tensor(value if type(value) is np.ndarray else array_module(value, *arrays).asarray(value))
    base = out.data.base
    for x in inputs:
        if isinstance(x, Tensor) and (x.data is base or x.data is out.data or (base is not None and x.data.base is base)):
            out.version_cell = x.version_cell
            break
    return out


_NO_SETTINGS: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
_PLAIN = frozenset({int, float, bool, type(None)})  # arguments that an op gets as they are: not made arrays


class OpFunction(Protocol[P]):
    """An op as it is called, with the parameters of its body: tensors for arrays, and as results."""

    op: Op

    def __call__(self, *args: P.args, **settings: P.kwargs) -> Any: ...


@overload
def op(
    body: Callable[P, Any], *, sequence: bool = False, random: bool = False, composed: Callable[..., Any] | None = None
) -> OpFunction[P]: ...
@overload
def op(
    *, sequence: bool = False, random: bool = False, composed: Callable[..., Any] | None = None
) -> Callable[[Callable[P, Any]], OpFunction[P]]: ...
def op(
    body: Callable[..., Any] | None = None, *, sequence: bool = False, random: bool = False, composed: Callable[..., Any] | None = None
) -> Any:
    """Makes a differentiable operation from a body on raw arrays.

    body(arrays, /, settings) returns (value, vjp); vjp(dy) returns one gradient per array argument,
    None for integers and missing arrays. A vjp of None says that there is no derivative.
    A tuple as value means several outputs, and the vjp then takes one cotangent for each. The
    parameters before `/` are the arrays (without a `/`: all positional ones).
    sequence: the one array parameter is a sequence of arrays, each with a gradient.
    random: the body takes a setting `key`, drawn from the current generator if it is not given.
    composed: for a body that cannot run on tensors, its twin: a function of the same arguments made
    of other ops, which returns the value alone and is used for derivatives of derivatives.
    """
    if body is None:
        return functools.partial(op, sequence=sequence, random=random, composed=composed)
    made = _make(body, sequence, random, composed)
    if str(body.__module__).startswith("tinylm.ops."):  # it is None in code run by exec
        registry[made.op.name] = made.op
    return made


def _make(body: Callable[..., Any], sequence: bool, random: bool, composed: Callable[..., Any] | None) -> Any:
    parameters = inspect.signature(body).parameters.values()
    only = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    arrays_named = only or [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    names = [p.name for p in arrays_named]
    taken = {p.name if p.kind is not p.VAR_KEYWORD else "out" for p in parameters}
    count = len(names)
    required = sum(p.default is p.empty for p in arrays_named)
    if count == 0:
        raise TypeError(f"@op: {body.__name__} has no array parameters")
    if sequence and count != 1:
        raise TypeError(f"@op(sequence=True): {body.__name__} must have one array parameter before '/'")
    record = Op(body.__name__, body, count, sequence, composed)
    kernels_on, get_frame, ndarray, new = record.devices, sys._getframe, np.ndarray, Tensor.__new__  # locals: this is the hot path
    generic = np.generic
    methods = vars(sys.modules["tinylm.ops"])  # the globals of the functions there that Tensor has as methods

    @functools.wraps(body)
    def call(*args: Any, **settings: Any) -> Any:
        if len(args) == count:
            inputs, extra = args, ()
        else:
            if len(args) < count and not only:  # arrays given by name
                last = max((i for i, n in enumerate(names) if n in settings), default=-1)
                if all(n in settings for n in names[len(args) : required]):  # else the body says what is missing
                    args = (*args, *(settings.pop(n, None) for n in names[len(args) : last + 1]))
            if required <= len(args) < count:
                args = (*args, *(None,) * (count - len(args)))  # optional arrays by omission
            inputs, extra = args[:count], tuple(a.item() if isinstance(a, generic) else a for a in args[count:])
        if sequence:
            inputs = tuple(inputs[0])
        arrays: list[Any] = []
        parents: list[Any] = []
        cells: list[Any] = []  # the version cells of inputs and outputs, with which the walk finds values changed in place
        track = foreign = False  # a gradient is needed; an input is not a NumPy array, so perhaps on a GPU
        stored = False  # an input is kept as its file has it
        for a in inputs:
            if isinstance(a, Tensor):
                data = a.data
                arrays.append(data)
                cells.append(a.version_cell)
                if a.requires_grad:
                    track = True
                    parents.append(a)
                else:
                    parents.append(None)
                if type(data) is not ndarray:
                    if type(data) is StoredWeights:
                        stored = True
                    else:
                        foreign = True
            else:
                if type(a) not in _PLAIN:
                    a = a.item() if isinstance(a, generic) else as_array(a)  # a NumPy scalar would promote float32
                    stored = stored or type(a) is StoredWeights
                    foreign = foreign or type(a) not in (ndarray, StoredWeights)
                arrays.append(a)
                parents.append(None)
        for name, setting in settings.items():
            if isinstance(setting, generic):
                settings[name] = setting.item()  # a NumPy scalar would promote float32 here, too
            elif name == "out" and "out" not in taken:  # as np.sum(x) passes it; NumPy itself catches a TypeError where it can
                raise TypeError(f"{record.name}() takes no out, as NumPy's function passes it: call tinylm.{record.name} for a tensor")
        if foreign:
            _choose_device(record.name, arrays)
        if random and settings.get("key") is None:
            settings["key"] = current.generator.next_key()

        try:
            if profiling.active is not None:
                result = profiling.active.forward(record, arrays, extra, settings)
            elif extra or sequence or stored or (kernels_on and (foreign or "cpu" in kernels_on)):
                result = record.compute(arrays, extra, settings)
            else:
                result = body(*arrays, **settings)
        except (ValueError, TypeError, IndexError) as error:
            explain(record.name, body, arrays, settings, error)
            raise
        if type(result) is tuple and len(result) == 2 and (result[1] is None or callable(result[1])):
            value, vjp = result
        else:
            value, vjp = record.pair(result)

        given = value is arrays[0] or value is arrays[-1] or (len(arrays) > 2 and any(value is a for a in arrays))
        if given or type(value) is not ndarray or value.base is not None:
            out: Any = _wrap(record, value, inputs, arrays)
        else:
            out = new(Tensor)
            out.data = value
            out.grad = out.grad_buffer = out.node = None
            out.requires_grad = False
            out.output = 0
            out.version_cell = [0]
        recorded = track and vjp is not None and mode.recording
        if recorded or anomaly.detect:
            # Messages name the line that called the op. The frame below this one is there, unless one of Tensor's methods
            # called the op (x[0], x.reshape, 2 - x): then the next frame is, the one that called the method.
            caller: Any = get_frame(1)
            if caller.f_globals is methods:
                caller = caller.f_back
            where = place(caller) if anomaly.detect else None
            if where is not None:
                for each in out if type(out) is tuple else (out,):
                    check_value(f"{record.name} ({where})", each, inputs)
            if recorded:
                known = (extra, settings) if extra or settings else _NO_SETTINGS
                node = Node(record, inputs, known, parents, vjp, cells, caller.f_code, caller.f_lasti)
                if where is not None:
                    node.place = where
                if type(out) is tuple:
                    node.outputs = [functools.partial(array_module(v.data).zeros, v.shape, v.dtype) for v in out]
                    for i, each in enumerate(out):
                        cells.append(each.version_cell)
                        each.node, each.output, each.requires_grad = node, i, each.data.dtype.kind == "f"
                else:
                    cells.append(out.version_cell)
                    out.node = node
                    out.requires_grad = True
        return out

    call.op = record  # type: ignore[attr-defined]
    return call
