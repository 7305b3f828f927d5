"""What a model of a given shape would weigh, without building it."""

import itertools
from collections.abc import Callable

import numpy as np

from tinylm.nn import Module


def parameter_count(build: Callable[[int, int], Module], unit: int) -> Callable[[int, int], int]:
    """Returns a function that gives the number of parameters of a model from its width and its hidden width.

    build: makes the model from (width, hidden width).  unit: widths are multiples of it. The number is a polynomial of
    the second degree in the two, whose six coefficients are solved from six small models.
    """
    small = [(unit * i, j) for i, j in itertools.product((1, 2, 3), repeat=2) if i + j <= 4]
    terms = [_monomials(width / unit, hidden) for width, hidden in small]
    coefficients = np.linalg.solve(terms, [build(width, hidden).num_parameters() for width, hidden in small])
    return lambda width, hidden: round(float(_monomials(width / unit, hidden) @ coefficients))


def _monomials(c: float, h: float) -> np.ndarray:
    return np.array([1, c, h, c * c, c * h, h * h], np.float64)
