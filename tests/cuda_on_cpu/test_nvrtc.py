"""Compiles every CUDA kernel with NVIDIA's own compiler, for each generation of GPUs, with CuPy's options."""

import ast
import sys
from pathlib import Path

import pytest

from cuda_on_cpu import nvrtc
from tinylm.bindings.cuda import launching

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NVRTC is tested on Linux only")

ARCHITECTURES = (75, 80, 90, 100)  # Turing, Ampere, Hopper, Blackwell
SOURCES = sorted(path.stem for path in launching.folder().glob("*.cu"))


def launched_names() -> set[str]:
    """Returns every string in the bindings: a kernel that none of them names is never launched."""
    files = sorted(Path(launching.__file__).parent.glob("*.py"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_there_are_sources() -> None:
    assert SOURCES


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", SOURCES)
def test_kernels_compile(name: str, arch: int) -> None:
    found = nvrtc.faults(launching.source(name), f"{name}.cu", arch, launching.OPTIONS, launched_names())
    assert not found, "\n".join(found)


# ---------------------------------------------------------------- the check sees each fault

GOOD = """
extern "C" __global__ void twice(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2 * x[i];
}
"""


def faults_of(source: str, bound: tuple[str, ...] = ("twice",), arch: int = 80, options: tuple[str, ...] = launching.OPTIONS) -> str:
    return "\n".join(nvrtc.faults(source, "small.cu", arch, options, set(bound)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_sound_kernel_passes(arch: int) -> None:
    assert faults_of(GOOD, arch=arch) == ""
    compiled = nvrtc.compile_cubin(GOOD, "small.cu", arch)
    assert compiled.code.startswith(b"\x7fELF")
    assert list(compiled.kernels) == ["twice"]
    assert compiled.kernels["twice"].registers > 0


def test_errors() -> None:
    assert 'identifier "z" is undefined' in faults_of(GOOD.replace("2 * x", "2 * z"))
    assert "there is no kernel in it" in faults_of("__device__ float half_of(float x) { return x / 2; }")


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("float unused;", 'variable "unused" was declared but never referenced'),
        ("float early; y[i] = early;", 'variable "early" is used before its value is set'),
        ("if (threadIdx.x < 0) return;", "pointless comparison of unsigned integer with zero"),
    ],
)
def test_warnings(planted: str, complaint: str) -> None:
    found = faults_of(GOOD.replace("if (i < n)", f"{planted} if (i < n)"))
    assert "warning #" in found
    assert complaint in found


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_registers_that_spill(arch: int) -> None:
    source = """
    extern "C" __global__ void __launch_bounds__(1024) twice(const float* x, float* y, int n) {
        float kept[128];
        #pragma unroll
        for (int i = 0; i < 128; ++i) kept[i] = x[i * n + threadIdx.x];
        #pragma unroll
        for (int i = 0; i < 128; ++i) y[i * n + threadIdx.x] = kept[127 - i] * kept[i];
    }"""
    found = faults_of(source, arch=arch)
    assert "twice keeps" in found
    assert " 0 bytes of spills" not in found
    assert faults_of(source.replace("128", "32"), arch=arch) == ""


def test_arrays_in_local_memory() -> None:
    source = """
    extern "C" __global__ void twice(const float* x, float* y, int n) {
        float kept[32] = {};
        for (int i = 0; i < n; ++i) kept[i & 31] += x[i];
        y[threadIdx.x] = kept[threadIdx.x & 31];
    }"""
    assert "twice keeps 128 bytes per thread in local memory, 0 bytes of spills" in faults_of(source)


def test_kernels_that_nobody_launches() -> None:
    assert faults_of(GOOD, bound=("thrice",)) == "small.cu for sm_80: no binding launches twice"
    assert "no binding launches _Z5twice" in faults_of(GOOD.replace('extern "C" ', ""))  # its name is mangled


def test_a_source_with_a_kernel_more_than_its_binding_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text('SOURCE.launch("twice", (1,), (32,))\n', encoding="utf-8")
    monkeypatch.setattr(launching, "__file__", str(tmp_path / "launching.py"))
    assert launched_names() == {"twice"}


def test_the_options_are_those_that_cupy_adds() -> None:
    """As seen in CuPy 14.2 where it calls NVRTC; it names C++17 only if the caller names no standard."""
    assert nvrtc.options_of_cupy((), 80) == ["--std=c++17", "-ftz=true", "-arch=sm_80", "--device-as-default-execution-space"]
    assert nvrtc.options_of_cupy(("-std=c++14", "-fmad=false"), 90) == [
        "-std=c++14", "-fmad=false", "-ftz=true", "-arch=sm_90", "--device-as-default-execution-space",
    ]  # fmt: skip
    assert "invalid value for --gpu-architecture" in faults_of(GOOD, arch=74)
    assert "unrecognized option" in faults_of(GOOD, options=("--no-such-option",))
