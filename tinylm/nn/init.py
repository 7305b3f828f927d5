"""Initial weights: PyTorch's defaults, drawn from tinylm's own seeded generator on the CPU."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinylm.engine.random_keys import current
from tinylm.errors import ConfigError
from tinylm.nn.modules import Module, Parameter


class _Mode(threading.local):
    drawing = True


_mode = _Mode()


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within this context new parameters have a shape but no memory, and nothing is drawn or filled: for models whose
    weights come from a file. `allocate` gives a parameter its memory."""
    before, _mode.drawing = _mode.drawing, False
    try:
        yield
    finally:
        _mode.drawing = before


def allocate(parameter: Parameter) -> None:
    """Gives a parameter made within `shapes_only` its memory, not initialised."""
    parameter.data = np.empty(parameter.shape, np.float32)
    parameter.bump_version()


def _parameter(shape: tuple[int, ...], draw: Callable[[], np.ndarray]) -> Parameter:
    """Returns a float32 parameter of draw(), or, within `shapes_only`, one whose elements are all the same zero in memory."""
    if _mode.drawing:
        return Parameter(draw().astype(np.float32, copy=False))
    try:
        return Parameter(np.broadcast_to(np.float32(0), shape))
    except ValueError as error:
        raise ConfigError(f"a weight of shape {shape} would be larger than any memory") from error


def uniform(shape: tuple[int, ...], bound: float) -> Parameter:
    """U(-bound, bound), float32."""
    return _parameter(shape, lambda: current.generator.numpy().uniform(-bound, bound, shape))


def normal(shape: tuple[int, ...], std: float = 1.0) -> Parameter:
    """N(0, std²), float32."""
    return _parameter(shape, lambda: _standard_normal(shape) * np.float32(std))


def zeros(shape: tuple[int, ...]) -> Parameter:
    """Zeros, float32."""
    return _parameter(shape, lambda: np.zeros(shape, np.float32))


def ones(shape: tuple[int, ...]) -> Parameter:
    """Ones, float32."""
    return _parameter(shape, lambda: np.ones(shape, np.float32))


def xavier_uniform(shape: tuple[int, int]) -> Parameter:
    """U(-b, b) with b = √(6 / (fan_in + fan_out)), shape (out, in).  Glorot & Bengio 2010, eq. 16."""
    return uniform(shape, math.sqrt(6 / (shape[0] + shape[1])))


def fill_normal(parameter: Parameter, std: float) -> None:
    """Draws the parameter anew from N(0, std²), in place."""
    _fill(parameter, lambda: _standard_normal(parameter.shape) * np.float32(std))


def fill_uniform(parameter: Parameter, bound: float) -> None:
    """Draws the parameter anew from U(-bound, bound), in place."""
    _fill(parameter, lambda: current.generator.numpy().uniform(-bound, bound, parameter.shape))


def fill(parameter: Parameter, value: float) -> None:
    """Sets every element, in place."""
    _fill(parameter, lambda: value)


def fill_transformer(model: Module, onto_residual: tuple[str, ...], width: int, layers: int) -> None:
    """Draws the weights of a decoder anew: matrices from N(0, s²), those whose names end with one of `onto_residual` from
    N(0, s²/(2 layers)), biases zero; s = 0.02 √(768 / width).  Radford et al. 2019, section 2.3."""
    std = 0.02 * math.sqrt(768 / width)
    for name, p in model.named_parameters():
        if name.endswith(onto_residual):
            fill_normal(p, std / math.sqrt(2 * layers))
        elif p.ndim == 2:
            fill_normal(p, std)
        elif name.endswith("bias"):
            fill(p, 0.0)


def _fill(parameter: Parameter, draw: Callable[[], Any]) -> None:
    if _mode.drawing:
        parameter.data[...] = draw()
        parameter.bump_version()


def _standard_normal(shape: tuple[int, ...]) -> np.ndarray:
    return current.generator.numpy().standard_normal(shape, np.float32)
