"""The targets that the tests of the CPU kernels run for: this machine's own, and the narrower ones that it can run."""

import functools
import os
import platform
import shutil
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling
from tinylm.bindings.cpu.library import Library
from tinylm.errors import ConfigError

_NAMES = {"x86_64": ("x86-64-v2", "x86-64-v3", "x86-64-v4"), "aarch64": ("armv8-a", "armv8.2-a", "armv9-a")}


def _runs(target: str) -> bool:
    """Returns whether the compiler knows the target and this processor has its instructions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYLM_CPU_TARGET", target)
        try:
            compiling.check_target(compiling.compiler())
        except (ConfigError, compiling.BuildError):
            return False
    return True


@functools.cache
def targets() -> tuple[str, ...]:
    """Returns the values of TINYLM_CPU_TARGET: the one that is set, or else "" for this machine's own and each other one that runs."""
    own = os.environ.get("TINYLM_CPU_TARGET", "")
    return (own,) if own else ("", *(name for name in _NAMES.get(platform.machine(), ()) if _runs(name)))


def name_of(target: str) -> str:
    """Returns a target's name in a test's name."""
    return target or "native"


def with_compiled_kernels(cache: Path) -> Path:
    """Returns the folder, as a value of TINYLM_CACHE for a new process that need not compile the kernels, which takes seconds."""
    try:
        kept = Path(compiling.load()[1])
    except compiling.BuildError:
        return cache  # NumPy will do the work
    (cache / "cpu_kernels").mkdir(mode=0o700, parents=True)
    if kept.exists():  # otherwise they were compiled for this process alone
        shutil.copy2(kept, cache / "cpu_kernels")
    return cache


@functools.cache
def library_for(target: str) -> Library:
    """Returns the kernels compiled for the target that TINYLM_CPU_TARGET names. Skips the test if there is no compiler."""
    assert os.environ.get("TINYLM_CPU_TARGET", "") == target
    try:
        return Library(compiling)
    except compiling.BuildError as error:
        pytest.skip(f"the CPU kernels need a C compiler: {error}")
