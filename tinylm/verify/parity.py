"""A layer or model of tinylm beside its PyTorch twin: the same values and gradients, layer by layer.

PyTorch is imported when a comparison is made, so tinylm.verify itself does not need it.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.engine.devices import to_device
from tinylm.engine.grad import grad
from tinylm.errors import ConfigError
from tinylm.nn import Module
from tinylm.verify.batches import called, floating_arguments, members, named_arguments
from tinylm.verify.compared_arrays import TOLERANCES, compared, mismatches, missing, together
from tinylm.verify.jacobians import flatten, gradients
from tinylm.verify.layer_calls import Call, matched, recorded, recorded_in_torch
from tinylm.verify.reports import Report, Row, joint_norm


def compare(
    model: Module,
    torch_model: Any,
    batch: Sequence[Any] | Mapping[str, Any],
    *,
    dtype: str = "float64",
    tolerance: float | None = None,
    seed: int = 0,
) -> Report:
    """Runs a tinylm model and a PyTorch model with the same weights on the same batch.

    model takes over torch_model's state dict, whose names must be its own. The runs are made on
    copies of both in dtype, in torch_model's training mode, so that neither's dtype nor gradients
    change; dropout must be off (p = 0 or eval mode), since PyTorch draws other masks.
    batch: the arguments of both, NumPy arrays, tuples of them or None, by position or (a mapping) by
    name. Compared are the output of every module that both call under one name, then, under random
    cotangents for all floating outputs, the gradient of every named parameter, what each module sends
    back to its first input, and the gradient of every floating argument. The rows go the way of the
    data, forward and then back, so the first failure shows where the two part.
    tolerance: 1e-10 in float64, 1e-5 in float32. Names or shapes in which the models differ are listed
    as failures, and nothing is run. Errors: ConfigError for another dtype.
    """
    if dtype not in TOLERANCES:
        raise ConfigError(f"compare: dtype {dtype!r}: expected 'float64' or 'float32'")
    import torch

    title = f"{type(model).__name__} against PyTorch" + (f" in {dtype}" if dtype != "float64" else "")
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    rows = mismatches(
        {name: t.shape for name, t in model.named_state()}, {name: tuple(t.shape) for name, t in torch_model.state_dict().items()}
    )
    if rows:
        return Report(title, tolerance, tuple(rows), ("names or shapes of the state differ: nothing was run",))
    model.load_state_dict(torch_model.state_dict())
    ours, theirs = copy.deepcopy(model).to(dtype=dtype), copy.deepcopy(torch_model).to(getattr(torch, dtype))
    ours.load_state_dict(theirs.state_dict())
    ours.train(torch_model.training)
    device = next((p.device for p in ours.parameters()), "cpu")
    arguments = named_arguments(batch, device, dtype)
    their_arguments = in_torch(batch, dtype)
    with recorded(ours) as calls:
        y = list(members(called(ours, batch, arguments)))
    with recorded_in_torch(theirs) as their_calls:
        r = list(members(called(theirs, batch, their_arguments)))
    pairs = matched(calls, their_calls, theirs)
    rows = [*_layers(pairs), *_outputs(y, r)]
    if [t.shape for t in y] == [tuple(t.shape) for t in r]:
        wanted = _wanted(ours, theirs, calls, pairs, arguments, their_arguments)
        rows += _gradients(wanted, y, r, np.random.default_rng(seed))
    return Report(title, tolerance, tuple(rows))


def model_gradients(model: Module, batch: Any, *, dtype: str = "float64", seed: int = 0) -> dict[str, np.ndarray]:
    """The gradients that `compare` holds against PyTorch, by parameter: of cᵀ (all floating outputs), c being drawn from
    default_rng(seed).standard_normal; zeros for a parameter that took no part."""
    ours = copy.deepcopy(model).to(dtype=dtype)
    device = next((p.device for p in ours.parameters()), "cpu")
    y = flatten([t for t in members(called(ours, batch, named_arguments(batch, device, dtype))) if t.dtype.kind == "f"])
    c = np.random.default_rng(seed).standard_normal(y.size).astype(dtype)
    named = dict(ours.named_parameters())
    return {k: g.numpy() for k, g in zip(named, gradients(y, list(named.values()), to_device(c, device)), strict=True)}


Wanted = list[tuple[str, Any, Any]]  # the name of a gradient, our tensor and theirs


def in_torch(batch: Any, dtype: str) -> dict[str, Any]:
    """The arguments by position or name as PyTorch's tensors; an array given twice is one."""
    from tinylm.verify.torch.reference import to_torch

    named = dict(batch) if isinstance(batch, Mapping) else {str(i): x for i, x in enumerate(batch)}
    once = {id(x): to_torch(x, dtype) for x in named.values()}
    return {k: once[id(x)] for k, x in named.items()}


