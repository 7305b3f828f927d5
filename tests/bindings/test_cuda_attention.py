"""Scaled dot-product attention on a GPU against its reference in float64."""

from typing import Any

import numpy as np
import pytest
from kernel_helpers import assert_agrees

pytestmark = pytest.mark.usefixtures("cuda")

NAME = "scaled_dot_product_attention"


def qkv(*lead: int, steps: int, keys: int, width: int, out_width: int | None = None) -> list[np.ndarray]:
    rng = np.random.default_rng((steps, keys, width))
    shapes = (steps, width), (keys, width), (keys, out_width or width)
    return [rng.standard_normal((*lead, *shape)) for shape in shapes]


@pytest.mark.parametrize("causal", [False, True], ids=["all keys", "causal"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"steps": 1, "keys": 1, "width": 1},
        {"steps": 67, "keys": 67, "width": 32},  # a little more than a tile of queries, and than two of keys
        {"steps": 3, "keys": 70, "width": 20, "out_width": 7},
        {"steps": 70, "keys": 3, "width": 5, "out_width": 33},  # causal: the first 67 queries see nothing
        {"steps": 66, "keys": 35, "width": 64},
        {"steps": 35, "keys": 36, "width": 128, "out_width": 66},
        {"steps": 0, "keys": 4, "width": 8},
    ],
    ids=lambda sizes: " ".join(map(str, sizes.values())),
)
def test_sizes(sizes: dict[str, Any], causal: bool) -> None:
    assert_agrees(NAME, *qkv(2, **sizes), causal=causal)
