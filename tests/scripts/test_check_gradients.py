"""scripts/check_gradients.py as a user runs it: functions of the user's own, models, kernels, reports."""

import json

import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

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
    assert f"1 function, {2 * samples} checks, 0 failed" in out
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


def test_json_and_html(own, tmp_path):
    files = tmp_path / "out.json", tmp_path / "out.html"
    result = script_here("check_gradients.py", "--module", f"{own}:wrong", "--json-out", files[0], "--html", files[1], "--seed", 3)
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
        ends_well(script_here("check_gradients.py", "--op", "exp", "--seed", seed, "--json-out", tmp_path / "out.json"))
        record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
        errors.append([r["error"] for r in record["functions"][0]["reports"]])
    assert errors[0] != errors[1]


def test_the_old_name_of_json_out_says_the_new_one(tmp_path):
    for words in (["--json", tmp_path / "out.json"], [f"--json={tmp_path / 'out.json'}"]):
        fails_with_one_line(script_here("check_gradients.py", "--op", "exp", *words), "error: --json is now --json-out FILE\n")
