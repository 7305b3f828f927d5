"""scripts/check_gradients.py and scripts/compare_gradients.py as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from script_helpers import ends_well, script_here

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
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


def fails_with_one_line(result, message):
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


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


# ---------------------------------------------------------------- check_gradients.py

OWN = """
import numpy as np
import tinylm
from tinylm import nn
from tinylm.verify.samples.registry import sample

@tinylm.op
def softplus(x, /):
    return np.log1p(np.exp(x)), lambda dy: (dy / (1 + np.exp(-x)),)

@tinylm.op
def wrong(x, /, *, power=2):
    return x**power, lambda dy: (dy * x ** (power - 1),)

@tinylm.op
def raising(a, b, /):
    return a @ b, lambda dy: (dy @ b, a.T @ dy)

def composed(x, scale):
    return tinylm.exp(softplus(x)) * scale

model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))

def softplus_samples(rng):
    yield (rng.standard_normal((2, 3)),)
    yield (rng.standard_normal(4),)

def wrong_samples(rng):
    yield sample("cube", rng.standard_normal(4), power=3)

def raising_samples(rng):
    yield rng.standard_normal((2, 3)), rng.standard_normal((3, 4))

def composed_samples(rng):
    yield rng.standard_normal(3), 2.0

def model_samples(rng):
    yield (rng.standard_normal((5, 3)),)

def count(ids):
    return tinylm.argmax(ids)

def count_samples(rng):
    yield (rng.integers(0, 3, 4),)

def softplus_without(x):
    return x

def other_samples(rng):
    yield [1, 2]

other = softplus
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "samples"), [("softplus", 2), ("composed", 1), ("model", 1)])
def test_a_function_of_the_users_own(own, name, samples):
    out = ends_well(script_here("check_gradients.py", "--module", f"{own}:{name}"))
    assert f" ok  {name}" in out
    assert f"1 functions, {2 * samples} checks, 0 failed" in out
    assert ("second order not checked: an op's body computes with NumPy itself" in out) is (name != "model")


def test_a_wrong_function_of_the_users_own(own):
    result = script_here("check_gradients.py", "--module", f"{own}:wrong")
    assert result.returncode == 1
    assert "wrong (full, order 1, cube): FAILED" in result.stdout
    assert "a factor of 0.333333" in result.stdout


def test_a_vjp_that_raises_is_a_failure_with_its_line(own):
    result = script_here("check_gradients.py", "--module", f"{own}:raising")
    assert result.returncode == 1
    assert "ValueError: relative error inf" in result.stdout
    assert "own.py:17)" in result.stdout


