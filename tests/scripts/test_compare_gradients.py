"""scripts/compare_gradients.py as a user runs it: pairs of the user's own, one precision, drift, gradients in files."""

import json

import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

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


def test_reports_as_files(pairs, tmp_path):
    """All reports, those that are out of tolerance too, as JSON and as a page; also of gradients from a file."""
    files = ["--json-out", tmp_path / "out.json", "--html-out", tmp_path / "out.html"]
    result = script_here("compare_gradients.py", "--module", f"{pairs}:wrong", "--dtype", "float32", *files)
    assert result.returncode == 1
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert (record["device"], record["dtype"]) == ("cpu", "float32")
    (function,) = record["functions"]
    assert (function["name"], function["ok"]) == (f"{pairs}:wrong", False)
    rows = {row["name"]: row for row in function["reports"][0]["rows"]}
    assert rows["gradient through 1"]["verdict"] == "wrong"
    assert rows["gradient through 1"]["error"] == pytest.approx(1e-2, rel=1e-3)
    assert rows["output of 2"]["ok"]
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Values and gradients against PyTorch (cpu, float32)" in page
    assert '<span class="failed">FAILED</span>' in page
    assert "gradient through 1" in page
    ours = tmp_path / "ours.safetensors"
    ends_well(script_here("compare_gradients.py", "--model", "gru", "--save", ours, *files))
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["functions"] == []
    ends_well(script_here("compare_gradients.py", "--file", ours, "--against", ours, *files))
    (function,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["functions"]
    assert (function["name"], function["ok"]) == (str(ours), True)
