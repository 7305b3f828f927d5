"""The gradients of a layer or model against differences: in every parameter and every floating argument."""

import copy
from typing import Any

from tinylm.nn import Module
from tinylm.verify.batches import called, floating_arguments, members, named_arguments
from tinylm.verify.finite_differences import check
from tinylm.verify.reports import Report


def check_module(model: Module, batch: Any, **how: Any) -> Report:
    """gradcheck of model(*batch), or model(**batch) for a mapping, on a float64 copy of the model.

    batch: NumPy arrays, tuples of them or None. how: mode, order, tolerance, seed, thorough and
    taped_in, as gradcheck takes them. The rows bear the parameters' names.
    """
    ours = copy.deepcopy(model).to(dtype="float64")
    device = next((p.device for p in ours.parameters()), "cpu")
    arguments = named_arguments(batch, device)
    variables = [*ours.named_parameters(), *floating_arguments(arguments)]
    return check(lambda: list(members(called(ours, batch, arguments))), variables, type(model).__name__, **how)