def test_what_is_wrong_with_a_file_of_the_users_own(own, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0", encoding="utf-8")
    for target, message in [
        (f"{own}:nothing", "defines no 'nothing'"),
        (f"{own}:softplus_without", "defines no 'softplus_without_samples'"),
        (f"{own}:count", "no floating array"),
        (f"{own}:other", "other_samples: number 0 is a list"),
        (str(own), "expected path.py:name"),
        (f"{tmp_path}/no.py:f", "expected path.py:name"),
        (f"{broken}:f", "cannot be imported: ZeroDivisionError"),
    ]:
        fails_with_one_line(script_here("check_gradients.py", "--module", target), message)


def test_a_model():
    out = ends_well(script_here("check_gradients.py", "--model", "multihead_attention"))
    assert " ok  multihead_attention" in out
    fails_with_one_line(script_here("check_gradients.py", "--model", "sine"), "unknown model 'sine': expected one of ")


def test_one_thing_at_a_time():
    fails_with_one_line(script_here("check_gradients.py", "--model", "gpt", "--op", "exp"), "exclude each other")


def test_the_float32_kernels_against_double_precision():
    out = ends_well(script_here("check_gradients.py", "--op", "linear", "--implementation", "kernel"))
    assert " ok  linear" in out
    assert int(out.splitlines()[-1].split()[2]) >= 5  # the samples that the kernel serves
    fails_with_one_line(script_here("check_gradients.py", "--op", "sign", "--implementation", "kernel"), "no kernel implementation on cpu")


def test_a_wrong_kernel_is_caught():
    spoil = WRONG_GRADIENT.replace("float64", "float32")
    result = script("check_gradients.py", "--op", "exp", "--implementation", "kernel", spoil=spoil)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "a factor of 1.001" in result.stdout
    for implementation in ("auto", "reference"):  # float64: the kernel does not run
        assert script("check_gradients.py", "--op", "exp", "--implementation", implementation, spoil=spoil).returncode == 0
    assert script("check_gradients.py", "--op", "exp", "--implementation", "reference", spoil=WRONG_GRADIENT).returncode == 0


def test_json_and_html(own, tmp_path):
    files = tmp_path / "out.json", tmp_path / "out.html"
    result = script_here("check_gradients.py", "--module", f"{own}:wrong", "--json", files[0], "--html", files[1], "--seed", 3)
    assert result.returncode == 1
    record = json.loads(files[0].read_text(encoding="utf-8"))
    assert record["seed"] == 3
    (function,) = record["functions"]
    assert function["name"] == "wrong"
    assert not function["ok"]
    first = function["reports"][0]
    assert "a factor of 0.333333" in first["rows"][0]["cause"]
    assert len(first["curve"]) > 10
    assert "a factor of 0.333333" in files[1].read_text(encoding="utf-8")


def test_another_seed_draws_other_samples(tmp_path):
    errors = []
    for seed in (0, 1):
        ends_well(script_here("check_gradients.py", "--op", "exp", "--seed", seed, "--json", tmp_path / "out.json"))
        record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
        errors.append([r["error"] for r in record["functions"][0]["reports"]])
    assert errors[0] != errors[1]


# ---------------------------------------------------------------- compare_gradients.py

PAIR = """
import torch
import numpy as np
import tinylm
from tinylm import nn

@tinylm.op
def wrong_backward(x, /):
    return x * 1.0, lambda dy: (dy * 1.01,)

class Wrong(nn.Linear):
    def forward(self, x):
        return super().forward(wrong_backward(x))

def pair(*layers):
    return nn.Sequential(*layers), torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in layers)), [np.ones((2, 3))]

def right():
    return pair(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))

def wrong():
    return pair(nn.Linear(3, 3), Wrong(3, 3), nn.Linear(3, 3))

def nothing():
    return None
"""


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.py"
    path.write_text(PAIR, encoding="utf-8")
    return path


def test_a_pair_of_the_users_own(pairs):
    out = ends_well(script_here("compare_gradients.py", "--module", f"{pairs}:right"))
    for word in ("relative", "largest |a - b|", "cosine", "ULPs", " ok  output of 2", " ok  gradient of 0.weight"):
        assert word in out
    result = script_here("compare_gradients.py", "--module", f"{pairs}:wrong", "--dtype", "float32")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Sequential against PyTorch in float32: FAILED"))
    assert lines[first + 1].startswith("  gradient through 1: relative error 1.00e-02")
    assert " FAILED  gradient through 1" in result.stdout
    fails_with_one_line(
        script_here("compare_gradients.py", "--module", f"{pairs}:nothing"), "must return (tinylm model, PyTorch model, batch)"
    )


def test_one_precision():
    for dtype, others in (("float64", 1e-9), ("float32", 1.0)):
        out = ends_well(script_here("compare_gradients.py", "--op", "softmax", "--dtype", dtype))
        row = next(line for line in out.splitlines() if " softmax " in line).split()
        assert float(row[-1]) < others
        assert (float(row[-1]) > 1e-9) is (dtype == "float32")


def test_drift_is_written_and_drawn(pairs, tmp_path):
    out = ends_well(script_here("compare_gradients.py", "--module", f"{pairs}:right", "--steps", 5, "--out", tmp_path / "drift"))
    assert "distance of the parameters" in out
    record = json.loads((tmp_path / "drift" / "drift.json").read_text(encoding="utf-8"))
    assert len(record["float32"]["distance"]) == 5
    assert (tmp_path / "drift" / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert script_here("compare_gradients.py", "--module", f"{pairs}:wrong", "--steps", 5, "--out", tmp_path / "drift").returncode == 1
    fails_with_one_line(script_here("compare_gradients.py", "--steps", 5), "--steps 5: expected")


def test_gradients_to_and_from_files(tmp_path):
    import safetensors.numpy

    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    ends_well(script_here("compare_gradients.py", "--model", "gru", "--save", ours))
    ends_well(script_here("compare_gradients.py", "--model", "gru", "--dtype", "float32", "--against", ours))
    arrays = safetensors.numpy.load_file(ours)
    arrays["bias_hh_l1"] = arrays["bias_hh_l1"] * 1.5
    arrays["more"] = arrays.pop("bias_ih_l0")
    safetensors.numpy.save_file(arrays, theirs)
    result = script_here("compare_gradients.py", "--file", ours, "--against", theirs)
    assert result.returncode == 1
    for word in (
        "bias_ih_l0: relative error inf; only in tinylm",
        "more: relative error inf; only in the other",
        "bias_hh_l1: relative error",
    ):
        assert word in result.stdout
    for wrong in (["--against", theirs], ["--model", "gru", "--file", ours, "--against", theirs]):
        fails_with_one_line(script_here("compare_gradients.py", *wrong), "--against need --model (or --against --file)")
    fails_with_one_line(script_here("compare_gradients.py", "--model", "gru", "--against", tmp_path / "no"), "cannot read")
