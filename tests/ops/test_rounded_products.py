"""`products("bfloat16")` in every op that multiplies: PyTorch rounding the same operands, and the kernels."""

import numpy as np
import pytest
import torch
from op_cases import parametrize, run, use
from rounded_torch import RoundedProducts, matmul

import tinylm
from tinylm.verify import compare_op, samples_of
from tinylm.verify.arguments import on_device
from tinylm.verify.torch import reference

GIVEN = ["matmul", "einsum", "linear", "swiglu_linear", "rotary_heads"]  # their operands are arguments and cotangents
COMPUTED = ["scaled_dot_product_attention", "rnn", "lstm", "gru"]  # some of their operands are computed on the way

# A number within float32's error of the middle between two bfloat16 numbers may be rounded to either of them: 2⁻⁸ of
# it. Where operands are computed on the way, one such number among some hundreds is allowed for.
TOLERANCES = dict.fromkeys(GIVEN, 1e-5) | dict.fromkeys(COMPUTED, 1e-4)


@pytest.fixture
def rounding_torch(monkeypatch):
    """Returns PyTorch's rounded products."""
    monkeypatch.setitem(reference.references, "matmul", matmul)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):  # whose LSTM is one call
        yield RoundedProducts


def as_pytorch(name):
    """Returns whether PyTorch has the same products for a sample: its einsum multiplies element by element where nothing is summed."""
    same = {"matrices", "attention scores", "without a result's letters", "ellipsis", "one array twice", "transposed"}
    return lambda sample: name != "einsum" or sample.note in same


@parametrize("float32", lambda name, sample: name in TOLERANCES and as_pytorch(name)(sample))
def test_values_and_gradients_are_pytorchs(name, sample, implementation, device, rounding_torch, monkeypatch):
    use(implementation, monkeypatch)
    with tinylm.products("bfloat16"), rounding_torch():
        report = compare_op(name, sample, dtype="float32", device=device)
    assert max(row.error for row in report.rows) <= TOLERANCES[name], report


@pytest.mark.parametrize("name", GIVEN + COMPUTED)
def test_second_derivatives_are_pytorchs(name, rounding_torch):
    """Taken after the block: the precision is that of the forward pass."""
    for sample in filter(as_pytorch(name), samples_of(name, seed=1)):
        with tinylm.products("bfloat16"), rounding_torch():
            report = compare_op(name, sample, order=2, dtype="float32")
        assert max(row.error for row in report.rows) <= max(TOLERANCES[name], 1e-4), report


def truncated(x):
    return (x.contiguous().view(torch.int32) & -0x10000).view(torch.float32)


def away_from_zero(x):
    return (x.contiguous().view(torch.int32) + 0x8000 & -0x10000).view(torch.float32)


@pytest.mark.parametrize("name", GIVEN + COMPUTED)
@pytest.mark.parametrize("wrong", [truncated, lambda x: x], ids=["truncated", "not rounded"])
def test_another_rounding_is_noticed(name, wrong, rounding_torch):
    sample = max(samples_of(name), key=lambda sample: sum(getattr(a, "size", 0) for a in sample.args))
    with tinylm.products("bfloat16"), rounding_torch(wrong):
        report = compare_op(name, sample, dtype="float32")
    assert max(row.error for row in report.rows) > 5e-4


def test_halves_rounded_away_from_zero_are_noticed(rounding_torch):
    halves = [np.array([[1 + 2**-8, 2.0]]), np.array([[1.0], [3 + 2**-7]])]  # in the middle between two bfloat16 numbers
    with tinylm.products("bfloat16"):
        with rounding_torch():
            assert compare_op("matmul", samples_of("matmul")[0].__class__("halves", tuple(halves), {}), dtype="float32").ok
        with rounding_torch(away_from_zero):
            assert not compare_op("matmul", samples_of("matmul")[0].__class__("halves", tuple(halves), {}), dtype="float32").ok


@parametrize("float64", lambda name, sample: name in TOLERANCES)
def test_float64_is_never_rounded(name, sample, implementation, device, monkeypatch):
    use(implementation, monkeypatch)
    args = on_device(list(sample.args), device)
    expected = run(name, args, sample.settings)
    with tinylm.products("bfloat16"):
        found = run(name, args, sample.settings)
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        np.testing.assert_array_equal(a, b)
