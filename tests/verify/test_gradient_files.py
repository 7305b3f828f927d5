"""Gradients compared by name, from models, arrays and files of other programs."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tinylm import nn
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.verify import compare_gradients, save_gradients


@pytest.fixture
def both():
    """Returns the same model in tinylm and in PyTorch, after the same backward pass."""
    torch.manual_seed(0)
    theirs = torch.nn.Linear(3, 2)
    ours = nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    ours(x).sum().backward()
    theirs(torch.from_numpy(x)).sum().backward()
    return ours, theirs


def test_a_file_written_by_pytorch(both, tmp_path):
    ours, theirs = both
    save_file({name: p.grad for name, p in theirs.named_parameters()}, tmp_path / "g.safetensors")
    report = compare_gradients(ours, tmp_path / "g.safetensors")
    assert report.ok, report
    assert [row.name for row in report.rows] == ["weight", "bias"]
    assert report.tolerance == 1e-5  # float32
    theirs.weight.grad[1, 2] *= 1.01
    save_file({name: p.grad for name, p in theirs.named_parameters()}, tmp_path / "g.safetensors")
    report = compare_gradients(ours, tmp_path / "g.safetensors")
    assert [row.name for row in report.failures] == ["weight"]
    assert "worst at [1, 2]" in report.failures[0].detail
    assert "by the other" in report.failures[0].detail


def test_names_and_shapes_are_listed_and_the_rest_is_compared():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal(4)
    report = compare_gradients({"a": a, "b": b, "c": a}, {"a": a * 1.1, "b": b[:3], "d": a})
    assert {row.name: row.error for row in report.failures} == {"c": np.inf, "d": np.inf, "b": np.inf, "a": pytest.approx(1 / 11)}
    assert report.tolerance == 1e-10


def test_what_is_saved_is_read_back_bit_for_bit(both, tmp_path):
    ours, _ = both
    ours.weight.grad = ours.weight.grad.T.copy().T  # not contiguous
    save_gradients(ours, tmp_path / "g.safetensors")
    report = compare_gradients(tmp_path / "g.safetensors", ours)
    assert report.ok
    assert report.error == 0
    save_gradients({"a": Tensor(np.arange(6.0).reshape(2, 3).T), "b": np.array(1.5)}, tmp_path / "h.safetensors")
    assert compare_gradients(tmp_path / "h.safetensors", {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(1.5)}).error == 0


def test_files_and_models_that_cannot_be_used(tmp_path):
    with pytest.raises(CheckpointError, match="call backward first"):
        save_gradients(nn.Linear(3, 2), tmp_path / "g.safetensors")
    with pytest.raises(CheckpointError, match="cannot read"):
        compare_gradients({}, tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a file of arrays")
    with pytest.raises(CheckpointError, match="is damaged"):
        compare_gradients({}, tmp_path / "bad.safetensors")
    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match="NumPy lacks"):
        compare_gradients({}, tmp_path / "half.safetensors")
