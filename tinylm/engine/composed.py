"""Derivatives of the derivatives of an op whose body cannot run on tensors: through its twin, a function of small ops."""

from collections.abc import Callable, Sequence
from typing import Any

from tinylm.engine.arrays import array_module
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor


def composed_vjp(twin: Callable[..., Any], inputs: Sequence[Any], extra: tuple[Any, ...], settings: dict[str, Any]) -> Callable[..., Any]:
    """Returns the vjp of a function of small ops, with a graph of its own. The function is run on aliases of the inputs:
    its vjp stops at the aliases, and the derivative of the vjp, recorded on the outer graph, reaches the inputs."""
    ops = array_module(*inputs)
    aliases = [ops.identity(x) if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
    wanted = [x for x in aliases if isinstance(x, Tensor) and x.requires_grad]
    value = twin(*aliases, *extra, **settings)
    outputs = value if isinstance(value, tuple) else (value,)

    def joined(parts: Sequence[Any]) -> Tensor:
        return ops.concatenate([ops.reshape(y, (-1,)) for y in parts])  # several outputs: one walk for all

    def vjp(*dys: Any) -> list[Any]:
        found = iter(grad(joined(outputs), wanted, joined(dys), create_graph=True))
        return [next(found) if isinstance(x, Tensor) and x.requires_grad else None for x in aliases]

    return vjp
