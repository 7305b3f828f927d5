"""Tensor: an array, its gradient, and the node that made it.

The arithmetic operators and NumPy-named methods are installed by `tinylm.ops`; their types are in `tensor_methods.pyi`.
"""

import opcode
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinylm.checks import shown
from tinylm.engine import autograd
from tinylm.engine.array_summaries import short_html
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import device_namespace, device_of, to_numpy
from tinylm.engine.numpy_names import METHODS, PyTorchName
from tinylm.engine.stored_weights import StoredWeights
from tinylm.errors import AutogradError, ShapeError

if TYPE_CHECKING:
    from tinylm.engine.tensor_methods import TensorMethods
else:
    TensorMethods = object


class Tensor(TensorMethods):
    """An array that remembers how it was computed.

    array: a NumPy or CuPy array, shared and not copied unless its bytes are in the other order; or a tensor (its array is shared), a
    number or nested lists, where Python floats give float32. requires_grad: `backward` will fill
    `.grad` (an array like `.data`).
    Raises ShapeError if integers are to require a gradient, or if `array` is no array of numbers.

    >>> w = tinylm.Tensor([2.0, 3.0], requires_grad=True)
    >>> loss = (w * w).sum()
    >>> loss.backward()
    >>> w.grad
    array([4., 6.], dtype=float32)
    """

    __slots__ = ("__weakref__", "data", "grad", "grad_buffer", "node", "output", "requires_grad", "version_cell")
    __array_ufunc__ = None  # NumPy leaves numpy_array + tensor to the tensor

    data: Array
    """the values, a NumPy or CuPy array"""
    grad: Array | None
    """the gradient, an array like `data`; None before the first backward pass that reaches this leaf"""
    node: autograd.Node | None
    """the application of an op that made this tensor; None for a leaf"""

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        data = as_array(array)
        if requires_grad and data.dtype.kind != "f":
            raise ShapeError(f"only floating tensors can require gradients, not {data.dtype}: convert with .astype(np.float32)")
        self.data = data
        self.grad = None
        self.grad_buffer: Array | None = None
        """where an optimiser wants the gradient to be written"""
        self.requires_grad = requires_grad
        """whether a backward pass computes a gradient for it or through it"""
        self.node = None
        self.output = 0
        """which of the node's outputs this is"""
        self.version_cell: list[int] = [0]
        """when it was last written in place; views share the list"""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis; () for a single number."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements, such as float32."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.data.size

    @property
    def device(self) -> str:
        """Returns "cpu" or "cuda:N"."""
        return device_of(self.data)

    @property
    def version(self) -> int:
        """Grows with every sanctioned in-place write to this tensor or one that shares its memory; 0 at first."""
        return self.version_cell[0]

    def numpy(self) -> np.ndarray:
        """Returns the values as a NumPy array; on the CPU it shares the memory, so do not write to it."""
        return to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns the values, for np.asarray(tensor). Raises AutogradError if a gradient would be lost in silence."""
        if self.requires_grad and autograd.mode.recording:
            raise AutogradError(
                f"NumPy would lose the gradient of this tensor (shape {self.shape}): call tinylm's function of the same name, "
                "or use .numpy() for the values alone"
            )
        return np.array(self.numpy(), dtype, copy=copy)

    def item(self) -> Any:
        """Returns the Python number of a tensor with one element. Raises ShapeError for any other.

        >>> tinylm.Tensor([[2.5]]).item()
        2.5
        """
        if self.size != 1:
            raise ShapeError(f"item() needs a tensor with one element, this one has shape {self.shape}: use .numpy(), or .mean() first")
        return self.numpy().item()

    def detach(self) -> "Tensor":
        """Returns a tensor with the same array, without the graph."""
        out = Tensor(self.data)
        out.version_cell = self.version_cell
        return out

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Adds dy/dx to x.grad for every leaf x that requires a gradient and took part in this tensor, y.

        gradient: the cotangent of y, which is the gradient of the final result with respect to y: an array or tensor of y's shape
        (...). It may be left out if y has one element: it is 1 then, as for a loss. With it, x.grad grows by Σ_i gradient_i ∂y_i/∂x, of
        x's shape. The graph is freed as it is consumed unless `retain_graph`, so a second backward through it is an error.
        Raises AutogradError if y has no graph, the graph was freed, or a value was written in place since; ShapeError or
        DeviceError if the cotangent's shape or device is not y's.

        >>> x = tinylm.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> (x**2).sum().backward()
        >>> x.grad  # 2 x
        array([2., 4., 6.], dtype=float32)
        >>> (x**2).backward([1.0, 0.0, 0.0])  # adds 2 x times the cotangent
        >>> x.grad
        array([4., 4., 6.], dtype=float32)
        """
        autograd.backward(self, gradient, retain_graph)

    @staticmethod
    def as_tensor(x: Any) -> "Tensor":
        """Returns x itself if it is a tensor, else a tensor around the array."""
        return x if isinstance(x, Tensor) else Tensor(x)

    def bump_version(self) -> None:
        """Records that the array was written in place: a backward pass that needs the old value then fails."""
        self.version_cell[0] = next(autograd.clock)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Writes in place, outside of the graph. Raises AutogradError if a gradient would be lost in silence."""
        if self.requires_grad and autograd.mode.recording:
            if self.node is not None:
                raise AutogradError(
                    f"in-place write to a result of the graph, {self.node.op.name} of shape {self.shape}: its gradient may need the old "
                    "values; make a new tensor, such as tinylm.where(mask, value, x), or write into a copy, x.detach().numpy().copy()"
                )
            raise AutogradError(f"in-place write to a leaf that requires a gradient (shape {self.shape}): do it under tinylm.no_grad()")
        if getattr(value, "requires_grad", False) and autograd.mode.recording:
            raise AutogradError("in-place write of a value that requires a gradient: it would be lost; use where or concatenate")
        self.data[raw_index(key)] = value.data if isinstance(value, Tensor) else value
        self.bump_version()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return map(self.__getitem__, range(self.shape[0]))

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ShapeError(f"the truth value of a tensor of shape {self.shape} is ambiguous: ask for .any() or .all() of its elements")
        return bool(_asked(self))

    def __float__(self) -> float:
        return float(_one_element(self, "float"))

    def __int__(self) -> int:
        return int(_one_element(self, "int"))

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not isinstance(vars(Tensor).get(name), PyTorchName)]

    def __repr__(self) -> str:
        grad = ", requires_grad=True" if self.requires_grad else ""
        where = "" if self.device == "cpu" else f", device={self.device!r}"
        ends = 3 if self.ndim < 4 else 2 if self.ndim == 4 else 1  # NumPy shows so many at both ends of each axis of a large array
        body = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", edgeitems=ends)
        return f"Tensor({body}, dtype={self.dtype}{where}{grad})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: a small tensor whole, a large one by its statistics and a heat map."""
        grad = ", requires a gradient" if self.requires_grad else ""
        return short_html(self.numpy(), f"Tensor {self.shape}, {self.dtype} on {self.device}{grad}")

    __hash__ = object.__hash__  # == is elementwise, yet tensors serve as keys by identity


