"""What scripts/check_gradients.py and scripts/compare_gradients.py have in common, and that they notice what was broken."""

import contextlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script, script_here

import tinylm
from tinylm.engine import kernels

BOTH = pytest.mark.parametrize("name", ["check_gradients.py", "compare_gradients.py"])

# Runs a script in a Python without PyTorch.
NO_TORCH = """
import runpy, sys
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without_torch(name, *arguments):
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}"}
    command = [sys.executable, "-c", NO_TORCH, str(SCRIPTS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(autouse=True)
def _kernels_allowed(monkeypatch):
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")


@contextlib.contextmanager
def wrong_kernel(value=1, dtype="float64"):
    """Within it exp has a kernel of which the gradient is 1.001 times as large, and the value too with value=1.001."""
    record = kernels.registry["exp"]
    before = record.kernels.copy(), record.devices.copy()

    @tinylm.kernel("exp", device="cpu", dtypes=(dtype,))
    def exp(x, /):
        return np.exp(x) * value, lambda dy: (dy * np.exp(x) * 1.001,)

    try:
        yield
    finally:
        for now, then in zip((record.kernels, record.devices), before, strict=True):
            now.clear()
            now.update(then)


@BOTH
def test_a_dry_run_passes_and_has_a_row_for_every_op(name):
    result = script(name, "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {word for line in result.stdout.splitlines() for word in line.split()}
    assert set(kernels.registry) <= rows
    assert "FAILED" not in result.stdout
    assert " 0 " in result.stdout.splitlines()[-1]


@BOTH
def test_help_is_complete(name):
    text = " ".join(ends_well(script_here(name, "--help")).split())  # without its line breaks
    for word in ("--op", "--device", "--dry-run", "The exit status is 1 if"):
        assert word in text


@BOTH
def test_one_op(name):
    result = script_here(name, "--op", "layer_norm")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "layer_norm" in result.stdout
    assert "rms_norm" not in result.stdout


@BOTH
def test_a_wrong_gradient_is_shown_and_gives_status_1(name):
    with wrong_kernel():
        result = script_here(name, "--op", "exp")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILED" in result.stdout
    assert re.search(r"argument 0\)?: relative error 1.00e-03", result.stdout)


def test_the_first_divergence_comes_first():
    with wrong_kernel(value=1.001):
        result = script_here("compare_gradients.py", "--op", "exp")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("exp, matrix (order 1): FAILED"))
    assert lines[first + 1].startswith("  output 0: relative error 1.00e-03; worst at [")
    assert lines[first + 2].startswith("  gradient of x (argument 0): relative error 1.00e-03")


@BOTH
def test_an_unknown_op_or_device(name):
    fails_with_one_line(script_here(name, "--op", "sine"), "unknown op 'sine': expected one of abs, add,")
    fails_with_one_line(script_here(name, "--device", "tpu"), "unknown device 'tpu'")


def test_one_model():
    result = script_here("compare_gradients.py", "--model", "multihead_attention")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "MultiheadAttention against PyTorch in float32" in result.stdout
    assert " ok  gradient of in_proj_weight" in result.stdout
    assert "layer_norm" not in result.stdout
    fails_with_one_line(script_here("compare_gradients.py", "--model", "sine"), "unknown model 'sine': expected one of ")


def test_without_pytorch():
    fails_with_one_line(without_torch("compare_gradients.py"), "PyTorch is not installed: pip install 'tinylm[test]'")
    assert without_torch("check_gradients.py", "--op", "exp").returncode == 0


def test_a_wrong_kernel_is_caught():
    def checked(implementation):
        return script_here("check_gradients.py", "--op", "exp", "--implementation", implementation)

    with wrong_kernel(dtype="float32"):
        result = checked("kernel")
        assert result.returncode == 1, result.stdout + result.stderr
        assert "a factor of 1.001" in result.stdout
        for implementation in ("auto", "reference"):  # float64: the kernel does not run
            assert checked(implementation).returncode == 0
    with wrong_kernel():
        assert checked("reference").returncode == 0
