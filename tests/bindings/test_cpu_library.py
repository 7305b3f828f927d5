"""The arguments that Python passes to a CPU kernel fit the kernel's declaration."""

import ctypes
import re

import numpy as np
import pytest

from tinylm.bindings import activation_numbers
from tinylm.bindings.cpu.attention import AttentionLayout, Strides
from tinylm.bindings.cpu.library import Struct, call, check_sizes, contiguous, signatures
from tinylm.bindings.kernel_sources import kernel_folder
from tinylm.errors import ShapeError


def test_the_types_come_from_the_declaration() -> None:
    text = """
static int hidden(int x) { return x; }
EXPORT int one(
    int64_t n, const float *x, const int64_t *ids, uint8_t *bits, void *routine,
    uint64_t key, float eps, int flag, const Strides *at
) {
EXPORT int two(void) {
"""
    float32, int64, uint8 = (np.dtype(kind) for kind in ("float32", "int64", "uint8"))
    pointer = ctypes.c_void_p
    assert signatures({"a.c": text}) == {
        "one": [
            (ctypes.c_int64, None), (pointer, float32), (pointer, int64), (pointer, uint8), (pointer, float32),
            (ctypes.c_uint64, None), (ctypes.c_float, None), (ctypes.c_int, None), (ctypes.POINTER(Strides), None),
        ],
        "two": [],
    }  # fmt: skip


def test_the_structs_have_the_fields_of_those_in_c() -> None:
    """The fields have the same names in the same order; the sizes are compared when the library is loaded."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(kernel_folder("cpu").glob("*.h")))
    for name, struct in Struct.known.items():
        (body,) = re.findall(rf"typedef struct \{{([^}}]*)\}} {name};", text)
        declared = [
            re.sub(r"\[.*\]|[*\s]", "", word).split("_t")[-1] for line in body.split(";") for word in re.findall(r"[*\w\[\]]+(?=,|$)", line)
        ]
        assert declared == [field for field, _ in struct._fields_], name


def test_a_struct_of_another_size_is_an_error() -> None:
    size = ctypes.sizeof(AttentionLayout)
    check_sizes({"AttentionLayout": size})
    with pytest.raises(TypeError, match=f"the struct AttentionLayout has {size} bytes in Python, {size + 8} in kernels/cpu"):
        check_sizes({"AttentionLayout": size + 8})


@pytest.mark.usefixtures("cpu")
def test_another_struct_is_refused() -> None:
    x = np.zeros((1, 1, 1, 2), np.float32)
    with pytest.raises(ctypes.ArgumentError, match="RotaryLayout"):
        call("rotary", Strides(batch=1, head=1, row=1), x, x, x, 1, False, x)


@pytest.mark.parametrize("file", ["cpu/activations.h", "cuda/activations.cuh"])
def test_one_list_numbers_the_nonlinearities(file: str) -> None:
    text = (kernel_folder("cpu").parent / file).read_text(encoding="utf-8")
    (names,) = re.findall(r"enum Activation \{ (.*) \};", text)
    known = activation_numbers.LINEAR_ACTIVATIONS | activation_numbers.RNN_NONLINEARITIES
    assert {name: i for i, name in enumerate(names.lower().split(", "))} == {name or "none": number for name, number in known.items()}


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
    """Indexing an array can give a scalar, which may be a cotangent."""
    found = contiguous(np.ones(3, np.float32)[1])
    assert (type(found), found.shape, found.dtype) == (np.ndarray, (), np.float32)
