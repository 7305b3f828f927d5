"""TINYLM_CPU_TARGET, and the flags that the CPU kernels are compiled with."""

from pathlib import Path

import pytest
from cpu_programs import REAL, start
from cpu_targets import name_of, targets

from tinylm.bindings.cpu import compiling
from tinylm.errors import ConfigError


@pytest.mark.parametrize("target", targets(), ids=name_of)
def test_a_target_of_this_processor(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLM_CPU_TARGET", target)
    assert not target or compiling.flags()[-1] == f"-march={target}"
    compiling.check_target([REAL])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("-O0", "TINYLM_CPU_TARGET is '-O0': expected the name of a target, like x86-64-v3 or armv8-a"),
        ("no-such-target", "TINYLM_CPU_TARGET is 'no-such-target', which the compiler does not accept: .*no-such-target"),
        ("too-new", r"TINYLM_CPU_TARGET is 'too-new', which this processor cannot run: it lacks ARM_FEATURE_NEW, AVX999"),
    ],
)
def test_a_target_that_is_refused(place: Path, target: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled before the refusal. The last target is known only to a compiler that the test writes."""
    script = place.parent.parent / "compiler"
    new = "#define __ARM_FEATURE_NEW 1\n#define __AVX999__ 1\n#define __tune_new__ 1\n"
    script.write_text(f'#!/bin/sh\n[ "$1" = -march=too-new ] && printf "{new}" && exit\nexec "{REAL}" "$@"\n', encoding="utf-8")
    monkeypatch.setenv("TINYLM_CPU_TARGET", target)
    with pytest.raises(ConfigError, match=message):
        compiling.load()
    assert not place.exists() or list(place.iterdir()) == []


def test_the_program_says_which_target_is_wrong() -> None:
    """The error is one line, as for every wrong setting, not a notice that NumPy does the work."""
    started = start(TINYLM_CPU_TARGET="no-such-target", TINYLM_KERNELS="auto")
    _, errors = started.communicate()
    assert started.returncode != 0
    assert "ConfigError: TINYLM_CPU_TARGET is 'no-such-target'" in errors.splitlines()[-1]


def test_no_flag_changes_how_numbers_behave() -> None:
    assert not {"-ffast-math", "-Ofast", "-ffinite-math-only", "-funsafe-math-optimizations"} & set(compiling.flags())
