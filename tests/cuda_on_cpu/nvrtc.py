"""Calls NVRTC, NVIDIA's compiler for CUDA C at run time, without CuPy, driver or GPU.

CuPy passes the kernels to this compiler, and its package contains the assembler as well,
so a kernel is compiled to machine code, and the assembler says how many registers it takes
and whether it spills.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import re
import stat
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from tinylm.files.atomic import atomic_file
from tinylm.files.cache import private_folder, trusted

PACKAGES = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc")

# What CuPy 14.2 passes besides the caller's options, in its order; it adds --std=c++17 if the caller
# names no standard, and search paths, which sources without #include do not need.
CUPY_OPTIONS = ("--std=c++17", "-ftz=true", "-arch=sm_{arch}", "--device-as-default-execution-space")


def options_of_cupy(options: tuple[str, ...], arch: int) -> list[str]:
    """Returns the whole command line for a RawModule with these options on a GPU of compute capability arch / 10."""
    named = any(re.match(r"--?std\b", option) for option in options)
    return [*options, *(option.format(arch=arch) for option in CUPY_OPTIONS[named:])]


@dataclass(frozen=True)
class Usage:
    """What one kernel uses of the GPU, according to the assembler."""

    registers: int
    stack: int  # bytes of local memory per thread: arrays that do not fit into registers
    spills: int  # bytes written to and read from local memory for lack of registers


@dataclass(frozen=True)
class Compiled:
    """code: the cubin, empty if the compiler refused; complaints: errors and warnings; kernels: usage by name."""

    code: bytes
    complaints: str
    kernels: dict[str, Usage]


@functools.cache
def _libraries() -> tuple[str, dict[str, str]]:
    """Returns the installed package, and the paths of its libraries. Raises LookupError if it is missing."""
    for package in PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        paths = {kind: str(f.locate()) for f in files for kind in ("nvrtc-builtins", "nvrtc") if f.name.startswith(f"lib{kind}.so.")}
        if "nvrtc" in paths:
            return package, paths
    raise LookupError(f"NVRTC is not installed: pip install {PACKAGES[0]}, or the test extra")


@functools.cache
def library() -> Any:
    """Returns libnvrtc of the installed package. Raises LookupError if it is missing."""
    paths = _libraries()[1]
    ctypes.CDLL(paths["nvrtc-builtins"], ctypes.RTLD_GLOBAL)
    found = ctypes.CDLL(paths["nvrtc"])
    found.nvrtcGetErrorString.restype = ctypes.c_char_p
    return found


def _call(name: str, *arguments: Any) -> None:
    status = getattr(library(), name)(*arguments)
    if status:
        raise RuntimeError(f"{name}: {library().nvrtcGetErrorString(status).decode()}")


def _fetch(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, buffer)
    return buffer.raw


def version() -> tuple[int, int]:
    """Returns NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_cubin(source: str, name: str, arch: int, options: tuple[str, ...] = ()) -> Compiled:
    """Compiles CUDA C to machine code for sm_<arch>, as CuPy would with these options of a RawModule.

    What came out is kept in the user's cache, under a name that depends on all that went in.
    """
    arguments = [*options_of_cupy(options, arch), "--ptxas-options=-v"]
    key = "\0".join([importlib.metadata.version(_libraries()[0]), source, name, *arguments])
    kept = private_folder("nvrtc", "*") / hashlib.sha256(key.encode()).hexdigest()
    if trusted(kept, stat.S_ISREG):
        log, _, code = kept.read_bytes().partition(b"\0")
    else:
        log, code = _run(source, name, arguments)
        with atomic_file(kept) as file:
            file.write(log + b"\0" + code)
    return Compiled(code, _complaints(log.decode()), _usages(log.decode()))


def _run(source: str, name: str, arguments: list[str]) -> tuple[bytes, bytes]:
    """Returns the compiler's log and the machine code."""
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    try:
        words = [argument.encode() for argument in arguments]
        status = library().nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        return _fetch(program, "ProgramLog").rstrip(b"\0"), b"" if status else _fetch(program, "CUBIN")
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


def _complaints(log: str) -> str:
    """Returns the log without the assembler's lines about each kernel's usage."""
    account = re.compile(r"ptxas info\b|(ptxas\s+\.)?\s*\d+ bytes stack frame|\s*$")
    return "\n".join(line for line in log.splitlines() if not account.match(line))


def _usages(log: str) -> dict[str, Usage]:
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        stack, stores, loads = (int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", part)[:3])
        registers = re.search(r"Used (\d+) registers", part)
        assert registers is not None, part
        found[part.partition("'")[0]] = Usage(int(registers[1]), stack, stores + loads)
    return found


def faults(source: str, name: str, arch: int, options: tuple[str, ...], bound: Set[str]) -> list[str]:
    """Returns everything that is wrong with a source on sm_<arch>, one sentence each: the compiler's complaints,
    variables in local memory, and kernels that are not among the names `bound` to something that launches them."""
    compiled = compile_cubin(source, name, arch, options)
    found = [compiled.complaints] if compiled.complaints else []
    for kernel, use in compiled.kernels.items():
        if use.stack or use.spills:
            found.append(f"{kernel} keeps {use.stack} bytes per thread in local memory, {use.spills} bytes of spills move there and back")
        if kernel not in bound:
            found.append(f"no binding launches {kernel}")
    if not compiled.kernels and not found:
        found.append("there is no kernel in it")
    return [f"{name} for sm_{arch}: {fault}" for fault in found]
