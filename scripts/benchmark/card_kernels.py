"""One file of kernels/cuda in a process of its own, for `first_card.py`: prints what was found as a line of JSON.

compile NAME: compiled by the card's own NVRTC, what each kernel takes of the hardware. check NAME: the cases of
tests/cuda_on_cpu/workloads.py against float64 on the CPU, twice, in memory that held NaN; check NAME own: once, each array in an
allocation of its own, so that compute-sanitizer sees every access beyond one.
"""

import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.bindings.cuda.launching import OPTIONS, signatures, source
from tinylm.engine.devices import device_namespace

USED = ("num_regs", "shared_size_bytes", "local_size_bytes", "max_threads_per_block", "binary_version")
NAN = 0xFF  # a byte that makes NaN of floats, and -1 of integers


def compiled(name: str) -> dict[str, Any]:
    """Returns what each kernel of a file takes, by CuPy's names, and what is wrong: local memory, or too few threads in a block."""
    space = device_namespace("cuda")
    space.arange(1)  # makes the context
    start = time.perf_counter()
    module = space.RawModule(code=source(name), options=OPTIONS)
    kernels, faults = {}, []
    for kernel in signatures(source(name)):
        attributes = module.get_function(kernel).attributes
        kernels[kernel] = found = {key: attributes[key] for key in USED}
        threads = 128 if "attention" in name else 1024 if kernel == "cross_entropy_total" else 512
        if found["local_size_bytes"]:
            faults.append(f"{kernel}: {found['local_size_bytes']} bytes per thread in local memory")
        if found["max_threads_per_block"] < threads:
            faults.append(f"{kernel}: at most {found['max_threads_per_block']} threads in a block")
    return {"seconds": time.perf_counter() - start, "kernels": kernels, "faults": faults}


def checked(name: str, own_memory: bool) -> dict[str, Any]:
    """Returns the largest relative error of the file's cases, what is wrong, and whether the second time gave the same bits."""
    space = device_namespace("cuda")
    space.cuda.set_allocator(None if own_memory else poisoned(space.cuda.MemoryPool().malloc))
    found: dict[str, Any] = {"compared": 0, "error": 0.0, "wrong": []}
    bits: list[bytes] = []
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    sys.modules["helpers"] = _helpers(found, bits)
    from cuda_on_cpu.workloads import WORKLOADS

    WORKLOADS[name]()
    if not own_memory:
        first = list(bits)
        bits.clear()
        WORKLOADS[name]()
        if bits != first:
            found["wrong"].append("other bits the second time")
    return found


def poisoned(allocate: Callable[[int], Any]) -> Callable[[int], Any]:
    """Returns an allocator whose memory is full of NaN."""

    def malloc(size: int) -> Any:
        memory = allocate(size)
        if size:
            memory.memset_async(NAN, size)
        return memory

    return malloc


def _helpers(found: dict[str, Any], bits: list[bytes]) -> types.ModuleType:
    """Returns what the cases import as `helpers`, the module of the tests, without PyTorch; it keeps what it compares."""
    from tinylm.verify.reports import joint_norm, relative_error

    def relative_errors(compared: Any) -> dict[str, float]:
        scale = joint_norm([b for _, b in compared.values()])
        return {name: relative_error(a, b, scale) for name, (a, b) in compared.items()}

    def assert_close(compared: Any, tolerance: float) -> None:
        for name, error in relative_errors(compared).items():
            a, b = compared[name]
            bits.append(np.ascontiguousarray(a).tobytes())
            found["compared"] += 1
            found["error"] = float(error) if not error <= found["error"] else found["error"]  # a NaN is kept
            if a.dtype != b.dtype or a.shape != b.shape or not error <= tolerance:
                found["wrong"].append(f"{name} {a.shape}: {error:.2e}")

    module: Any = types.ModuleType("helpers")
    module.TOLERANCES, module.relative_errors, module.assert_close = {"float64": 1e-10, "float32": 1e-5}, relative_errors, assert_close
    return module


def main(what: str, name: str, *memory: str) -> int:
    row: dict[str, Any] = {"file": name}
    try:
        row |= compiled(name) if what == "compile" else checked(name, memory == ("own",))
        row["ok"] = not row.get("wrong")
    except BaseException as error:  # whatever it is, the others go on
        row |= {"ok": False, "raised": f"{type(error).__name__}: {error}"[:3000]}
    print(json.dumps(row), flush=True)
    return 0 if row["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
