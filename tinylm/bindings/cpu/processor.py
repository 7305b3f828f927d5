"""This machine's processor in words: its name, its caches, and which of its instructions the matrix products use."""

import ctypes
import os
import platform
import sys
from pathlib import Path

import numpy as np

from tinylm.bindings.cpu import compiling
from tinylm.bindings.cpu.library import call, library

# Flags that tell one generation from the next: Zen 4 from Zen 5 (avx_vnni), Ice Lake from Sapphire Rapids (avx512_fp16, amx_tile).
_TELLING = (
    "sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "avx512_vp2intersect", "amx_tile",
    "amx_bf16", "asimd", "asimdhp", "sve", "sve2", "bf16", "i8mm", "sme",
)  # fmt: skip
_NUMBERS = ("cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part")
_VECTORS = {("x86", 16): "AVX-512", ("x86", 8): "AVX", ("x86", 4): "SSE", ("arm", 4): "NEON"}  # by family and floats of a vector

_ROUNDED = ("float32", "AVX-512 BF16", "AMX")  # what multiplies numbers rounded to bfloat16, by Unit of kernels/cpu/panels_bfloat16.h


def processor_name(described: str | None = None) -> str:
    """Returns the processor's name, its family and model, and those of its instructions that tell generations apart: a virtual machine
    may call it just "AMD EPYC".

    described: the text of `compiling.processor`, which is this machine's by default.
    """
    lines = (compiling.processor() if described is None else described).splitlines()
    found = {name.strip(): value.strip() for name, mark, value in (line.partition(":") for line in lines) if mark}
    if not found:  # macOS gives the name alone
        return " ".join(lines) or platform.machine()
    numbers = [f"{name.removeprefix('CPU ').removeprefix('cpu ')} {found[name]}" for name in _NUMBERS if name in found]
    flags = {*found.get("flags", "").split(), *found.get("Features", "").split()}
    instructions = " ".join(name for name in _TELLING if name in flags)
    words = [found.get("model name") or platform.machine(), ", ".join(numbers), instructions]
    return "; ".join(filter(None, words))


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Returns the bytes of the caches that hold data, as {"L1": 32768, "L2": ...}, as far as the system tells them."""
    if sys.platform == "darwin":
        named = {"L1": _sysctl("hw.l1dcachesize"), "L2": _sysctl("hw.l2cachesize"), "L3": _sysctl("hw.l3cachesize")}
        return {name: size for name, size in named.items() if size}
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text(encoding="ascii").strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return found


def _sysctl(name: str) -> int:
    value, size = ctypes.c_int64(), ctypes.c_size_t(8)
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0 if failed else value.value


def product_instructions() -> str | None:
    """Returns which instructions the matrix products use, as the compiled library says; None if there is none, or if the kernels are
    switched off."""
    found = None if os.environ.get("TINYLM_KERNELS") == "reference" else library()
    if found is None:
        return None
    if found.sgemm is not None:
        return "sgemm of Apple's Accelerate"
    tile = np.empty(4, np.int64)
    call("product_tile", tile)
    lanes, rows, columns, unit = tile.tolist()
    family = "arm" if platform.machine() in ("aarch64", "arm64") else "x86"
    target = os.environ.get("TINYLM_CPU_TARGET", "")
    vectors = _VECTORS.get((family, lanes), f"vectors of {lanes} floats")
    return f"{vectors}, tiles of {rows} × {columns}, bfloat16 by {_ROUNDED[unit]}{f', compiled for {target}' if target else ''}"
