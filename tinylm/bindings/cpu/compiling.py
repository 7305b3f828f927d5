"""From the C files of kernels/cpu to a loaded library, through a cache of each user.

A compiled file is called KEY-DIGEST.so. KEY is a hash of everything the build depends on, so that a second process needs no
compiler; DIGEST is one of the file's own bytes, so that a damaged file is never loaded.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinylm.bindings.kernel_sources import kernel_folder
from tinylm.errors import ConfigError, one_line
from tinylm.files.atomic import atomic_file, remove_abandoned
from tinylm.files.cache import cache_folder, trusted
from tinylm.files.temporary_folders import temporary_folder

# Nothing here may imply -ffast-math: it loses NaN, and a library linked with it makes the process flush denormals.
FLAGS = ("-std=gnu11", "-O3", "-fopenmp-simd", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")
COMPILERS = ("cc", "gcc", "clang")


# Those of a compiler's macros that name instructions which it uses by itself.
_FEATURE = re.compile(r"^#define __((?:S?SSE|AVX|AMX|FMA|F16C|BMI|LZCNT|POPCNT|MOVBE|ARM_FEATURE)\w*?)_* ", re.MULTILINE)


class BuildError(RuntimeError):
    """The reason why there is no library."""


def say(notice: str) -> None:
    """Prints one line for the person at the terminal."""
    print(f"tinylm: {one_line(notice)}", file=sys.stderr)


folder = functools.partial(kernel_folder, "cpu")


@functools.cache
def sources() -> dict[str, str]:
    """Returns the text of every .c and .h file, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder().iterdir()) if path.suffix in (".c", ".h")}


def compiler() -> list[str]:
    """Returns the command $CC, or else the first of cc, gcc and clang, with its full path. Raises BuildError if there is none."""
    for name in [os.environ["CC"]] if os.environ.get("CC") else COMPILERS:
        words = shlex.split(name)
        found = shutil.which(words[0])
        if found:
            return [found, *words[1:]]
        if name == os.environ.get("CC"):
            raise BuildError(f"the compiler {name} in CC is not there")
    raise BuildError(f"there is no C compiler ({', '.join(COMPILERS)})")


def processor() -> str:
    """Returns a text that identifies this machine's processor and its instructions."""
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
    """Returns FLAGS and the flag for the processor: TINYLM_CPU_TARGET, or else this machine's own. Raises ConfigError for a value that
    cannot be a target's name."""
    target = os.environ.get("TINYLM_CPU_TARGET", "")
    if target and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]*", target):
        raise ConfigError(f"TINYLM_CPU_TARGET is {target!r}: expected the name of a target, like x86-64-v3 or armv8-a")
    on_arm_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    return [*FLAGS, f"-march={target}" if target else "-mcpu=native" if on_arm_mac else "-march=native"]


def check_target(command: list[str]) -> None:
    """Raises ConfigError if the compiler does not know TINYLM_CPU_TARGET, or if this processor lacks some of its instructions."""
    target = os.environ.get("TINYLM_CPU_TARGET", "")
    if not target:
        return
    flag = flags()[-1]
    try:
        wanted = _features(command, flag)
    except BuildError as error:
        raise ConfigError(f"TINYLM_CPU_TARGET is {target!r}, which the compiler does not accept: {error}") from error
    missing = sorted(wanted - _features(command, flag.replace(f"-march={target}", "-march=native")))
    if missing:
        raise ConfigError(f"TINYLM_CPU_TARGET is {target!r}, which this processor cannot run: it lacks {', '.join(missing)}")


def _features(command: list[str], flag: str) -> set[str]:
    """Returns the macros that tell which instructions the compiler may use with this flag."""
    return set(_FEATURE.findall(_run([*command, flag, "-dM", "-E", "-x", "c", os.devnull])))


def key(command: list[str]) -> str:
    """Returns the name of a build: a hash of the sources, the flags, the processor and the compiler's file, which an update changes."""
    parts = [*command, *flags(), platform.machine(), platform.platform(), processor(), *(t for item in sources().items() for t in item)]
    file = os.stat(command[0])
    parts += [os.path.realpath(command[0]), str(file.st_mtime_ns), str(file.st_size)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def load() -> tuple[ctypes.CDLL, str]:
    """Returns the library and its path, from the cache or compiled. Raises BuildError if that is impossible, ConfigError for a wrong
    TINYLM_CPU_TARGET."""
    if sys.platform not in ("linux", "darwin"):
        raise BuildError(f"the CPU kernels need Linux or macOS, this is {sys.platform}")
    command = compiler()
    name = key(command)
    try:
        place = cache_folder("cpu_kernels")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not trusted(place, stat.S_ISDIR):
            raise PermissionError(f"{place} belongs to another user, or others may write to it")
        kept = _kept(place, name)
        if kept is not None:
            return kept
        remove_abandoned(place)
        problem = None
    except OSError as error:
        problem = error
    check_target(command)
    try:
        with temporary_folder(Path(tempfile.gettempdir()), "tinylm-build-") as workspace:
            built = build(command, workspace)
            if problem is None:
                try:
                    path = _keep(built, place, name)
                    return ctypes.CDLL(str(path)), str(path)
                except OSError as error:
                    problem = error
            library = ctypes.CDLL(str(built))  # once it is loaded, its file may go
    except OSError as error:
        raise BuildError(f"what was compiled cannot be loaded ({error})") from error
    say(f"the compiled CPU kernels cannot be kept for the next process ({problem}); TINYLM_CACHE may name a folder for them")
    return library, "compiled for this process alone"


def _kept(place: Path, name: str) -> tuple[ctypes.CDLL, str] | None:
    """Returns the library from the cache, if it is there. A damaged file is removed."""
    found = sorted(place.glob(f"{name}-*.so"))
    for path in found:
        if trusted(path, stat.S_ISREG) and path.stem.rpartition("-")[2] == _digest(path.read_bytes()):
            return ctypes.CDLL(str(path)), str(path)
    if found:
        say(f"the cached CPU kernels {found[0]} are damaged, or others may write to them: they are compiled again")
    for path in found:
        path.unlink(missing_ok=True)
    return None


def _keep(built: Path, place: Path, name: str) -> Path:
    """Puts a copy into the cache: whole or not at all, also if other processes do so at the same time."""
    content = built.read_bytes()
    path = place / f"{name}-{_digest(content)}.so"
    with atomic_file(path) as file:
        file.write(content)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def build(command: list[str], workspace: Path) -> Path:
    """Compiles every file, as many at a time as there are cores, and links them. Raises BuildError with the compiler's message."""
    files = [folder() / name for name in sources() if name.endswith(".c")]
    objects = [workspace / f"{file.name}.o" for file in files]
    command = [*command, *flags()]
    with ThreadPoolExecutor(os.cpu_count()) as several:
        list(several.map(lambda file, target: _run([*command, "-c", str(file), "-o", str(target)]), files, objects))
    library = workspace / "kernels.so"
    _run([*command, "-shared", *map(str, objects), "-o", str(library), "-lm"])
    return library


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BuildError(f"the compiler does not start ({error})") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BuildError(f"{command[0]} failed: {next((line for line in said if 'error' in line), said[0])}")
    return done.stdout
