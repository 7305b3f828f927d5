"""Joint projections: one op for plain layers, one layer at a time for adapted ones, and the same numbers from both."""

import numpy as np
import pytest
from helpers import TOLERANCES, assert_close

from tinylm import Tensor, nn
from tinylm.nn.lora import LowRankLinear

FREQUENCIES = (1.0, 0.1)  # heads of width 4


def swiglu(x: Tensor, layers: list[nn.Linear]) -> tuple[Tensor, ...]:
    return (nn.swiglu_linear(x, *layers[:2]),)


def heads(x: Tensor, layers: list[nn.Linear]) -> tuple[Tensor, ...]:
    return nn.rotary_heads(x, *layers, frequencies=FREQUENCIES, start=2, pairing="half")


def gradients(function, x: np.ndarray, layers: list[nn.Linear]) -> dict[str, np.ndarray | None]:
    """Returns the outputs of a function and all gradients of the sum of their squares."""
    inputs = Tensor(x, requires_grad=True)
    outputs = function(inputs, layers)
    sum((y * y).sum() for y in outputs).backward()
    found = {f"output {i}": y.data for i, y in enumerate(outputs)} | {"x": inputs.grad}
    for i, layer in enumerate(layers):
        found |= {f"weight {i}": layer.weight.grad, f"bias {i}": None if layer.bias is None else layer.bias.grad}
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("function", "op"), [(swiglu, "swiglu_linear"), (heads, "rotary_heads")])
def test_adapters_that_add_nothing_change_nothing(function, op: str, bias: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    layers = [nn.Linear(6, 8, bias), nn.Linear(6, 8, bias), nn.Linear(6, 8, bias)]
    plain = function(Tensor(x, requires_grad=True), layers)
    assert plain[0].node.op.name == op
    expected = gradients(function, x, layers)
    for layer in layers:
        layer.weight.grad = None
        if layer.bias is not None:
            layer.bias.grad = None
    one_adapted = [layers[0], LowRankLinear(layers[1], 2, 4.0), layers[2]]  # lora_B is zero
    assert function(Tensor(x, requires_grad=True), one_adapted)[0].node.op.name != op
    found = gradients(function, x, one_adapted)
    assert {k for k, v in found.items() if v is None} == {k for k, v in expected.items() if v is None}
    assert_close({k: (v, expected[k]) for k, v in found.items() if v is not None}, TOLERANCES["float32"])


@pytest.mark.parametrize("function", [swiglu, heads])
def test_frozen_layers_get_no_gradient(function) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    layers = [nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8)]
    expected = gradients(function, x, layers)["x"]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.requires_grad, parameter.grad = False, None
    found = gradients(function, x, layers)
    np.testing.assert_array_equal(found["x"], expected)
    assert all(v is None for k, v in found.items() if k.startswith(("weight", "bias")))
