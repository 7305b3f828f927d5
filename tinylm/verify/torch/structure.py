"""How a model and its PyTorch twin differ in their parameters, buffers and ties. Importing this file imports PyTorch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tinylm.errors import listed
from tinylm.nn import Module, Parameter
from tinylm.verify.compared_arrays import mismatches, missing, tied_names
from tinylm.verify.reports import Row


@dataclass(frozen=True)
class Structure:
    """What two models have in common, and what not."""

    shared: tuple[str, ...]  # the names in both states
    rows: tuple[Row, ...]  # a failure for each difference
    remarks: tuple[str, ...]
    tied: set[frozenset[str]]  # the names that are one parameter on one side only
    comparable: bool  # whether both can be run with the same weights


def compared_structure(model: Module, torch_model: Any) -> Structure:
    """Compares names, shapes, kinds and ties.

    A buffer that one side lacks, such as PyTorch's mask or frequencies, only makes a remark.
    """
    ours = dict(model.named_state())
    theirs = {name: t for name, t in torch_model.state_dict().items() if isinstance(t, torch.Tensor)}
    their_parameters = dict(torch_model.named_parameters(remove_duplicate=False))
    own_parameters = {name: t for name, t in ours.items() if isinstance(t, Parameter)}
    spare = [name for name in theirs if name not in ours and name not in their_parameters]
    own_spare = [name for name in ours if name not in theirs and name not in own_parameters]
    rows = mismatches(
        {name: t.shape for name, t in ours.items() if name not in own_spare},
        {name: tuple(t.shape) for name, t in theirs.items() if name not in spare},
    )
    remarks = ["names or shapes of the state differ: nothing was run", *_renamed(ours, theirs, rows)] if rows else []
    for names, side in ((spare, "PyTorch"), (own_spare, "tinylm")):
        remarks += [f"not compared, since only {side} has them: the buffers {listed(names)}"] if names else []
    shared = tuple(name for name in ours if name in theirs)
    tied: set[frozenset[str]] = set()
    comparable = not rows
    if comparable:
        for name in shared:
            if (name in own_parameters) is not (name in their_parameters):
                sides = ("tinylm", "PyTorch") if name in own_parameters else ("PyTorch", "tinylm")
                rows.append(missing(name, f"a parameter in {sides[0]}, a buffer in {sides[1]}: its gradient was not compared"))
        own_ties, their_ties = tied_names(own_parameters.items()), tied_names(their_parameters.items())
        for together in sorted(own_ties ^ their_ties, key=sorted):
            side, other = ("tinylm", "PyTorch") if together in own_ties else ("PyTorch", "tinylm")
            title = f"tie of {' and '.join(sorted(together))}"
            first, *others = (theirs[name] for name in sorted(together))
            if all(torch.equal(first, each) for each in others):
                rows.append(missing(title, f"one parameter in {side}, not in {other}"))
                tied.add(together)
            else:
                rows.append(missing(title, f"one parameter in {side}, different arrays in {other}"))
                comparable = False
        if tied or not comparable:
            remarks.append("all else was compared with the tie on both sides" if comparable else "ties differ: nothing was run")
    return Structure(shared, tuple(rows), tuple(remarks), tied, comparable)


def take_weights(model: Module, torch_model: Any, shared: Iterable[str]) -> None:
    """Copies the tensors that both have from PyTorch's model to ours."""
    state: Mapping[str, torch.Tensor] = torch_model.state_dict()
    model.load_state_dict({name: state[name] for name in shared}, strict=False)


def tie(model: Any, names: Iterable[str]) -> None:
    """Makes the parameters of these names one, in a model of tinylm or of PyTorch."""
    modules = dict(model.named_modules())
    first, *others = ((modules[path], name) for path, _, name in (each.rpartition(".") for each in sorted(names)))
    for module, name in others:
        setattr(module, name, getattr(*first))


def _renamed(ours: Mapping[str, Any], theirs: Mapping[str, Any], rows: Iterable[Row]) -> list[str]:
    """Returns a remark if what is missing on the two sides has the same shapes in the same order: then only the names differ."""
    wrong = {row.name for row in rows}
    a, b = ([name for name in own if name in wrong and name not in other] for own, other in ((ours, theirs), (theirs, ours)))
    if not a or [tuple(ours[name].shape) for name in a] != [tuple(theirs[name].shape) for name in b]:
        return []
    return [f"only the names seem to differ: {listed([f'{x} is {y} in PyTorch' for x, y in zip(a, b, strict=True)])}"]
