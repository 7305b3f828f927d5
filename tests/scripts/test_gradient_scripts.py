"""What scripts/check_gradients.py and scripts/compare_gradients.py have in common, and that they notice what was broken."""

import os
import subprocess
import sys

import pytest
from script_helpers import SCRIPTS, fails_with_one_line

BOTH = pytest.mark.parametrize("name", ["check_gradients.py", "compare_gradients.py"])

# Runs a script after something was broken.
SPOILT = """
import runpy, sys
import numpy as np, tinylm
{spoil}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WRONG_GRADIENT = """
@tinylm.kernel("exp", device="cpu", dtypes=("float64",))
def exp(x, /):
    return np.exp(x), lambda dy: (dy * np.exp(x) * 1.001,)
"""
WRONG_VALUE = """
@tinylm.kernel("exp", device="cpu", dtypes=("float64",))
def exp(x, /):
    return np.exp(x) * 1.001, lambda dy: (dy * np.exp(x) * 1.001,)
"""

NO_TORCH = """
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Blocked())
"""


def script(name, *arguments, spoil=None):
    start = [] if spoil is None else ["-c", SPOILT.format(spoil=spoil)]
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "error",
        "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{SCRIPTS.parent}",
        "TINYLM_KERNELS": "auto",
    }
    command = [sys.executable, *start, str(SCRIPTS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@BOTH
def test_a_dry_run_passes_and_has_a_row_for_every_op(name):
    from tinylm.engine.kernels import registry

    result = script(name, "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {word for line in result.stdout.splitlines() for word in line.split()}
    assert set(registry) <= rows
    assert "FAILED" not in result.stdout
    assert " 0 " in result.stdout.splitlines()[-1]


@BOTH
def test_help_is_complete(name):
    result = script(name, "--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())  # without its line breaks
    for word in ("--op", "--device", "--dry-run", "The exit status is 1 if"):
        assert word in text


@BOTH
def test_one_op(name):
    result = script(name, "--op", "layer_norm")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "layer_norm" in result.stdout
    assert "rms_norm" not in result.stdout


@BOTH
def test_a_wrong_gradient_is_shown_and_gives_status_1(name):
    result = script(name, "--op", "exp", spoil=WRONG_GRADIENT)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILED" in result.stdout
    assert "argument 0: relative error 1.00e-03" in result.stdout


def test_the_first_divergence_comes_first():
    result = script("compare_gradients.py", "--op", "exp", spoil=WRONG_VALUE)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("exp, matrix (order 1): FAILED"))
    assert lines[first + 1].startswith("  output 0: relative error 1.00e-03; worst at [")
    assert lines[first + 2].startswith("  gradient of argument 0: relative error 1.00e-03")


@BOTH
def test_an_unknown_op_or_device(name):
    fails_with_one_line(script(name, "--op", "sine"), "unknown op 'sine': expected one of abs, add,")
    fails_with_one_line(script(name, "--device", "tpu"), "unknown device 'tpu'")


def test_one_model():
    result = script("compare_gradients.py", "--model", "multihead_attention")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "MultiheadAttention against PyTorch in float32" in result.stdout
    assert " ok  gradient of in_proj_weight" in result.stdout
    assert "layer_norm" not in result.stdout
    fails_with_one_line(script("compare_gradients.py", "--model", "sine"), "unknown model 'sine': expected one of ")


def test_without_pytorch():
    fails_with_one_line(script("compare_gradients.py", spoil=NO_TORCH), "PyTorch is not installed: pip install 'tinylm[test]'")
    assert script("check_gradients.py", "--op", "exp", spoil=NO_TORCH).returncode == 0


def test_a_wrong_kernel_is_caught():
    spoil = WRONG_GRADIENT.replace("float64", "float32")
    result = script("check_gradients.py", "--op", "exp", "--implementation", "kernel", spoil=spoil)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "a factor of 1.001" in result.stdout
    for implementation in ("auto", "reference"):  # float64: the kernel does not run
        assert script("check_gradients.py", "--op", "exp", "--implementation", implementation, spoil=spoil).returncode == 0
    assert script("check_gradients.py", "--op", "exp", "--implementation", "reference", spoil=WRONG_GRADIENT).returncode == 0
