"""tinylm beside PyTorch: the same values and the same gradients, for an op or for a whole model.

PyTorch is imported when a comparison is made, so tinylm.verify itself does not need it.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinylm import backend, ops
from tinylm.autograd import grad
from tinylm.errors import ShapeError
from tinylm.kernel_registry import registry
from tinylm.nn import Module
from tinylm.tensor import Tensor
from tinylm.verify.jacobians import flatten
from tinylm.verify.reports import Report, Row, joint_norm, relative_error
from tinylm.verify.samples import Sample
from tinylm.verify.torch_reference import to_torch, torch_reference

TOLERANCES = {1: 1e-10, 2: 1e-9}  # by order, in float64


def compare(
    model: Module, torch_model: Any, batch: Sequence[Any] | Mapping[str, Any], *, tolerance: float = TOLERANCES[1], seed: int = 0
) -> Report:
    """Runs a tinylm model and a PyTorch model with the same weights on the same batch, in float64.

    model takes over torch_model's state dict, whose names must be its own. The runs are made on
    float64 copies of both, in torch_model's training mode, so that neither's dtype nor gradients
    change; dropout must be off (p = 0 or eval mode), since PyTorch draws other masks.
    batch: the arguments of both, NumPy arrays, tuples of them or None, by position or (a mapping) by
    name. Under random cotangents for all floating outputs, the gradient of every named parameter and
    of every floating argument is compared. The rows go the way of the data: outputs, then gradients
    from the last parameter back to the first, so the first failure shows where the two part.
    Errors: CheckpointError when the state does not fit, ShapeError when the outputs do not.
    """
    model.load_state_dict(torch_model.state_dict())
    ours, theirs = copy.deepcopy(model).to(dtype="float64"), copy.deepcopy(torch_model).double()
    ours.load_state_dict(theirs.state_dict())
    ours.train(torch_model.training)

    by_name = isinstance(batch, Mapping)
    named = dict(batch) if isinstance(batch, Mapping) else {str(i): x for i, x in enumerate(batch)}
    device = next((p.device for p in ours.parameters()), "cpu")
    once = {id(x): (_tensor(x, device), to_torch(x)) for x in named.values()}  # an array given twice is one tensor
    our_args = {k: once[id(x)][0] for k, x in named.items()}
    their_args = {k: once[id(x)][1] for k, x in named.items()}
    y = list(_members(ours(**our_args) if by_name else ours(*our_args.values())))
    r = list(_members(theirs(**their_args) if by_name else theirs(*their_args.values())))
    pairs = _outputs(y, r)

    xs: dict[str, Tensor] = {f"gradient of {name}": p for name, p in reversed(list(ours.named_parameters()))}
    ts = {f"gradient of {name}": p for name, p in theirs.named_parameters()}
    for k, x in our_args.items():
        pairs_of_k = list(zip(_members(x), _members(their_args[k]), strict=True))
        for i, (a, b) in enumerate(pairs_of_k):
            if isinstance(a, Tensor) and a.requires_grad:
                name = f"gradient of argument {k}" + (f"[{i}]" if len(pairs_of_k) > 1 else "")
                xs[name], ts[name] = a, b
    names = list(xs)
    gradients = _gradients(names, y, r, list(xs.values()), [ts[name] for name in names], order=1, rng=np.random.default_rng(seed))
    return Report(f"{type(model).__name__} against PyTorch", tolerance, (*_rows(pairs), *_rows(gradients)))


def compare_op(name: str, sample: Sample, *, order: int = 1, device: str = "cpu", seed: int = 0) -> Report:
    """An op beside its PyTorch reference on one sample, in float64: values and the gradients under
    random cotangents. With order 2 instead the gradients of those gradients, in the arguments and in
    the cotangent, by `create_graph` and by PyTorch's double backward.
    """
    count = registry[name].count  # behind the arrays come settings by position
    ours = [_tensor(a, device) for a in sample.args]
    theirs = [*map(to_torch, sample.args[:count]), *sample.args[count:]]
    y = list(_members(getattr(ops, name)(*ours, **sample.settings)))
    r = list(_members(torch_reference(name)(*theirs, **sample.settings)))
    pairs = _outputs(y, r)
    wanted = [
        (f"argument {i}", x, t)
        for i, (x, t) in enumerate(zip(_members(ours[:count]), _members(theirs[:count]), strict=True))
        if isinstance(x, Tensor) and x.requires_grad
    ]
    names = [f"{'second ' * (order == 2)}gradient of {label}" for label, _, _ in wanted]
    gradients = _gradients(names, y, r, [x for _, x, _ in wanted], [t for _, _, t in wanted], order, np.random.default_rng(seed))
    rows = (*_rows(pairs), *_rows(gradients)) if order == 1 else _rows(gradients)
    return Report(f"{name}, {sample.note} (order {order})", TOLERANCES[order], tuple(rows))


Pair = tuple[str, Any, Any]  # a name, a NumPy array of ours and one of theirs


def _tensor(x: Any, device: str) -> Any:
    """A tensor that requires a gradient for a floating array, the array on the device for others;
    lists and tuples (indices) member by member, anything else as it is."""
    if isinstance(x, (list, tuple)):
        return type(x)(_tensor(member, device) for member in x)
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.kind != "f":
        return backend.to_device(x, device)
    return Tensor(backend.to_device(x.astype(np.float64), device), requires_grad=True)


def _members(x: Any) -> Iterator[Any]:
    """What nested tuples, lists and mappings hold, without the Nones."""
    if isinstance(x, Mapping):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        for member in x:
            yield from _members(member)
    elif x is not None:
        yield x


def _outputs(y: list[Any], r: list[Any]) -> list[Pair]:
    """The outputs side by side; ShapeError unless they agree in number and shapes."""
    shapes, expected = [t.shape for t in y], [tuple(t.shape) for t in r]
    if shapes != expected:
        raise ShapeError(f"the outputs have shapes {shapes}, PyTorch's {expected}")
    return [(f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=True))]


def _gradients(
    names: list[str], y: list[Any], r: list[Any], xs: list[Any], ts: list[Any], order: int, rng: np.random.Generator
) -> list[Pair]:
    """The gradients of cᵀ (all floating outputs) for a random c, or of c'ᵀ (those gradients)."""
    import torch

    floating = [i for i, t in enumerate(y) if t.dtype.kind == "f"]
    if not floating or not xs:
        return []
    joined, expected = flatten([y[i] for i in floating]), torch.cat([r[i].reshape(-1) for i in floating])
    for level in range(1, order + 1):
        c = rng.standard_normal(joined.size)
        cotangent = Tensor(backend.to_device(c, joined.device), requires_grad=True)
        their_cotangent = torch.tensor(c, requires_grad=True)
        again = level < order
        ours = grad(joined, xs, cotangent, create_graph=again) if joined.requires_grad else [None] * len(xs)
        theirs: Sequence[Any] = [None] * len(xs)
        if expected.requires_grad:
            theirs = torch.autograd.grad(expected, ts, their_cotangent, create_graph=again, allow_unused=True)
        if again:
            joined = flatten([x * 0 if g is None else g for g, x in zip(ours, xs, strict=True)])
            expected = torch.cat([(t * 0 if g is None else g).reshape(-1) for g, t in zip(theirs, ts, strict=True)])
            names, xs, ts = [*names, "second gradient of the cotangent"], [*xs, cotangent], [*ts, their_cotangent]
    zeros = [np.zeros(x.shape) for x in xs]
    return [
        (name, z if g is None else g.numpy(), z if h is None else h.numpy(force=True))
        for name, z, g, h in zip(names, zeros, ours, theirs, strict=True)
    ]


def _rows(pairs: list[Pair]) -> list[Row]:
    """A row for each pair, with the element where the two differ most."""
    norm, rows = joint_norm([b for _, _, b in pairs]), []
    for name, a, b in pairs:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        detail = ""
        if a.size:
            i = tuple(int(n) for n in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
            detail = f"worst at {list(i)}: {a[i]:.10g} by tinylm, {b[i]:.10g} by PyTorch"
        rows.append(Row(name, relative_error(a, b, norm), detail))
    return rows
