"""The gradients of a layer or model: checked against finite differences, or as arrays."""

from typing import Any

import numpy as np

from tinylm.engine.devices import to_device
from tinylm.nn import Module
from tinylm.verify.arguments import floating_arguments, outputs_of, prepared
from tinylm.verify.finite_differences import Settings, check
from tinylm.verify.jacobians import flatten, gradients
from tinylm.verify.reports import Report


def check_module(
    model: Module,
    batch: Any,
    *,
    mode: str | None = None,
    order: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
    thorough: bool = False,
    taped_in: str = "float64",
) -> Report:
    """Runs gradcheck on model(*batch), or model(**batch) for a mapping, with a float64 copy of the model.

    batch: NumPy arrays, tuples of them or None. The settings are those of gradcheck. The rows are every parameter, by
    its name, and every floating argument. Raises ConfigError as gradcheck does.
    """
    ours, arguments = prepared(model, batch)
    variables = [*ours.named_parameters(), *floating_arguments(arguments, ours)]
    how = Settings(mode, order, tolerance, seed, thorough, taped_in)
    return check(lambda: outputs_of(ours, batch, arguments), variables, type(model).__name__, how)


def model_gradients(model: Module, batch: Any, *, dtype: str = "float64", seed: int = 0) -> dict[str, np.ndarray]:
    """Returns the gradients that `compare` compares with PyTorch's, by parameter: of cᵀ (all floating outputs), where c is
    default_rng(seed).standard_normal; zeros for a parameter that took no part."""
    ours, arguments = prepared(model, batch, dtype)
    y = flatten([t for t in outputs_of(ours, batch, arguments) if t.dtype.kind == "f"])
    c = np.random.default_rng(seed).standard_normal(y.size).astype(dtype)
    named = dict(ours.named_parameters())
    return {k: g.numpy() for k, g in zip(named, gradients(y, list(named.values()), to_device(c, y.device)), strict=True)}
