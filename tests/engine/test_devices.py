"""Tensors, modules, optimisers and ids between the host and a GPU or its emulation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from device_helpers import waits_for_nothing

import tinylm
from tinylm import Tensor, nn
from tinylm.engine import ids as engine_ids
from tinylm.engine.devices import device_of, to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.errors import DeviceError, RangeError, ShapeError
from tinylm.nn import Module
from tinylm.optim import SGD, AdamW, Optimizer, clip_grad_norm_
from tinylm.verify.reports import relative_error


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------- arrays and tensors


def test_a_tensor_there_and_back(cuda: Any) -> None:
    """Values, dtype and gradient arrive; a tensor that is already there is returned itself."""
    x, cotangent = Tensor(normal(3, 4), requires_grad=True), normal(3, 4, seed=1)
    there = x.to("cuda")
    assert (x.device, there.device) == ("cpu", "cuda:0")
    assert type(there.data) is cuda.ndarray
    assert there.to("cuda") is there
    assert there.to("cuda:0") is there
    back = (there * 2).to("cpu")
    np.testing.assert_array_equal(back.data, x.data * 2)
    back.backward(cotangent)
    np.testing.assert_array_equal(x.grad, cotangent * 2)
    assert there.to(dtype="float64").device == "cuda:0"
    assert repr(there).endswith("device='cuda:0', requires_grad=True)")


def test_two_devices_in_one_op(cuda: Any) -> None:
    x = Tensor(normal(2))
    with pytest.raises(DeviceError, match="add: the arguments are on different devices, cpu and cuda:0"):
        x + x.to("cuda")


@pytest.mark.parametrize(("home", "other"), [("cpu", "cuda:0"), ("cuda:0", "cpu")])
def test_a_cotangent_on_another_device(cuda: Any, home: str, other: str) -> None:
    x = Tensor(normal(2), requires_grad=True).to(home)
    with pytest.raises(DeviceError, match=f"the cotangent is on {other}, the tensor on {home}"):
        (x * 2).backward(to_device(normal(2), other))
    assert x.grad is None


def test_what_is_sent_may_be_overwritten(cuda: Any) -> None:
    """The host does not wait, and the values are those at the time of the call."""
    batch = np.arange(12).reshape(3, 4)
    with waits_for_nothing():
        sent = to_device(batch[:, 1:], "cuda")
    batch[...] = -1
    np.testing.assert_array_equal(to_numpy(sent), [[1, 2, 3], [5, 6, 7], [9, 10, 11]])


def test_numbers_of_tensors_on_a_gpu(cuda: Any) -> None:
    one = Tensor(np.float32(2.5)).to("cuda")
    assert one.item() == float(one) == 2.5
    assert (int(one), bool(one)) == (2, True)


# ---------------------------------------------------------------- modules and optimisers


class Small(Module):
    """A parameter of each kind, one that is tied, a buffer that is saved and one that is not."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.norm = nn.LayerNorm(4)
        self.register_buffer("shift", Tensor(normal(4, seed=seed)))
        self.register_buffer("scale", Tensor(normal(4, seed=seed + 1)), persistent=False)
        for i, p in enumerate(self.parameters()):
            p.data[...] = normal(*p.shape, seed=seed + i)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.again(tinylm.tanh(self.first(x))) + self.shift) * self.scale


def test_a_module_moves_with_its_gradients_and_buffers(cuda: Any) -> None:
    module, x, dy = Small(), normal(5, 4), normal(5, 4, seed=1)
    module(Tensor(x)).backward(dy)
    expected = {name: p.grad.copy() for name, p in module.named_parameters()}
    assert module.to("cuda") is module
    assert module.again is module.first
    for tensor in [*module.parameters(), *(t for _, t in module.named_buffers())]:
        assert tensor.device == "cuda:0"
    for name, p in module.named_parameters():
        assert device_of(p.grad) == "cuda:0"
        np.testing.assert_array_equal(to_numpy(p.grad), expected[name])
    module.zero_grad()
    module(Tensor(x).to("cuda")).backward(to_device(dy, "cuda"))
    module.to("cpu")
    for name, p in module.named_parameters():
        assert type(p.data) is type(p.grad) is np.ndarray
        assert relative_error(p.grad, expected[name], float(np.linalg.norm(expected[name]))) < 1e-5


