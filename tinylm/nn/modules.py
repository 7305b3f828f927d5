"""Module and Parameter: named state, found by walking attributes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import CheckpointError, ConfigError, ShapeError, listed

P = ParamSpec("P")
Result = TypeVar("Result", covariant=True)


class HasForward(Protocol[P, Result]):
    """Anything with a `forward`: it gives `Module.__call__` the parameters and the result of the module's own forward."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Result: ...


class Parameter(Tensor):
    """A tensor that a Module counts among its parameters; it requires a gradient by default."""

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = True) -> None:
        super().__init__(array, requires_grad)


class Module:
    """A layer or model: attributes that are Parameters, buffers or Modules, and a `forward`.

    Names are attribute paths joined by dots, in order of assignment, as in PyTorch. A parameter
    reached by two paths (tied weights) is counted once; the state dict lists both paths.
    """

    def __init__(self) -> None:
        self.training = True
        self._buffers: dict[str, bool] = {}  # name -> saved in the state dict

    if not TYPE_CHECKING:  # else a misspelt attribute would pass the type checker

        def __setattr__(self, name: str, value: Any) -> None:
            """Sets an attribute. Raises ConfigError for a plain tensor in place of a parameter, and before Module.__init__ ran."""
            if isinstance(value, Tensor | Module):
                if "_buffers" not in vars(self):
                    raise ConfigError(f"{type(self).__name__}.{name}: call super().__init__() before the first layer or parameter is set")
                if isinstance(vars(self).get(name), Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
                    raise ConfigError(
                        f"{type(self).__name__}.{name} is a parameter, got a tensor of shape {value.shape}, which no optimiser would "
                        f"find: set a tinylm.nn.Parameter, or write the values into it under tinylm.no_grad(), .{name}[...] = values"
                    )
            super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer computes of its arguments: each layer defines it. Call the layer itself, layer(x)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self: HasForward[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self.forward(*args, **kwargs)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds state that is not trained: moved by `to` and, if persistent, saved."""
        self._buffers[name] = persistent
        setattr(self, name, tensor)

    # ---- walking

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """Yields the modules among the attributes, by name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yields this module ("") and all below it, by path."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator["Module"]:
        """Returns this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """Yields every parameter and persistent buffer by path, tied ones once per path."""
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) or (isinstance(value, Tensor) and module._buffers.get(name, False)):
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yields each parameter once, by its first path."""
        seen: set[int] = set()
        for name, value in self.named_state():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Returns each parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yields every buffer by path, saved or not."""
        for path, module in self.named_modules():
            for name in module._buffers:
                value = getattr(module, name)
                if value is not None:
                    yield (f"{path}.{name}" if path else name), value

    def num_parameters(self) -> int:
        """Returns how many numbers the parameters have in total; tied weights count once."""
        return sum(p.size for p in self.parameters())

    # ---- state

    def state_dict(self) -> dict[str, Array]:
        """Returns copies of all parameters and persistent buffers by path, on their own device."""
        return {name: value.data.copy() for name, value in self.named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copies arrays (NumPy, CuPy, tensors, or CPU torch tensors) into the parameters and buffers by name.

        Nothing is written unless everything fits. Raises CheckpointError naming every missing,
        unexpected (both only if strict) and misshapen key, and the names of a tied tensor that were
        given different arrays.
        """
        own = dict(self.named_state())
        missing = [f"missing {name!r} {own[name].shape}" for name in own if strict and name not in state]
        unexpected = [f"unexpected {name!r:.80}" for name in state if strict and name not in own]
        unfit: list[str] = []
        arrays: dict[str, Any] = {}
        first: dict[int, str] = {}  # the name under which the values of a tensor came first
        for name in (name for name in own if name in state):
            value = state[name]
            try:
                array = as_array(value.detach().numpy() if hasattr(value, "detach") and not isinstance(value, Tensor) else value)
            except (TypeError, ShapeError) as error:  # PyTorch's bfloat16, or an array on its GPU
                unfit.append(f"unusable {name!r}: {error!s:.100}")
                continue
            if tuple(array.shape) != own[name].shape:
                unfit.append(f"misshapen {name!r}: {tuple(array.shape)}, expected {own[name].shape}")
                continue
            arrays[name] = array
            before = first.setdefault(id(own[name].data), name)
            if not (array is arrays[before] or _equal(array, arrays[before], own[name])):
                unfit.append(f"{before!r} and {name!r} are tied, one tensor under two names, but were given different arrays")
        if problems := [kind for kind in (missing, unexpected, unfit) if kind]:
            told = "; ".join(listed(kind, 320 // len(problems)) for kind in problems)  # some of each
            raise CheckpointError(f"the state does not fit {type(self).__name__}: {told}")
        for name, array in arrays.items():
            target = own[name]
            if array is target.data:
                continue
            target.data[...] = to_device(array, target.device).astype(target.dtype, copy=False)
            target.bump_version()

    def to(self, device: str | None = None, dtype: Any = None) -> Self:
        """Moves parameters, their gradients and buffers to a device and floating dtype, in place. Returns self.

        Raises ConfigError for a dtype that is not floating, DeviceError for a device that is not available.
        """
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise ConfigError(f"dtype {np.dtype(dtype)} for {type(self).__name__}: expected a floating one")
        for module in self.modules():
            for name, value in vars(module).items():
                if (isinstance(value, Parameter) or name in module._buffers) and value is not None:
                    _convert(value, device, dtype)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets training mode (dropout active), or evaluation mode for False. Returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode: dropout does nothing. Returns self."""
        return self.train(False)

    def apply(self, fn: Callable[["Module"], Any]) -> Self:
        """Calls fn(module) on every module below, then on this one. Returns self."""
        for child in dict(self.named_children()).values():
            child.apply(fn)
        fn(self)
        return self

    def zero_grad(self) -> None:
        """Sets all gradients to None."""
        for p in self.parameters():
            p.grad = None

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        body = "".join(f"\n  {line}" for line in children)
        return f"{type(self).__name__}({self.extra_repr()}{body}{chr(10) if body else ''})"

    def extra_repr(self) -> str:
        """Returns the settings shown by repr."""
        return ""


def _equal(array: Array, other: Array, target: Tensor) -> bool:
    """Whether two arrays of one shape are the same values, a NaN included, in the dtype of the tensor that they are for."""
    a, b = (to_device(x, target.device).astype(target.dtype, copy=False) for x in (array, other))
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _convert(tensor: Tensor, device: str | None, dtype: Any) -> None:
    def converted(array: Array) -> Array:
        if dtype is not None and array.dtype.kind == "f":
            array = array.astype(dtype, copy=False)
        return array if device is None else to_device(array, device)

    data = converted(tensor.data)
    if data is tensor.data:
        return
    tensor.data = data
    tensor.grad = None if tensor.grad is None else converted(tensor.grad)
    tensor.grad_buffer = None
    tensor.bump_version()


Item = TypeVar("Item", bound=Module)


class ModuleList(Module, Generic[Item]):
    """Modules by position: the names are "0", "1", ..."""

    def __init__(self, modules: Iterable[Item] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Item) -> None:
        """Adds a module at the end. Raises ConfigError for anything else, such as a class or a function."""
        if not isinstance(module, Module):
            called = getattr(module, "__name__", type(module).__name__)
            made = f"a module made of it, {called}(...)"
            hint = made if isinstance(module, type) else "a layer of tinylm.nn, or a Module with it in its forward"
            raise ConfigError(f"{type(self).__name__}: number {len(self)} is {called}, which is no module: expected {hint}")
        setattr(self, str(len(self)), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Item]:
        return (child for _, child in self.named_children())  # type: ignore[misc] # append takes no others

    def __getitem__(self, index: int) -> Item:
        return list(self)[index]


class Sequential(ModuleList[Module]):
    """Modules applied one after the other.

    >>> model = tinylm.nn.Sequential(tinylm.nn.Linear(3, 8), tinylm.nn.Tanh(), tinylm.nn.Linear(8, 2))
    >>> model(tinylm.Tensor(np.zeros((5, 3), np.float32))).shape
    (5, 2)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the last module makes of what those before it made of x."""
        for module in self:
            x = module(x)
        return x
