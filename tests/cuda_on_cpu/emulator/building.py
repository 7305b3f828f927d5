"""Compiles the text of a .cu file to a library that launches its kernels, or to a program that replays launches.

What is built is kept in the user's cache, under a name that depends on all its inputs.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMON = ["-std=c++17", "-g1", "-fPIC", "-pthread", "-fno-strict-aliasing", "-Wno-unknown-pragmas"]
RUNTIMES = {  # mode -> the files linked with every kernel file, and their flags, which never include a sanitizer
    "library": (["grid.cpp", "scheduler.cpp", "meetings.cpp", "guarded.cpp"], ["-O2"]),
    "asan": (["grid.cpp", "scheduler.cpp", "meetings.cpp", "replay.cpp"], ["-O2"]),
    "tsan": (["grid.cpp", "scheduler.cpp", "meetings.cpp", "replay.cpp"], ["-O2", "-DCU_TSAN"]),
}
UNDEFINED = ["-fsanitize=undefined,float-cast-overflow,bounds-strict", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]
MODES = {  # mode -> the flags of a kernel file, and of the link
    # a large frame touches each of its pages, so that it cannot step over the unreadable one below its stack
    "library": (["-O1", "-fstack-clash-protection", *UNDEFINED], ["-shared", "-Wl,-Bsymbolic"]),
    "asan": (["-O1", "-fsanitize=address", "-fsanitize-sections=cu_shared"], ["-fsanitize=address"]),
    "tsan": (["-O1", "-fsanitize=thread", "--param=tsan-distinguish-volatile=1", "-DCU_TSAN"], ["-fsanitize=thread"]),
}
KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")


class BuildError(RuntimeError):
    """The compiler refused a kernel file."""


@functools.cache
def unavailable() -> str | None:
    """Returns the reason why kernels cannot be emulated on this machine; None if they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the emulator needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    return None if shutil.which("g++") else "the emulator needs g++, which is not installed"


@functools.cache
def _version() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def _runtime_text() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.iterdir()) if path.suffix in (".h", ".cpp"))


def cache() -> Path:
    """Returns the folder for what is built; only the user may write to it."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinylm" / "cuda_on_cpu"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def digest(*parts: str | bytes) -> str:
    """Returns a name that depends on the parts, the emulator's own source and the compiler."""
    known = hashlib.sha256()
    for part in (_version(), _runtime_text(), Path(__file__).read_text(encoding="utf-8"), *parts):
        known.update(part.encode() if isinstance(part, str) else part)
        known.update(b"\0")
    return known.hexdigest()[:24]


def build(code: str, mode: str = "library", options: Sequence[str] = ()) -> Path:
    """Returns the library (or program) built from a kernel file's text. Raises BuildError with the compiler's message
    if it does not compile."""
    definitions = [o for o in options if o.startswith("-D")]
    target = cache() / f"{digest(code, mode, *definitions)}.{'so' if mode == 'library' else 'exe'}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        names = _kernels(code, definitions)
        source, program = Path(folder, f"{names[0]}.cu"), Path(folder, "built")
        source.write_text(_as_cpp(code, names), encoding="utf-8")
        flags, link = MODES[mode]
        kernels, runtime = Path(folder, "kernels.o"), _runtime(mode)
        _run(
            ["g++", *COMMON, *flags, *definitions, "-include", str(HERE / "cuda_cpu.h"), "-x", "c++", "-c", str(source), "-o", str(kernels)]
        )
        _run(["g++", *COMMON, *link, str(kernels), *map(str, runtime), "-o", str(program)])
        os.replace(program, target)
    return target


def _runtime(mode: str) -> list[Path]:
    """Returns the object files of the emulator itself."""
    files, flags = RUNTIMES[mode]
    objects = []
    for name in files:
        target = cache() / f"{digest(name, *flags)}.o"
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=cache()) as folder:
                built = Path(folder, "built.o")
                _run(["g++", *COMMON, *flags, "-c", str(HERE / name), "-o", str(built)])
                os.replace(built, target)
        objects.append(target)
    return objects


def _kernels(code: str, definitions: Sequence[str]) -> list[str]:
    """Returns the names of the file's kernels, including those that macros make."""
    expanded = _run(["g++", "-E", "-P", *definitions, "-x", "c++", "-"], code)
    names = list(dict.fromkeys(KERNEL.findall(expanded)))
    if not names:
        raise BuildError('a kernel file needs at least one extern "C" __global__ void function')
    return names


def _as_cpp(code: str, names: Sequence[str]) -> str:
    """Returns the file as C++: dynamic shared memory is a pointer, and the list of kernels is appended."""
    body = DYNAMIC_SHARED.sub(r"\1* \2 = (\1*)cu_dynamic_shared();", code)
    entries = ", ".join(f"CU_KERNEL({name})" for name in names)
    return f"{body}\nextern const CuKernel cu_kernels[] = {{{entries}}};\nextern const int cu_kernel_count = {len(names)};\n"


def _run(command: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise BuildError(f"g++ failed:\n{done.stderr}")
    return done.stdout