@pytest.mark.parametrize(("home", "other"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_state_dict_of_another_device(cuda: Any, home: str, other: str) -> None:
    source, target = Small(seed=7).to(home), Small().to(other)
    state = source.state_dict()
    assert {device_of(a).partition(":")[0] for a in state.values()} == {home}
    target.load_state_dict(state)
    for (name, a), (_, b) in zip(source.named_state(), target.named_state(), strict=True):
        assert b.device.partition(":")[0] == other, name
        np.testing.assert_array_equal(a.numpy(), b.numpy())


OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "AdamW": lambda params: AdamW(params, lr=0.01, weight_decay=0.1),
    "SGD": lambda params: SGD(params, lr=0.01, momentum=0.9, nesterov=True),
}


def updated(module: Module, optimizer: Optimizer, steps: range) -> None:
    """Makes some updates, each with new gradients and clipping."""
    device = next(module.parameters()).device
    for k in steps:
        optimizer.zero_grad()
        module(Tensor(normal(5, 4, seed=k)).to(device)).backward(to_device(normal(5, 4, seed=k + 100), device))
        with waits_for_nothing():
            optimizer.step(max_norm=0.5)


@pytest.mark.parametrize(("home", "other"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimiser_goes_on_on_another_device(cuda: Any, make: Callable[[Any], Optimizer], home: str, other: str) -> None:
    module = Small()
    updated(module, make(module.parameters()), range(5))  # all steps on the CPU
    before, after = Small().to(home), Small().to(other)
    first = make(before.parameters())
    updated(before, first, range(3))
    after.load_state_dict(before.state_dict())
    second = make(after.parameters())
    second.load_state_dict(first.state_dict())
    updated(after, second, range(3, 5))
    for (name, p), (_, expected) in zip(after.named_parameters(), module.named_parameters(), strict=True):
        assert p.device.partition(":")[0] == other
        assert relative_error(p.numpy(), expected.data, float(np.linalg.norm(expected.data))) < 1e-5, name


def test_clipping_waits_for_nothing(cuda: Any) -> None:
    module, reference = Small().to("cuda"), Small()
    for m in (module, reference):
        for i, p in enumerate(m.parameters()):
            p.grad = to_device(normal(*p.shape, seed=i), p.device)
    with waits_for_nothing():
        norm = clip_grad_norm_(module.parameters(), 0.5)
    np.testing.assert_allclose(to_numpy(norm), clip_grad_norm_(reference.parameters(), 0.5), rtol=1e-6)
    for p, expected in zip(module.parameters(), reference.parameters(), strict=True):
        np.testing.assert_allclose(to_numpy(p.grad), expected.grad, rtol=1e-5)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(("dtype", "bad"), [(np.int32, 5), (np.int32, -1), (np.int64, 9), (np.int64, -1), (np.uint8, 5)])
def test_an_id_out_of_range_is_reported_with_the_next_value(cuda: Any, dtype: Any, bad: int) -> None:
    ids = to_device(np.array([[0, 4], [bad, 1]], dtype), "cuda")
    with waits_for_nothing():
        check_ids(ids, 5, "token id")
        check_ids(to_device(np.array([4]), "cuda"), 5, "token id")  # a later valid id does not hide the error
    loss = Tensor(normal()).to("cuda")
    with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to 4"):
        loss.item()
    assert loss.item() == normal()  # it is reported once


def test_ids_in_range_on_a_gpu(cuda: Any) -> None:
    for ids, size in [(np.array([0, 4]), 5), (np.array([], np.int64), 0)]:
        check_ids(to_device(ids, "cuda"), size, "id")
    assert Tensor(np.arange(3)).to("cuda").numpy().tolist() == [0, 1, 2]
    with pytest.raises(ShapeError, match="id must be an array of integers, got float32"):
        check_ids(to_device(normal(2), "cuda"), 5, "id")


def test_checks_are_kept_apart_and_do_not_pile_up(cuda: Any) -> None:
    for _ in range(10):
        check_ids(to_device(np.array([6]), "cuda"), 7, "token id")
        check_ids(to_device(np.array([6]), "cuda"), 5, "position")
    assert len(engine_ids._checks[0].places) == 2
    with pytest.raises(RangeError, match="position 6 is out of range: expected 0 to 4"):
        to_numpy(to_device(np.zeros(1), "cuda"))


def test_more_checks_than_there_was_room_for(cuda: Any) -> None:
    """What the first ones found is kept, and a place that a kernel was given before is not the new one."""
    weight = Tensor(np.zeros((3, 2), np.float32)).to("cuda")
    with waits_for_nothing():
        tinylm.embedding(to_device(np.array([1, 3]), "cuda"), weight)
        for size in range(10, 50):
            check_ids(to_device(np.array([size - 1]), "cuda"), size, "position")
    with pytest.raises(RangeError, match="token id 3 is out of range: expected 0 to 2"):
        to_numpy(weight.data)
    tinylm.embedding(to_device(np.array([-2]), "cuda"), weight)
    check_ids(to_device(np.array([49]), "cuda"), 49, "position")
    with pytest.raises(RangeError, match="token id -2 is out of range: expected 0 to 2"):
        to_numpy(weight.data)
    assert not to_numpy(weight.data).any()


def test_a_loss_of_targets_out_of_range(cuda: Any) -> None:
    logits = Tensor(to_device(normal(3, 5), "cuda"), requires_grad=True)
    with waits_for_nothing():
        loss = tinylm.cross_entropy(logits, Tensor(np.array([0, 5, -100])).to("cuda"))
        loss.backward()
    with pytest.raises(RangeError, match="target 5 is out of range: expected 0 to 4"):
        loss.item()
