"""Optimisers whose state has the parameters by name, and the learning rate."""

from typing import Any

import numpy as np
import pytest
import torch

from tinylm import nn, optim
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, ConfigError
from tinylm.optim.groups import decay_groups


class Pair(nn.Module):
    """Two layers, made in one order or the other."""

    def __init__(self, names: tuple[str, str]) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(2, 3) if name == "first" else nn.Linear(3, 2))


def stepped(model: nn.Module, optimizer: optim.Optimizer, steps: range) -> None:
    for k in steps:
        rng = np.random.default_rng(k)
        for name, p in sorted(model.named_parameters()):
            p.grad = rng.standard_normal(p.shape).astype(p.dtype)
            assert name
        optimizer.step(max_norm=1.0)


def made(kind: str, model: nn.Module) -> optim.Optimizer:
    groups: list[dict[str, Any]] = decay_groups(model.named_parameters(), 0.1, lr=0.05)
    if kind == "Muon":
        groups[1]["orthogonal"] = False
    return getattr(optim, kind)(groups, **({"momentum": 0.9} if kind == "SGD" else {}))


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Muon"])
def test_a_reordered_model_goes_on_to_the_last_bit(kind: str) -> None:
    model = Pair(("first", "second"))
    optimizer = made(kind, model)
    stepped(model, optimizer, range(3))
    state, weights = optimizer.state_dict(), model.state_dict()
    assert {name.split(".", 1)[1] for name in state if name.startswith("step.")} == set(weights)
    other = Pair(("second", "first"))
    assert list(other.state_dict()) != list(weights)
    other.load_state_dict(weights)
    resumed = made(kind, other)
    resumed.load_state_dict(state)
    for name, array in resumed.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    stepped(model, optimizer, range(3, 6))
    stepped(other, resumed, range(3, 6))
    found = other.state_dict()
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, err_msg=name)  # the norm's sum has another order


def test_a_state_by_numbers_and_without_rates_still_loads() -> None:
    """As optimisers wrote it before parameters had names."""
    model = Pair(("first", "second"))
    optimizer = made("AdamW", model)
    stepped(model, optimizer, range(2))
    state = optimizer.state_dict()
    names = ["first.weight", "second.weight", "first.bias", "second.bias"]  # the order of the groups
    old = {f"{kind}.{k}": state[f"{kind}.{name}"] for k, name in enumerate(names) for kind in ("step", "exp_avg", "exp_avg_sq")}
    fresh = made("AdamW", Pair(("first", "second")))
    fresh.param_groups[1]["lr"] = 0.25
    fresh.load_state_dict(old)
    found = fresh.state_dict()
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], 0.25 if name == "lr.1" else array, err_msg=name)
    unnamed = optim.AdamW([p for group in made("AdamW", model).param_groups for p in group["params"]])
    unnamed.load_state_dict(old)
    fresh.load_state_dict({**unnamed.state_dict(), "lr.1": np.array(0.5)})  # by numbers, with rates
    assert [group["lr"] for group in fresh.param_groups] == [1e-3, 0.5]


def test_names_that_are_numbers_in_another_order_stay_names() -> None:
    """They are not taken for the places that old states have in the place of names."""
    values = [Tensor(np.full(2, float(k)), requires_grad=True) for k in range(2)]
    optimizer = optim.AdamW([("1", values[0]), ("0", values[1])])
    values[0].grad = np.array([3.0, 4.0])
    optimizer.step()
    state = optimizer.state_dict()
    assert (state["step.1"], state["step.0"]) == (1, 0)
    fresh = optim.AdamW([("1", Tensor(np.ones(2), requires_grad=True)), ("0", Tensor(np.ones(2), requires_grad=True))])
    fresh.load_state_dict(state)
    for name, array in fresh.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


def test_the_learning_rate_is_restored_as_pytorch_does() -> None:
    found = []
    for package, parameter in ((optim, nn.Parameter(np.ones(2, np.float32))), (torch.optim, torch.nn.Parameter(torch.ones(2)))):
        optimizer = package.SGD([parameter], lr=0.1)  # type: ignore[attr-defined]
        optimizer.param_groups[0]["lr"] = 0.1 * 0.3
        state = optimizer.state_dict()
        other = package.SGD([parameter], lr=7.0)  # type: ignore[attr-defined]
        other.load_state_dict(state)
        found.append(other.param_groups[0]["lr"])
    assert found == [0.1 * 0.3] * 2
    assert type(found[0]) is float


def test_the_rate_that_was_loaded_is_the_one_that_is_used() -> None:
    p = nn.Parameter(np.ones(2))
    optimizer = optim.SGD([("p", p)], lr=7.0)
    optimizer.load_state_dict({**optimizer.state_dict(), "lr.0": np.array(0.5)})
    p.grad = np.ones(2)
    optimizer.step()
    np.testing.assert_array_equal(p.data, [0.5, 0.5])


def test_names_that_are_refused() -> None:
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))
    with pytest.raises(ConfigError, match="parameter 1 of the optimiser has no name, 'p' has one: expected all or none"):
        optim.SGD([("p", p), q])
    with pytest.raises(ConfigError, match="two parameters of the optimiser have the name 'p'"):
        optim.SGD([{"params": [("p", p)]}, {"params": [("p", q)]}])
    with pytest.raises(ConfigError, match=r"the name of parameter 0 of the optimiser is 2\.5: expected a text"):
        optim.SGD([(2.5, p)])
    with pytest.raises(ConfigError, match="takes leaf tensors"):
        optim.SGD([("p", "q")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr.0": np.array(-1.0)}, "'lr.0' is -1.0, expected at least 0"),
        ({"lr.0": np.array(np.nan)}, "'lr.0' is not finite"),
        ({"lr.0": np.ones(2)}, "misshapen 'lr.0'"),
        ({"lr.1": np.array(1.0)}, "unexpected 'lr.1'"),
        ({"step.r": np.array(1)}, "unexpected 'step.r'"),
    ],
)
def test_states_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    optimizer = optim.SGD([("p", nn.Parameter(np.ones(2)))], lr=0.25)
    state = optimizer.state_dict()
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state_dict({**state, **change})
    with pytest.raises(CheckpointError, match=r"missing 'step\.p'"):
        optimizer.load_state_dict({name.replace(".p", ".x"): array for name, array in state.items()})
    assert optimizer.param_groups[0]["lr"] == 0.25
