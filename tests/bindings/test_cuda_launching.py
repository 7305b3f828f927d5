"""Kernel sources with their includes, signatures read from them, and arguments checked before a launch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinylm.bindings.cuda import launching
from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_device
from tinylm.errors import ShapeError

KERNEL = """// adds
#include "half.cuh"
extern "C" __global__ void __launch_bounds__(256) add_to(const float* __restrict__ x, float *y, long long n, float factor,
    unsigned int seed, bool on) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && on) y[i] += halved(factor) * (x ? x[i] : 1.f) + seed;
}
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CudaSource:
    """Returns a small kernel: y += factor / 2 · x + seed, or without x, y += factor / 2 + seed."""
    (tmp_path / "add.cu").write_text(KERNEL, encoding="utf-8")
    (tmp_path / "half.cuh").write_text("__device__ float halved(float x) { return x / 2; }\n", encoding="utf-8")
    monkeypatch.setattr(launching, "folder", lambda: tmp_path)
    monkeypatch.setattr(launching, "source", launching.source.__wrapped__)
    return CudaSource("add")


def on_device(*values: float) -> Array:
    return to_device(np.array(values, np.float32), "cuda")


def test_includes_are_pasted_in_with_lines_that_stay_right(add: CudaSource) -> None:
    lines = launching.source("add").splitlines()
    assert lines[1] == '#line 1 "half.cuh"'
    assert lines[2].startswith("__device__ float halved")
    at = lines.index('#line 3 "add.cu"')
    assert lines[at + 1] == KERNEL.splitlines()[2]


def test_cupy_gets_ascii_which_every_locale_can_write(add: CudaSource) -> None:
    path = launching.folder() / "add.cu"
    path.write_text("// y += Σ ½ x\n" + KERNEL, encoding="utf-8")
    text = launching.source("add")
    assert text.isascii()
    assert text.splitlines()[0] == "// y += ? ? x"  # lines and columns stay the same
    assert list(launching.signatures(text)) == ["add_to"]


def test_signatures_are_read_from_the_source(add: CudaSource) -> None:
    scalars = [(np.int64, False), (np.float32, False), (np.uint32, False), (np.bool_, False)]
    assert add.signatures == {"add_to": [(np.float32, True), (np.float32, True), *scalars]}


def test_every_kernel_has_a_signature_that_can_be_read() -> None:
    sources = sorted(launching.folder().glob("*.cu"))
    assert sources
    for path in sources:
        text = launching.source(path.stem)
        assert len(launching.signatures(text)) == text.count("__global__ void") >= 1


@pytest.mark.usefixtures("cuda")
def test_numbers_get_the_parameters_types_and_none_is_a_null_pointer(add: CudaSource) -> None:
    y = on_device(1, 2, 3)
    add.launch("add_to", (1,), (32,), on_device(10, 20, 30), y, 3, 1, 100, 1)
    np.testing.assert_array_equal(y.get(), [106, 112, 118])
    with pytest.raises(AttributeError):  # the first argument gives the device
        add.launch("add_to", (1,), (32,), None, y, 3, 1, 100, True)


@pytest.mark.usefixtures("cuda")
def test_an_empty_grid_runs_nothing(add: CudaSource) -> None:
    add.launch("add_to", (0,), (32,), on_device(), on_device(), 0, 1, 100, True)
    add.launch("add_to", (3, 0), (32,), on_device(), on_device(), 0, 1, 100, True)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((1,), (1025,), "add_to: a grid of .* is beyond the hardware's limits"),
        ((1,), (32, 33), "beyond the hardware's limits"),
        ((2**31,), (32,), "beyond the hardware's limits"),
        ((1, 65536), (32,), "beyond the hardware's limits"),
    ],
)
def test_launches_beyond_the_limits(add: CudaSource, grid: tuple[int, ...], block: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        add.launch("add_to", grid, block, on_device(1), on_device(1), 1, 1, 0, True)


@pytest.mark.usefixtures("cuda")
def test_arguments_that_do_not_fit(add: CudaSource) -> None:
    x, y = on_device(1, 2, 3, 4), on_device(1, 2)
    rest = (2, 1, 0, True)
    with pytest.raises(ShapeError, match="add_to: 3 arguments for 6 parameters"):
        add.launch("add_to", (1,), (32,), x, y, 2)
    with pytest.raises(ShapeError, match=r"add_to: argument 0 has dtype float32 and strides .*, expected contiguous float32"):
        add.launch("add_to", (1,), (32,), x[::2], y, *rest)
    with pytest.raises(ShapeError, match=r"add_to: argument 1 has dtype float64 .* expected contiguous float32"):
        add.launch("add_to", (1,), (32,), x, y.astype(np.float64), *rest)
    with pytest.raises(OverflowError):
        add.launch("add_to", (1,), (32,), x, y, 2, 1, -1, True)
    np.testing.assert_array_equal(y.get(), [1, 2])


@pytest.mark.usefixtures("cuda")
def test_arrays_are_made_contiguous_and_cast_only_where_they_must_be() -> None:
    x = on_device(1, 2, 3, 4)
    assert launching.contiguous(x) is x
    assert launching.contiguous(x, np.float32) is x
    np.testing.assert_array_equal(launching.contiguous(x[::2]).get(), [1, 3])
    assert launching.contiguous(x[::2]).flags.c_contiguous
    assert launching.contiguous(x, np.int64).dtype == np.int64
    assert launching.contiguous(x.sum()).shape == ()


@pytest.mark.parametrize(("columns", "threads"), [(1, 32), (128, 32), (129, 64), (384, 96), (2048, 512), (50_000, 512)])
def test_threads_of_a_row(columns: int, threads: int) -> None:
    assert launching.row_threads(columns) == threads


def test_kernels_are_registered_without_cupy() -> None:
    program = """
import sys, tinylm
from tinylm import optim
from tinylm.engine import kernels
assert "cupy" not in sys.modules
everything = {**kernels.registry, **kernels.updates}
print(*(name for name, record in everything.items() if ("cuda", "float32") in record.kernels))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = {"adamw", "cross_entropy", "dropout", "embedding", "layer_norm", "linear", "log_softmax", "rms_norm", "softmax", "squared_norm"}
    assert ours <= set(result.stdout.split())


def test_many_numbers_are_converted_once() -> None:
    """And what is remembered does not pile up; a number that does not fit is no less an error."""
    parameters = launching._Parameters("many", [(np.dtype("int32"), False)] * 7)
    first, again = parameters.values((1, 2, 3, 4, 5, 6, True)), parameters.values((1, 2, 3, 4, 5, 6, True))
    assert [type(value) for value in first] == [np.int32] * 7
    assert all(a is b for a, b in zip(first, again, strict=True))
    for i in range(1000):
        assert parameters.values((i,) * 7) == (i,) * 7
    assert len(parameters._known) <= 256
    with pytest.raises(OverflowError):
        parameters.values((1, 2, 3, 4, 5, 6, 2**31))
    with pytest.raises(ShapeError, match="many: 6 arguments for 7 parameters"):
        parameters.values((1,) * 6)
