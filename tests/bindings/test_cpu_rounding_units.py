"""The ways to multiply rounded numbers that this processor may not have or need not use: float32 multiply-adds, and AMX tiles, whose
operations are emulated (cpu_drivers/emulated_tiles.h). Mistakes planted in them are found."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cpu_builds import PRODUCTS, UNITS, compile_one, compiled_again, compiled_wrong, linked, program, use
from kernel_helpers import assert_rounded_agrees, attention_inputs, linear_inputs, recurrent_inputs, without

from tinylm.bindings.cpu.library import Library

ATTENTION = "scaled_dot_product_attention"

# (unit, file, its text, the wrong text, what shows the mistake)
MISTAKES = [
    ("floats", "bfloat16.h", "bits + 0x7fff + (bits >> 16 & 1), quiet", "bits, quiet", "linear"),  # truncation
    ("floats", "panels_bfloat16.c", "round_row(panel, k * PANEL, panel);", "", "linear"),
    ("floats", "panels_bfloat16.c", "== FLOATS ? l : l / 2", "== FLOATS ? 0 : l / 2", "deep"),
    ("tiles", "bfloat16.h", "bits + 0x7fff + (bits >> 16 & 1), quiet", "bits, quiet", "linear"),
    ("tiles", "bfloat16.h", "bits + 0x7fff + (bits >> 16 & 1), quiet", "bits + 0x8000, quiet", "ties"),  # away from zero
    ("tiles", "bfloat16.h", "pair_of(x[i], next[i])", "pair_of(next[i], x[i])", "linear"),  # swapped in a pair
    ("tiles", "bfloat16.h", "if (2 * i < n) words[i] = pair_of(x[2 * i], 0), i++;", "", "linear"),  # the last odd k
    ("tiles", "bfloat16.h", "words[i] = pair_of(x[i], 0);", "words[i] = 0;", "linear"),
    ("tiles", "panels_bfloat16.c", "GROUP - 1) / GROUP * GROUP", "0) / 1", "linear"),
    ("tiles", "panels_bfloat16.c", "add || l > 0", "add", "deep"),
    ("tiles", "panels_tiles.c", "tile_multiply_add(3, 5, 7)", "tile_multiply_add(3, 5, 6)", "linear"),
    ("tiles", "panels_tiles.c", "add && r < height", "0", "deep"),
    ("tiles", "few_rows.c", "rounded_vector(load(b[j] + l + i * LANES))", "load(b[j] + l + i * LANES)", "few_rows"),
    ("tiles", "attention.c", "0, 1);\n", "0, 1);\n        return;\n", ATTENTION),  # scores without their scale
]

# What a thread would do that took its tiles, or those of the process it was forked from, for configured.
CONFIGURED_ONCE = {
    "in a process": {"tiles_configure();": "static int done; if (!done) tiles_configure(); done = 1;", "tiles_release();": ""},
    "in a thread": {"tiles_configure();": "static _Thread_local int done; if (!done) tiles_configure(); done = 1;", "tiles_release();": ""},
}


@pytest.fixture(scope="module")
def objects(workspace: Path) -> dict[str, dict[str, str]]:
    """Returns the object files of each unit that are not those of the workspace."""
    return {unit: compiled_again(workspace, unit, [f"{name}.c" for name in PRODUCTS], *options) for unit, options in UNITS.items()}


def compare(what: str) -> None:
    if what == "linear":
        assert_rounded_agrees("linear", *without(linear_inputs((71, 33), 90), 2, 3))
    elif what == "ties":
        arrays = [np.round(a * 4) / 4 * (1 + 2.0**-8) for a in without(linear_inputs((40, 20), 30), 2, 3)[:2]]
        assert_rounded_agrees("linear", *arrays)
    elif what == "few_rows":
        assert_rounded_agrees("linear", *without(linear_inputs((9, 90), 30), 2, 3))
    elif what == "deep":
        arrays = recurrent_inputs("rnn", steps=2, batch=3, hidden=530)
        assert_rounded_agrees("rnn", *(a / 23 if i in (1, 2) else a for i, a in enumerate(arrays)), tolerance=1e-4)
    else:
        assert_rounded_agrees(ATTENTION, *attention_inputs(2, steps=50, keys=50, width=9), tolerance=1e-4, causal=True)


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_agrees(
    native_cpu: Library, workspace: Path, objects: dict[str, dict[str, str]], unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(linked(workspace, unit, objects[unit]), monkeypatch)
    for what in ("linear", "ties", "few_rows", "deep", ATTENTION):
        compare(what)
    for name in ("lstm", "gru"):
        assert_rounded_agrees(name, *recurrent_inputs(name, batch=19), tolerance=1e-4)


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: f"{MISTAKES[number][1]}-{number}")
def test_a_mistake_is_found(
    native_cpu: Library, workspace: Path, objects: dict[str, dict[str, str]], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, file, right, wrong, what = MISTAKES[number]
    changed = ["panels_bfloat16.c"] if file.endswith(".h") else [file]
    others = compiled_wrong(workspace, f"wrong-{unit}-{number}", file, {right: wrong}, changed, *UNITS[unit])
    use(linked(workspace, f"wrong-{unit}-{number}", objects[unit] | others), monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="relative error"):
        compare(what)


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="tiles are x86's, and Linux grants them")
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_each_compiler_finds_the_tiles_and_compiles_them(workspace: Path, name: str) -> None:
    """Old compilers have other names for a processor's instructions."""
    options = ["-march=sapphirerapids", "-std=gnu11"]
    if not shutil.which(name) or subprocess.run([name, *options, "-E", "-x", "c", os.devnull], capture_output=True).returncode:
        pytest.skip(f"no {name} that knows processors with tiles")
    done = subprocess.run([name, *options, "-S", workspace / "panels_tiles.c", "-o", "-"], capture_output=True, text=True, check=True)
    for instruction in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"):
        assert instruction in done.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a target of x86")
def test_the_emulated_tiles_build_for_narrower_vectors(workspace: Path, objects: dict[str, dict[str, str]]) -> None:
    for name in PRODUCTS:
        compile_one(workspace / f"{name}.c", os.devnull, *UNITS["tiles"], "-march=x86-64-v3", "-fsyntax-only", "-Wno-psabi")


def test_each_thread_and_each_process_configures_its_tiles(workspace: Path, objects: dict[str, dict[str, str]]) -> None:
    done = subprocess.run([program(workspace, "threads", objects["tiles"], "tiles.c")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name, changes in CONFIGURED_ONCE.items():
        wrong = compiled_wrong(workspace, name, "panels_tiles.c", changes, ["panels_tiles.c"], *UNITS["tiles"])
        done = subprocess.run([program(workspace, name, objects["tiles"] | wrong, "tiles.c")], capture_output=True, text=True)
        assert done.returncode != 0
        assert "this thread has not configured its tiles" in done.stderr
