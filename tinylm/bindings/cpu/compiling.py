"""From the C files of kernels/cpu to a loaded library, by way of a cache for each user.

What is built has the name KEY-DIGEST.so: KEY is made of everything the build depends on, so that a second
process asks no compiler, and DIGEST of the file's own bytes, so that a damaged file is never loaded.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Nothing here may imply -ffast-math: it loses NaN, and a library linked with it makes the process flush denormals.
FLAGS = ("-std=gnu11", "-O3", "-fopenmp-simd", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")
COMPILERS = ("cc", "gcc", "clang")


class BuildError(RuntimeError):
    """Why there is no library."""


def say(notice: str) -> None:
    """One line for the person at the terminal."""
    print(f"tinylm: {notice}", file=sys.stderr)


@functools.cache
def folder() -> Path:
    """kernels/cpu: within the package when it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_kernels" / "cpu"
    return installed if installed.is_dir() else package.parent / "kernels" / "cpu"


@functools.cache
def sources() -> dict[str, str]:
    """The text of every .c and .h file, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder().iterdir()) if path.suffix in (".c", ".h")}


def compiler() -> list[str]:
    """$CC, else the first of cc, gcc and clang, by its full path. Errors: BuildError when there is none."""
    for name in [os.environ["CC"]] if os.environ.get("CC") else COMPILERS:
        words = shlex.split(name)
        found = shutil.which(words[0])
        if found:
            return [found, *words[1:]]
        if name == os.environ.get("CC"):
            raise BuildError(f"the compiler {name} in CC is not there")
    raise BuildError(f"there is no C compiler ({', '.join(COMPILERS)})")


def processor() -> str:
    """What names this machine's processor and its instructions."""
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        kept = ("model name", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
        return "\n".join(sorted({line for line in lines if line.partition(":")[0].strip() in kept}))
    if sys.platform == "darwin":
        size = ctypes.c_size_t(256)
        brand = ctypes.create_string_buffer(size.value)
        ctypes.CDLL(None).sysctlbyname(b"machdep.cpu.brand_string", brand, ctypes.byref(size), None, ctypes.c_size_t(0))
        return brand.value.decode("ascii", "replace")
    return platform.processor()


def flags() -> list[str]:
    """FLAGS and the one for this machine's own instructions."""
    on_arm_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    return [*FLAGS, "-mcpu=native" if on_arm_mac else "-march=native"]


def key(command: list[str]) -> str:
    """Names a build: the text, the flags, the processor, and the compiler by its file, which an update changes."""
    parts = [*command, *flags(), platform.machine(), platform.platform(), processor(), *(t for item in sources().items() for t in item)]
    file = os.stat(command[0])
    parts += [os.path.realpath(command[0]), str(file.st_mtime_ns), str(file.st_size)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def cache() -> Path:
    """$TINYLM_CACHE, else $XDG_CACHE_HOME/tinylm, else ~/.cache/tinylm, and in it the folder of the CPU's library."""
    chosen = os.environ.get("TINYLM_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinylm"
    return base / "cpu_kernels"


def trusted(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether it is of that kind and nobody but this user can have written it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return kind(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def load() -> tuple[ctypes.CDLL, str]:
    """The library, compiled where the cache has none, and where it came from. Errors: BuildError when it cannot be had."""
    if sys.platform not in ("linux", "darwin"):
        raise BuildError(f"the CPU kernels need Linux or macOS, this is {sys.platform}")
    command = compiler()
    name, place = key(command), cache()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not trusted(place, stat.S_ISDIR):
            raise PermissionError(f"{place} belongs to another user, or others may write to it")
        found = sorted(place.glob(f"{name}-*.so"))
        for path in found:
            library = _open_if_sound(path)
            if library is not None:
                return library, str(path)
        if found:
            say(f"the cached CPU kernels {found[0]} are damaged or others may write to them; they are compiled again")
        for path in found:
            path.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as room:
            built = build(command, Path(room))
            path = place / f"{name}-{_digest(built.read_bytes())}.so"
            os.replace(built, path)
        return _open(path), str(path)
    except OSError as error:
        with tempfile.TemporaryDirectory(prefix="tinylm-") as room:  # a loaded file need not keep its name
            library = _open(build(command, Path(room)))
        say(f"the compiled CPU kernels cannot be kept ({error}); TINYLM_CACHE may name a folder for them")
        return library, "compiled for this process alone"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _open_if_sound(path: Path) -> ctypes.CDLL | None:
    try:
        if trusted(path, stat.S_ISREG) and path.stem.rpartition("-")[2] == _digest(path.read_bytes()):
            return _open(path)
    except (OSError, BuildError):
        pass
    return None


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the compiled kernels cannot be loaded ({error})") from error


def build(command: list[str], room: Path, options: tuple[str, ...] = ()) -> Path:
    """Compiles every file, at most one a core at once, and links them. Errors: BuildError with the compiler's first words."""
    objects, running = [], []
    for name in (n for n in sources() if n.endswith(".c")):
        objects.append(str(room / f"{name}.o"))
        if len(running) >= (os.cpu_count() or 1):
            _finish(running.pop(0))
        running.append(_start([*command, *flags(), *options, "-c", str(folder() / name), "-o", objects[-1]], room))
    for each in running:
        _finish(each)
    library = room / "kernels.so"
    _finish(_start([*command, *flags(), *options, "-shared", *objects, "-o", str(library), "-lm"], room))
    return library


def _start(command: list[str], room: Path) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", cwd=room
        )
    except OSError as error:
        raise BuildError(f"the compiler does not start ({error})") from error


def _finish(process: subprocess.Popen[str]) -> None:
    said = process.communicate()[1]
    if process.returncode:
        line = next((s for s in said.splitlines() if "error" in s), said.strip().partition("\n")[0])
        raise BuildError(f"{' '.join(map(str, process.args[:1]))} failed: {line.strip() or f'exit status {process.returncode}'}")  # type: ignore[index]
