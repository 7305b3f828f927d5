"""What Python hands to a CPU kernel fits the kernel's declaration."""

import ctypes

import numpy as np
import pytest

from tinylm.bindings.cpu.library import call, contiguous, signatures
from tinylm.errors import ShapeError


def test_the_types_come_from_the_declaration() -> None:
    text = """
static int hidden(int x) { return x; }
EXPORT int one(
    int64_t n, const float *x, const int64_t *ids, uint8_t *bits, void *routine,
    uint64_t key, float eps, int flag
) {
EXPORT int two(void) {
"""
    float32, int64, uint8 = (np.dtype(kind) for kind in ("float32", "int64", "uint8"))
    pointer = ctypes.c_void_p
    assert signatures({"a.c": text}) == {
        "one": [
            (ctypes.c_int64, None), (pointer, float32), (pointer, int64), (pointer, uint8), (pointer, None),
            (ctypes.c_uint64, None), (ctypes.c_float, None), (ctypes.c_int, None),
        ],
        "two": [],
    }  # fmt: skip


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize(
    ("ids", "weight"),
    [
        (np.zeros(2, np.int32), np.ones((3, 2), np.float32)),
        (np.zeros(4, np.int64)[::2], np.ones((3, 2), np.float32)),
        (np.zeros(2, np.int64), np.ones((3, 2))),
        (np.zeros(2, np.int64), np.ones((2, 3), np.float32).T),
    ],
)
def test_arrays_of_another_type_or_layout_are_refused(ids: np.ndarray, weight: np.ndarray) -> None:
    with pytest.raises(ShapeError, match=r"embedding_forward: an array has dtype .*, expected contiguous (float32|int64)"):
        call("embedding_forward", 2, 3, 2, ids, weight, np.empty((2, 2), np.float32))


def test_contiguous_makes_arrays_of_scalars() -> None:
    """A cotangent may be what indexing an array gives."""
    found = contiguous(np.ones(3, np.float32)[1])
    assert (type(found), found.shape, found.dtype) == (np.ndarray, (), np.float32)