def _layers(pairs: list[tuple[Call, Call]]) -> list[Row]:
    """The outputs of the modules, in the order in which they ended."""
    rows = []
    for ours, theirs in pairs:
        several = len(ours.outputs) > 1
        for i, (a, b) in enumerate(zip(ours.outputs, theirs.outputs, strict=False)):
            name = f"output {i} of {ours.name}" if several else f"output of {ours.name}"
            if a.shape == tuple(b.shape):
                value = b.numpy(force=True)
                rows.append(compared(name, a.numpy(), value, 1e-3 * float(np.linalg.norm(value))))
            else:
                rows.append(missing(name, f"shape {a.shape} in tinylm, {tuple(b.shape)} in PyTorch"))
    return rows


def _outputs(y: list[Any], r: list[Any]) -> list[Row]:
    """The outputs side by side; a failure for each that one side lacks, or has in another shape."""
    ours, theirs = ({f"output {i}": tuple(t.shape) for i, t in enumerate(side)} for side in (y, r))
    wrong = {row.name: row for row in mismatches(ours, theirs)}
    same = [
        (f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=False)) if f"output {i}" not in wrong
    ]
    return [*wrong.values(), *together(same)]


def _wanted(
    ours: Module, theirs: Any, calls: list[Call], pairs: list[tuple[Call, Call]], arguments: dict[str, Any], their_arguments: dict[str, Any]
) -> Wanted:
    """What to differentiate in, the way back: of the module that began last first its parameters, then its input."""
    started = {call.name: call.started for call in reversed(calls)}
    torch_parameters = dict(theirs.named_parameters())
    found: list[tuple[int, int, str, Any, Any]] = []
    for name, p in reversed(list(ours.named_parameters())):
        path = name.rpartition(".")[0]
        while path and path not in started:  # a module that is not called itself, but used by the one around it
            path = path.rpartition(".")[0]
        found.append((started.get(path, -1), 0, f"gradient of {name}", p, torch_parameters[name]))
    for a, b in pairs:
        if a.inputs:
            found.append((a.started, 1, f"gradient through {a.name}", a.inputs[0], b.inputs[0]))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    theirs_by_name = [t for x in their_arguments.values() for t in members(x)]
    ours_by_name = [t for x in arguments.values() for t in members(x)]
    partners = {id(a): b for a, b in zip(ours_by_name, theirs_by_name, strict=True)}
    last = [(f"gradient of {name}", x, partners[id(x)]) for name, x in floating_arguments(arguments)]
    return [(name, x, t) for _, _, name, x, t in found] + last


def _gradients(wanted: Wanted, y: list[Any], r: list[Any], rng: np.random.Generator) -> list[Row]:
    """The gradients of cᵀ (all floating outputs) for a random c. What flows through modules is measured by
    itself: parameters collect many such gradients, and are larger."""
    import torch

    floating = [i for i, t in enumerate(y) if t.dtype.kind == "f"]
    if not floating or not wanted:
        return []
    joined, expected = flatten([y[i] for i in floating]), torch.cat([r[i].reshape(-1) for i in floating])
    c = rng.standard_normal(joined.size).astype(joined.dtype)
    xs, ts = [x for _, x, _ in wanted], [t for _, _, t in wanted]
    ours: Sequence[Any] = [None] * len(xs)
    if joined.requires_grad:
        ours = grad(joined, xs, to_device(c, joined.device))
    theirs: Sequence[Any] = [None] * len(ts)
    if expected.requires_grad:
        theirs = torch.autograd.grad(expected, ts, torch.from_numpy(c), allow_unused=True)
    triples = []
    for (name, x, _), g, h in zip(wanted, ours, theirs, strict=True):
        zero = np.zeros(x.shape, c.dtype)
        triples.append((name, zero if g is None else g.numpy(), zero if h is None else h.numpy(force=True)))
    norms = {through: joint_norm([b for name, _, b in triples if ("through" in name) is through]) for through in (True, False)}
    return [compared(name, a, b, norms["through" in name]) for name, a, b in triples]
