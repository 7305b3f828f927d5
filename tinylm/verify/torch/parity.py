"""Compares a layer or model with its PyTorch twin: the same values and gradients, layer by layer. Importing this file imports PyTorch."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tinylm.errors import ConfigError
from tinylm.nn import Module
from tinylm.verify.arguments import floating_arguments, members, named_arguments, outputs_of, prepared
from tinylm.verify.compared_arrays import TOLERANCES, compared, compared_arrays, mismatches, missing
from tinylm.verify.reports import Report, Row, joint_norm
from tinylm.verify.torch.gradients import Wanted, paired_gradients
from tinylm.verify.torch.layer_calls import Call, matched, recorded, recorded_in_torch
from tinylm.verify.torch.reference import in_torch
from tinylm.verify.torch.structure import compared_structure, take_weights, tie


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
    name. Compared are the output of every module that both call under one name; then, under random
    cotangents for all floating outputs, the gradient of every named parameter, of each module's first
    input, and of every floating argument. The rows follow the data forward and then the gradients
    backward, so the first failure shows where the two diverge.
    tolerance: 1e-10 in float64, 1e-5 in float32. Names or shapes in which the models differ are listed
    as failures, and nothing is run; a buffer that one of them lacks is only a remark. Parameters that are tied
    in one of them alone are a failure, and all else is compared with that tie on both sides. Raises ConfigError
    for another dtype.
    """
    if dtype not in TOLERANCES:
        raise ConfigError(f"compare: dtype {dtype!r}: expected 'float64' or 'float32'")
    title = f"{type(model).__name__} against PyTorch" + (f" in {dtype}" if dtype != "float64" else "")
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    structure = compared_structure(model, torch_model)
    if not structure.comparable:
        return Report(title, tolerance, structure.rows, structure.remarks)
    take_weights(model, torch_model, structure.shared)
    theirs = copy.deepcopy(torch_model).to(getattr(torch, dtype))
    ours, arguments = prepared(model, batch, dtype)
    for names in structure.tied:
        tie(ours, names)
        tie(theirs, names)
    take_weights(ours, theirs, structure.shared)
    ours.train(torch_model.training)
    their_arguments = named_arguments(batch, lambda x: in_torch(x, dtype))
    with recorded(ours) as calls:
        y = outputs_of(ours, batch, arguments)
    with recorded_in_torch(theirs) as their_calls:
        r = outputs_of(theirs, batch, their_arguments)
    pairs = matched(calls, their_calls, theirs)
    rows = [*structure.rows, *_layers(pairs), *_outputs(y, r)]
    if [t.shape for t in y] == [tuple(t.shape) for t in r]:
        wanted = _wanted(ours, theirs, calls, pairs, arguments, their_arguments)
        found = paired_gradients(wanted, y, r, np.random.default_rng(seed))
        # Gradients through modules have a norm of their own: parameters collect many of them, and are larger.
        norms = {through: joint_norm([b for name, _, b in found if ("through" in name) is through]) for through in (True, False)}
        rows += [compared(name, a, b, norms["through" in name]) for name, a, b in found]
    return Report(title, tolerance, tuple(rows), structure.remarks)


def _layers(pairs: list[tuple[Call, Call]]) -> list[Row]:
    """Rows of the modules' outputs, in the order in which they ended."""
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
    """Rows of the outputs; a failure for each that one side lacks, or has in another shape."""
    ours, theirs = ({f"output {i}": tuple(t.shape) for i, t in enumerate(side)} for side in (y, r))
    wrong = {row.name: row for row in mismatches(ours, theirs)}
    same = [
        (f"output {i}", a.numpy(), b.numpy(force=True)) for i, (a, b) in enumerate(zip(y, r, strict=False)) if f"output {i}" not in wrong
    ]
    return [*wrong.values(), *compared_arrays(same)]


def _wanted(
    ours: Module, theirs: Any, calls: list[Call], pairs: list[tuple[Call, Call]], arguments: dict[str, Any], their_arguments: dict[str, Any]
) -> Wanted:
    """The tensors to differentiate in, in the order of the backward pass: the modules from last to first, of each its parameters, then
    its input."""
    started = {call.name: call.started for call in reversed(calls)}
    torch_parameters = dict(theirs.named_parameters(remove_duplicate=False))
    found: list[tuple[int, int, str, Any, Any]] = []
    for name, p in reversed(list(ours.named_parameters())):
        path = name.rpartition(".")[0]
        while path and path not in started:  # a module that is not called itself, but used by the one around it
            path = path.rpartition(".")[0]
        if name in torch_parameters:  # else a buffer, which `compared_structure` reports
            found.append((started.get(path, -1), 0, f"gradient of {name}", p, torch_parameters[name]))
    for a, b in pairs:
        if a.inputs:
            found.append((a.started, 1, f"gradient through {a.name}", a.inputs[0], b.inputs[0]))
    found.sort(key=lambda entry: (-entry[0], entry[1]))
    theirs_by_name = [t for x in their_arguments.values() for t in members(x)]
    ours_by_name = [t for x in arguments.values() for t in members(x)]
    partners = {id(a): b for a, b in zip(ours_by_name, theirs_by_name, strict=True)}
    last = [(f"gradient of {name}", x, partners[id(x)]) for name, x in floating_arguments(arguments, ours)]
    return [(name, x, t) for _, _, name, x, t in found] + last
