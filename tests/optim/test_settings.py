"""What optimisers, schedules and clipping refuse, when they are made and later, and NumPy's numbers, which they take."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tinylm import optim
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, ConfigError, ShapeError
from tinylm.nn import Parameter

KINDS = {"SGD": optim.SGD, "Adam": optim.Adam, "AdamW": optim.AdamW, "Muon": optim.Muon}
SETTINGS = {
    "SGD": ("lr", "momentum", "weight_decay"),
    "Adam": ("lr", "eps", "weight_decay"),
    "AdamW": ("lr", "eps", "weight_decay"),
    "Muon": ("lr", "eps", "weight_decay", "momentum"),
}
BAD = [-1, -1e-9, math.nan, math.inf, -math.inf, "0.1", True, None, [0.1], np.array([0.1, 0.1]), np.float32("nan"), 1j, 10**400]
EACH = [(kind, name) for kind, names in SETTINGS.items() for name in names]


def matrix() -> Parameter:
    p = Parameter(np.arange(4.0).reshape(2, 2) + 1)
    p.grad = np.array([[0.5, -1.0], [2.0, 0.1]])
    return p


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_number_outside_its_range_is_refused_everywhere(kind: str, name: str) -> None:
    make = KINDS[kind]
    for value in BAD:
        with pytest.raises(ConfigError, match=f"^{name} is ") as caught:
            make([matrix()], **{name: value})
        assert len(str(caught.value)) < 200
        with pytest.raises(ConfigError, match=f"^{name} is "):
            make([{"params": [matrix()], name: value}])
        p, q = matrix(), matrix()
        optimizer = make([{"params": [p]}, {"params": [q]}])
        optimizer.param_groups[1][name] = value
        with pytest.raises(ConfigError, match=f"^{name} is "):
            optimizer.step()
        np.testing.assert_array_equal(p.data, matrix().data)  # nothing was updated, in the groups before either
        optimizer.param_groups[1][name] = 0.1
        optimizer.step()
        assert (p.data != matrix().data).any()


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_numpys_numbers_are_as_good_as_pythons(kind: str, name: str) -> None:
    def after(value: Any, later: Any = None) -> np.ndarray:
        p = Parameter(matrix().data.astype(np.float32))
        optimizer = KINDS[kind]([p], **{name: value})
        for _ in range(2):
            if later is not None:
                optimizer.param_groups[0][name] = later
            p.grad = np.array([[0.5, -1.0], [2.0, 0.1]], np.float32)
            optimizer.step()
        assert p.data.dtype == np.float32
        return p.data

    for value in (np.float32(0.25), np.float64(0.25), np.array(0.25), np.array(0.25, np.float32)):
        np.testing.assert_array_equal(after(value), after(0.25))
        np.testing.assert_array_equal(after(0.125, later=value), after(0.125, later=0.25))
    np.testing.assert_array_equal(after(np.int64(0)), after(0))


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_what_pytorch_refuses_is_refused(kind: str) -> None:
    betas = [(-0.1, 0.9), (0.9, 1.0), (0.9, -1.0), (math.nan, 0.9)]
    tried = [(name, value) for name in SETTINGS[kind] for value in BAD] + [("betas", pair) for pair in betas if kind != "SGD"]
    refused = 0
    for name, value in tried:
        try:
            getattr(torch.optim, kind)([torch.ones(2, 2, requires_grad=True)], **{name: value})
        except (ValueError, TypeError):
            refused += 1
            with pytest.raises(ConfigError):
                KINDS[kind]([matrix()], **{name: value})
    assert refused > 10


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "Muon"])
def test_betas(kind: str) -> None:
    for betas in [(0.9, 1.0), (0.9,), (0.9, 0.9, 0.9), (math.nan, 0.9), "ab", 0.9, None, (-0.1, 0.9), ("0.9", 0.9), (True, 0.9)]:
        with pytest.raises(ConfigError, match=r"^betas .*: expected two numbers"):
            KINDS[kind]([matrix()], betas=betas)
        with pytest.raises(ConfigError, match=r"^betas "):
            KINDS[kind]([{"params": [matrix()], "betas": betas}])
        optimizer = KINDS[kind]([matrix()])
        optimizer.param_groups[0]["betas"] = betas
        with pytest.raises(ConfigError, match=r"^betas "):
            optimizer.step()
    assert KINDS[kind]([matrix()], betas=[np.float32(0.5), np.float64(0.25)]).param_groups[0]["betas"] == (0.5, 0.25)


def test_flags_and_what_belongs_together() -> None:
    with pytest.raises(ConfigError, match="nesterov is 'no'"):
        optim.SGD([matrix()], momentum=0.9, nesterov="no")
    with pytest.raises(ConfigError, match="nesterov needs a momentum"):
        optim.SGD([{"params": [matrix()], "nesterov": True}])
    optimizer = optim.SGD([matrix()], momentum=0.9, nesterov=True)
    optimizer.param_groups[0]["momentum"] = 0.0
    with pytest.raises(ConfigError, match="nesterov needs a momentum"):
        optimizer.step()
    with pytest.raises(ConfigError, match="orthogonal is 'yes'"):
        optim.Muon([matrix()], orthogonal="yes")
    muon = optim.Muon([matrix()])
    muon.param_groups[0]["orthogonal"] = False
    with pytest.raises(ConfigError, match="orthogonal cannot be changed"):
        muon.step()
    with pytest.raises(ConfigError, match=r"momentum is 1\.0"):
        optim.Muon([{"params": [matrix()], "momentum": 1.0}])
    optim.SGD([matrix()], momentum=1.0).step()  # PyTorch takes it


@pytest.mark.parametrize("name", ["lr", "weight_decay", "betas"])
def test_a_setting_of_the_groups_is_not_set_on_the_optimiser(name: str) -> None:
    optimizer = optim.AdamW([matrix()])
    with pytest.raises(ConfigError, match=rf"{name} is a setting of the groups.*param_groups\[0\]\['{name}'\]"):
        setattr(optimizer, name, 0.5)
    optimizer.note = "its own"  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [-1, math.nan, -math.inf, "1", True, [1.0], np.array([1.0])])
def test_a_wrong_max_norm_changes_nothing(value: Any) -> None:
    p = matrix()
    optimizer = optim.SGD([p], lr=0.1)
    with pytest.raises(ConfigError, match=r"^max_norm is "):
        optimizer.step(max_norm=value)
    with pytest.raises(ConfigError, match=r"^max_norm is "):
        optim.clip_grad_norm_([p], value)
    np.testing.assert_array_equal(p.data, matrix().data)
    np.testing.assert_array_equal(p.grad, matrix().grad)


@pytest.mark.parametrize("value", [0, 0.5, 1, math.inf, np.float32(0.5), np.array(0.5)])
def test_max_norms_that_pytorch_takes_too(value: Any) -> None:
    t = torch.tensor(matrix().data, requires_grad=True)
    t.grad = torch.tensor(matrix().grad)
    norm = torch.nn.utils.clip_grad_norm_(t, float(value))
    p = matrix()
    assert optim.clip_grad_norm_(p, value) == pytest.approx(float(norm), rel=1e-12)  # of a single tensor
    np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-12)
    for given in ([matrix(), Parameter(np.ones(3))], (q for q in [matrix()])):  # one without a gradient; a generator
        assert optim.clip_grad_norm_(given, value) == pytest.approx(float(norm), rel=1e-12)
    q = Parameter(matrix().data.astype(np.float32))
    optimizer = optim.SGD([q], lr=1.0)
    q.grad = matrix().grad.astype(np.float32)
    optimizer.step(max_norm=value)
    np.testing.assert_allclose(matrix().data - q.data, t.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_what_is_no_list_of_tensors() -> None:
    p = matrix()
    assert optim.clip_grad_norm_([], 1.0) == 0
    with pytest.raises(ConfigError, match="clip_grad_norm_ takes tensors, got ndarray"):
        optim.clip_grad_norm_([p.data], 1.0)
    with pytest.raises(ConfigError, match=r"one tensor of shape \(2, 2\): expected a list"):
        optim.SGD(p)
    with pytest.raises(ConfigError, match="'params', got"):
        optim.SGD([{"params": [p]}, matrix()])
    with pytest.raises(ConfigError, match="'params', got"):
        optim.SGD([{"lr": 0.1}])
    optimizer = optim.SGD([{"params": p}], lr=1.0)  # a single tensor as a group, as in PyTorch
    p.grad = np.ones(2)
    with pytest.raises(ShapeError, match=r"parameter 0 has a gradient of shape \(2,\), expected its own, \(2, 2\)"):
        optimizer.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.Constant(math.nan), "lr is nan: expected a finite number of at least 0$"),
        (lambda: optim.Constant(1.0, -1), "warmup is -1"),
        (lambda: optim.WarmupCosine(-1.0, 0.0, 0, 4), "lr is -1"),
        (lambda: optim.WarmupCosine(1.0, math.inf, 0, 4), "min_lr is inf"),
        (lambda: optim.WarmupCosine("1", 0.0, 0, 4), "lr is '1'"),
        (lambda: optim.WarmupCosine(1.0, 0.0, math.nan, 4), "warmup nan is out of range"),
        (lambda: optim.WarmupLinear(1.0, 0.0, 5, 4), "warmup 5 is out of range: expected 0 to the schedule's 4 steps"),
        (lambda: optim.WarmupLinear(1.0, 0.0, 0, -4), "steps is -4"),
        (lambda: optim.WarmupCosine(0.1, 2.0, 1, 10), r"min_lr is 2\.0: expected at most lr, 0\.1$"),
        (lambda: optim.WarmupLinear(0.1, 2.0, 1, 10), r"min_lr is 2\.0: expected at most lr, 0\.1$"),
        (lambda: optim.Noam(0, 4), "d_model is 0"),
        (lambda: optim.Noam(4, math.nan), "warmup is nan"),
        (lambda: optim.Noam(4, 4, -1.0), "scale is -1"),
    ],
)
def test_schedules(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_schedule_that_gives_no_learning_rate() -> None:
    p = matrix()
    optimizer = optim.AdamW([p])
    for value in (math.nan, -1e-3, math.inf):
        optimizer.param_groups[0]["lr"] = value
        with pytest.raises(ConfigError, match=r"^lr is "):
            optimizer.step(max_norm=1.0)
    np.testing.assert_array_equal(p.data, matrix().data)


# ---------------------------------------------------------------- stored states


def trained(kind: str) -> optim.Optimizer:
    optimizer = KINDS[kind]([matrix()], **({"momentum": 0.9} if kind == "SGD" else {}))
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_no_update_leaves_behind(kind: str) -> None:
    optimizer = trained(kind)
    state = optimizer.state_dict()
    array = next(name for name in state if name.startswith(("velocity", "exp_avg")))
    wrong: list[tuple[str, Any, str]] = [
        (array, np.full((2, 2), np.nan), "is not finite"),
        (array, np.full((2, 2), np.inf), "is not finite"),
        (array, np.full((4,), 1.0), r"misshapen '.*': \(4,\), expected \(2, 2\)"),
        (array, np.full((2, 2), "a"), "is of dtype"),
        ("step.0", np.array(-1), "is -1, expected a count"),
        ("step.0", np.array(1.5), "is 1.5, expected a count"),
        ("step.0", np.array(np.nan), "is not finite"),
    ]
    wrong += [("exp_avg_sq.0", np.full((2, 2), -1.0), "has negative squares")] if "exp_avg_sq.0" in state else []
    for name, value, message in wrong:
        with pytest.raises(CheckpointError, match=message):
            optimizer.load_state_dict({**state, name: value})
        for key, before in state.items():
            np.testing.assert_array_equal(optimizer.state_dict()[key], before)
    single = KINDS[kind]([Parameter(np.ones((2, 2), np.float32))], **({"momentum": 0.9} if kind == "SGD" else {}))
    with pytest.raises(CheckpointError, match="is not finite"):  # in float32
        single.load_state_dict({**single.state_dict(), array: np.full((2, 2), 1e300)})
    optimizer.load_state_dict({**state, "step.0": np.array(7.0), array: state[array].tolist()})  # PyTorch counts in floats
    assert optimizer.state_dict()["step.0"] == 7


def test_states_of_other_optimisers_and_of_other_parameters() -> None:
    adam, sgd = trained("Adam"), trained("SGD")
    with pytest.raises(CheckpointError, match=r"missing 'velocity\.0'; unexpected 'exp_avg\.0'"):
        sgd.load_state_dict(adam.state_dict())
    two = optim.Adam([Parameter(np.ones(3)), Parameter(np.ones((2, 3)))])
    swapped = optim.Adam([Parameter(np.ones((2, 3))), Parameter(np.ones(3))])
    with pytest.raises(CheckpointError, match=r"misshapen 'exp_avg\.0'"):
        two.load_state_dict(swapped.state_dict())
    many = optim.Adam([Parameter(np.ones(1)) for _ in range(200)])
    with pytest.raises(CheckpointError, match=r"and 5[0-9][0-9] more") as caught:
        many.load_state_dict(adam.state_dict())
    assert len(str(caught.value)) < 500


def test_a_tied_weight_is_one_parameter() -> None:
    p = matrix()
    with pytest.raises(ConfigError, match="twice"):
        optim.AdamW([{"params": [p]}, {"params": [p]}])
    assert isinstance(p, Tensor)
