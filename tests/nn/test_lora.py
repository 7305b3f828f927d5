"""Low-rank adapters: compared with PyTorch's formula, frozen weights, merging, and files of adapters alone."""

import numpy as np
import pytest
import torch
from helpers import TOLERANCES, assert_close

from tinylm import Tensor, nn, ops
from tinylm.errors import CheckpointError, ConfigError
from tinylm.models import GPT, GPTConfig
from tinylm.nn.lora import LowRankLinear, adapt, adapter_arrays, load_adapters, merge
from tinylm.ops.activations import ACTIVATIONS


def adapted(bias: bool, dtype: str, rng: np.random.Generator) -> LowRankLinear:
    """Returns a layer from 6 to 5 with a correction of rank 3 that is not zero."""
    base = nn.Linear(6, 5, bias)
    base.weight.requires_grad = False
    if base.bias is not None:
        base.bias.requires_grad = False
    layer = LowRankLinear(base, 3, alpha=12.0)
    layer.to(dtype=dtype)
    layer.lora_B.data[...] = rng.standard_normal((5, 3))
    return layer


def theirs(layer: LowRankLinear, activation: str | None, x: torch.Tensor, residual: torch.Tensor | None) -> tuple[torch.Tensor, dict]:
    """Returns the paper's formula on PyTorch's tensors, and the tensors of both factors."""
    factors = {name: torch.tensor(getattr(layer, name).data, requires_grad=True) for name in ("lora_A", "lora_B")}
    bias = None if layer.bias is None else torch.tensor(layer.bias.data)
    y = torch.nn.functional.linear(x, torch.tensor(layer.weight.data), bias)
    y = y + 4.0 * (x @ factors["lora_A"].T @ factors["lora_B"].T)
    if activation is not None:
        y = getattr(torch.nn.functional, activation)(y)
    return (y if residual is None else y + residual), factors


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_it_equals_the_formula_in_pytorch(activation: str | None, bias: bool, with_residual: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    layer = adapted(bias, dtype, rng)
    x, residual, cotangent = (rng.standard_normal((2, 4, n)).astype(dtype) for n in (6, 5, 5))
    ours = {"x": Tensor(x, requires_grad=True), "residual": Tensor(residual, requires_grad=True)}
    expected = {name: torch.tensor(t.data, requires_grad=True) for name, t in ours.items()}
    y = layer(ours["x"], ours["residual"] if with_residual else None, activation=activation)
    z, factors = theirs(layer, activation, expected["x"], expected["residual"] if with_residual else None)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    assert_close({"output": (y.data, z.detach().numpy())}, TOLERANCES[dtype])
    trained = {"lora_A": layer.lora_A, "lora_B": layer.lora_B, **ours}
    expected |= factors
    if not with_residual:
        del trained["residual"]
    assert_close({name: (t.grad, expected[name].grad.numpy()) for name, t in trained.items()}, TOLERANCES[dtype])
    assert layer.weight.grad is None
    assert layer.bias is None or layer.bias.grad is None


def test_a_frozen_layer_passes_the_gradient_on_and_has_none() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(6, 5)
    x, cotangent = rng.standard_normal((3, 6)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    for frozen in (False, True):
        layer.weight.requires_grad = layer.bias.requires_grad = not frozen
        given = Tensor(x, requires_grad=True)
        layer.zero_grad()
        layer(given).backward(cotangent)
        np.testing.assert_allclose(given.grad, cotangent @ layer.weight.data, rtol=1e-5)
        assert (layer.weight.grad is None) == (layer.bias.grad is None) == frozen
    layer.bias.requires_grad = True  # if one of the two needs a gradient, both are computed
    layer(Tensor(x)).backward(cotangent)
    np.testing.assert_allclose(layer.bias.grad, cotangent.sum(axis=0), rtol=1e-5)
    assert layer.weight.grad is None


def gpt() -> GPT:
    return GPT(GPTConfig(vocab_size=7, block_size=8, n_layer=2, n_head=2, n_embd=8, bias=True))


def loss_of(model: GPT) -> Tensor:
    ids = np.random.default_rng(1).integers(0, 7, (2, 6))
    return ops.cross_entropy(model(Tensor(ids[:, :-1])), Tensor(ids[:, 1:]))


def test_an_adapted_model_begins_as_it_was_and_trains_its_adapters_alone() -> None:
    model = gpt()
    before, state = loss_of(model).item(), model.state_dict()
    paths = adapt(model, 2, alpha=4.0, chosen=lambda path: ".attn." in path)
    assert paths == [f"transformer.h.{i}.attn.{name}" for i in range(2) for name in ("c_attn", "c_proj")]
    loss = loss_of(model)
    assert loss.item() == before
    loss.backward()
    names = {f"{path}.{factor}" for path in paths for factor in ("lora_A", "lora_B")}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == names
    assert all(np.abs(p.grad).max() > 0 for name, p in model.named_parameters() if name.endswith("lora_B"))
    assert set(adapter_arrays(model)) == names
    assert {name: state[name].tobytes() for name in state} == {name: model.state_dict()[name].tobytes() for name in state}


def test_merged_weights_compute_what_the_adapters_did() -> None:
    model, rng = gpt().to(dtype="float64"), np.random.default_rng(2)
    adapt(model, 2, alpha=4.0, chosen=lambda path: ".h." in path)
    for name, array in adapter_arrays(model).items():
        if name.endswith("lora_B"):
            array[...] = rng.standard_normal(array.shape)
    before = loss_of(model).item()
    merge(model)
    assert abs(loss_of(model).item() - before) < 1e-12 * before
    assert [name for name, _ in model.named_state()] == [name for name, _ in gpt().named_state()]
    loss_of(model).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_adapters_alone_are_saved_and_loaded() -> None:
    model, other = gpt(), gpt()
    other.load_state_dict(model.state_dict())
    for each in (model, other):
        adapt(each, 2, alpha=4.0, chosen=lambda path: ".attn." in path)
    for array in adapter_arrays(model).values():
        array += 0.5
    arrays = {name: array.copy() for name, array in adapter_arrays(model).items()}
    load_adapters(other, arrays)
    assert loss_of(other).item() == loss_of(model).item()
    name = next(iter(arrays))
    with pytest.raises(CheckpointError, match=rf"missing '{name}'.*unexpected 'stranger'"):
        load_adapters(other, {**{n: a for n, a in arrays.items() if n != name}, "stranger": np.zeros(1)})


def test_what_cannot_be_adapted_is_named() -> None:
    with pytest.raises(ConfigError, match="rank is 7: expected 1 to 5 for a layer from 6 to 5"):
        LowRankLinear(nn.Linear(6, 5), 7, 1.0)
    with pytest.raises(ConfigError, match="none of the linear layers of GPT"):
        adapt(gpt(), 2, 4.0, lambda path: False)
    model = gpt()
    with pytest.raises(ConfigError, match="lm_head shares its weight"):
        adapt(model, 2, 4.0)
    assert all(p.requires_grad for p in model.parameters())
