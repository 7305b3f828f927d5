"""The steps of kernels/README.md from plain to fast compute softmax: those in C here, those in CUDA C in the emulator."""

from pathlib import Path

import numpy as np
import pytest
from cuda_on_cpu import emulator
from readme_blocks import blocks_of
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script_here

from tinylm.bindings.cpu import compiling
from tinylm.bindings.cuda import launching

PAGE = "kernels/README.md"
TOLERANCE = 1e-5  # relative, of every element


def rows(count: int, columns: int) -> np.ndarray:
    return (np.random.default_rng(columns).standard_normal((count, columns)) * 4).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_steps_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from kernel_steps import steps

    try:
        compiling.compiler()
    except compiling.BuildError as error:
        pytest.skip(str(error))
    found = steps(tmp_path, threads=2)
    assert list(found) == ["softmax_1", "softmax_2", "softmax_3", "softmax_4"]
    for shape in ((1, 1), (3, 15), (5, 37), (200, 130)):  # the last one is enough work for the pool to be woken
        x = rows(*shape)
        results = {name: step(x) for name, step in found.items()}
        for name, y in results.items():
            np.testing.assert_allclose(y, softmax(x), rtol=TOLERANCE, err_msg=name)
        np.testing.assert_array_equal(results["softmax_4"], results["softmax_3"])
    assert not found["softmax_4"](np.full((2, 20), -np.inf, np.float32)).any()


def test_the_command_prints_one_row_per_step() -> None:
    lines = ends_well(script_here("kernel_steps.py", "--dry-run")).splitlines()
    assert [line.split()[1] for line in lines[3:]] == ["softmax_1", "softmax_2", "softmax_3", "softmax_4"]
    fails_with_one_line(script_here("kernel_steps.py", "--rows", 0), "rows is 0: expected at least 1")


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
@pytest.mark.parametrize(("name", "columns"), [(n, c) for n in ("softmax_1", "softmax_2", "softmax_3") for c in (4, 100, 516)])
def test_steps_in_cuda(name: str, columns: int) -> None:
    code = "".join(block.code for block in blocks_of(PAGE) if (block.language, block.word) == ("cuda", "step"))
    included = (launching.folder() / "reductions.cuh").read_text(encoding="utf-8")
    kernel = emulator.Module(code.replace('#include "reductions.cuh"', included)).get_function(name)
    x = rows(3, columns)
    y = np.full_like(x, np.nan)
    if name == "softmax_1":
        kernel((2,), (2,), (x, y, np.int64(len(x)), np.int32(columns)))  # three rows, four threads
    else:
        kernel((len(x),), (160,), (x, y, np.int32(columns)))
    np.testing.assert_allclose(y, softmax(x), rtol=TOLERANCE)