_STORE = opcode.opmap["STORE_SUBSCR"]  # the instruction for out[i] = x


def _asked(x: Tensor, frames: int = 2) -> np.ndarray:
    """Returns the values of x for one of its methods that give a number.

    Raises AutogradError if a gradient would be lost in silence: if not a function such as float(x) asks for the number but an
    array that x is written into, out[i] = x.
    """
    if x.requires_grad and autograd.mode.recording:
        caller = sys._getframe(frames)
        if caller.f_code.co_code[caller.f_lasti] == _STORE:
            raise AutogradError(
                f"out[i] = x would lose the gradient of x (shape {x.shape}): collect the tensors in a list and join them with "
                "tinylm.stack or tinylm.concatenate, or write x.item() for the number alone"
            )
    return x.numpy()


def _one_element(x: Tensor, name: str) -> np.ndarray:
    """Returns the value of x as an array without axes. Raises TypeError for more than one element."""
    values = _asked(x, 3)
    if values.ndim:
        raise TypeError(f"{name}() needs a tensor with one element and no axes, this one has shape {x.shape}: use .item() or .numpy()")
    return values


def raw_index(key: Any) -> Any:
    """Returns an index with its tensors and lists replaced by arrays."""
    if isinstance(key, tuple):
        return tuple(raw_index(k) for k in key)
    if isinstance(key, Tensor):
        return key.data
    return np.asarray(key, dtype=None if len(key) else np.int64) if isinstance(key, list) else key


for _name in METHODS:
    setattr(Tensor, _name, PyTorchName(_name))


def as_array(x: Any) -> Array:
    """Returns the array of a tensor, an array itself, or numbers made into one (Python floats: float32)."""
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, StoredWeights):
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        array: Array = np.asarray(x)
    elif array_module(x) is not device_namespace("cpu"):
        return x  # an array of another module
    else:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise ShapeError(f"cannot make an array of {type(x).__name__}, since its members differ in shape: {error}") from error
        if array.dtype == np.float64:
            array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        hint = '; encode text as token ids first, tokenizer.encode(text), or print it as f"{x}"' if array.dtype.kind in "US" else ""
        raise ShapeError(f"a tensor holds numbers, got {type(x).__name__} of dtype {array.dtype}: {shown(x)}{hint}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
