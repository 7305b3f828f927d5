"""PyTorch's names that tinylm has under NumPy's: whoever uses one is told the other."""

from collections.abc import Iterable
from difflib import get_close_matches

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


def missing_name(name: str, known: Iterable[str]) -> str:
    """Returns the line for an attribute that a tensor does not have: what it is called here, or a name that is spelt almost like it."""
    line = f"'Tensor' object has no attribute {name!r}"
    if name.startswith("__"):
        return line
    if name in METHODS:
        return f"{line}: as in NumPy, write {METHODS[name]}"
    close = get_close_matches(name, [k for k in known if not k.startswith("_")], 1, 0.8)
    return f"{line}: did you mean {close[0]!r}?" if close else line
