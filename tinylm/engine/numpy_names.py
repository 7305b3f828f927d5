"""PyTorch's names that tinylm has under NumPy's: whoever uses one is told the other."""

from typing import Any

METHODS = {
    "view": "x.reshape(...)",
    "permute": "x.transpose(...), with the axes in their new order",
    "unsqueeze": "tinylm.expand_dims(x, axis) or x.expand_dims(axis)",
    "cuda": 'x.to("cuda")',
    "cpu": 'x.to("cpu")',
    "t": "x.T",
    "mT": "x.swapaxes(-1, -2)",
    "dim": "x.ndim",
    "numel": "x.size",
    "expand": "x.broadcast_to(shape)",
    "expand_as": "x.broadcast_to(other.shape)",
    "view_as": "x.reshape(other.shape)",
    "contiguous": "x alone: ops take any memory order",
    "float": 'x.astype("float32")',
    "double": 'x.astype("float64")',
    "half": 'x.astype("float32"); there are no float16 tensors',
    "long": 'x.astype("int64")',
    "int": 'x.astype("int64")',
    "bool": 'x.astype("bool")',
    "clone": "tinylm.identity(x)",
    "tolist": "x.numpy().tolist()",
    "masked_fill": "tinylm.where(mask, value, x)",
    "scatter": "tinylm.scatter_add",
    "gather": "tinylm.gather(x, ...) or tinylm.take_along_axis(x, index, axis)",
    "index_select": "x.take(index, axis)",
    "chunk": "x.split(parts, axis)",
    "amax": "x.max(axis)",
    "amin": "x.min(axis)",
    "pow": "x ** n",
    "add_": "x = x + y",
    "mul_": "x = x * y",
    "sub_": "x = x - y",
    "div_": "x = x / y",
    "zero_": "x[...] = 0 under tinylm.no_grad()",
    "fill_": "x[...] = value under tinylm.no_grad()",
    "copy_": "x[...] = value under tinylm.no_grad()",
    "requires_grad_": "x.requires_grad = True",
    "detach_": "x = x.detach()",
}
FUNCTIONS = {
    "cat": "concatenate",
    "permute": "transpose",
    "unsqueeze": "expand_dims",
    "tensor": "Tensor",
    "from_numpy": "Tensor",
    "view": "reshape",
    "bmm": "matmul",
    "mm": "matmul",
    "mul": "multiply",
    "sub": "subtract",
    "div": "divide",
    "pow": "power",
    "clamp": "clip",
    "chunk": "split",
    "index_select": "take",
}


class PyTorchName:
    """A method of PyTorch's tensors that tinylm's lack: whoever asks for it is told what it is called here.

    A descriptor for each name costs nothing elsewhere; a __getattr__ would make every attribute of every tensor slower.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, kind: type) -> Any:
        raise AttributeError(f"'Tensor' object has no attribute {self.name!r}: as in NumPy, write {METHODS[self.name]}")
