"""Ties, buffers and names in which a model differs from its PyTorch twin: compare() names the difference, and blames no layer for it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn

from tinylm import nn, ops
from tinylm.errors import CheckpointError, ConfigError
from tinylm.verify import compare, compare_gradients, drift, save_gradients

IDS = [np.array([[0, 1, 4], [2, 2, 1]])]
BOTH = "e.weight and h.weight"


class Ours(nn.Module):
    """An embedding, a norm, and a head that may be the embedding."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.e, self.n, self.h = nn.Embedding(5, 3), nn.LayerNorm(3), nn.Linear(3, 5, bias=False)
        if tied:
            self.h.weight = self.e.weight

    def forward(self, ids: Any) -> Any:
        return self.h(self.n(self.e(ids)))


class Theirs(tnn.Module):
    """The same in PyTorch; equal: not tied, but of equal values."""

    def __init__(self, tied: bool, equal: bool = False) -> None:
        super().__init__()
        self.e, self.n, self.h = tnn.Embedding(5, 3), tnn.LayerNorm(3), tnn.Linear(3, 5, bias=False)
        with torch.no_grad():
            self.h.weight.copy_(self.e.weight if equal else self.h.weight)
        if tied:
            self.h.weight = self.e.weight

    def forward(self, ids: Any) -> Any:
        return self.h(self.n(self.e(ids)))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("tied", [False, True])
def test_the_same_ties(tied: bool) -> None:
    report = compare(Ours(tied), Theirs(tied), IDS)
    assert report.ok, report
    assert report.remarks == ()


@pytest.mark.parametrize(
    ("ours", "theirs", "detail"),
    [
        (False, Theirs(True), "one parameter in PyTorch, not in tinylm"),
        (True, Theirs(False, equal=True), "one parameter in tinylm, not in PyTorch"),
    ],
)
def test_a_tie_on_one_side_is_the_only_failure(ours: bool, theirs: Any, detail: str) -> None:
    model = Ours(ours)
    report = compare(model, theirs, IDS)
    assert [(row.name, row.detail) for row in report.failures] == [(f"tie of {BOTH}", detail)]
    assert report.remarks == ("all else was compared with the tie on both sides",)
    assert [row.name for row in report.rows if row.name.endswith(".weight")] == [
        f"tie of {BOTH}",
        "gradient of n.weight",
        "gradient of e.weight",
    ]
    assert (model.h.weight is model.e.weight) is ours  # the models themselves stay as they are
    assert (theirs.h.weight is theirs.e.weight) is not ours
    with pytest.raises(ConfigError, match=f"cannot be trained beside PyTorch's model: tie of {BOTH}: {detail}"):
        drift(model, theirs, IDS, 1)


def test_a_wrong_layer_is_still_found_beside_a_tie() -> None:
    class Wrong(Ours):
        def forward(self, ids: Any) -> Any:
            return self.h(self.n(self.e(ids)) * 1.01)

    names = [row.name for row in compare(Wrong(False), Theirs(True), IDS).failures]
    assert names[:2] == [f"tie of {BOTH}", "output of h"]


def test_a_tie_of_different_arrays() -> None:
    model = Ours(True)
    before = model.state_dict()
    report = compare(model, Theirs(False), IDS)
    assert [(row.name, row.detail) for row in report.rows] == [(f"tie of {BOTH}", "one parameter in tinylm, different arrays in PyTorch")]
    assert report.remarks == ("ties differ: nothing was run",)
    np.testing.assert_array_equal(model.state_dict()["e.weight"], before["e.weight"])


def test_buffers_that_one_side_lacks_are_named_and_left_out() -> None:
    ours, theirs = Ours(True), Theirs(True)
    theirs.register_buffer("mask", torch.ones(4, 4))
    theirs.n.register_buffer("position_ids", torch.arange(4))
    ours.e.register_buffer("scale", ops.ones_like(ours.n.weight).detach())
    report = compare(ours, theirs, IDS)
    assert report.ok, report
    assert report.remarks == (
        "not compared, since only PyTorch has them: the buffers mask; n.position_ids",
        "not compared, since only tinylm has them: the buffers e.scale",
    )
    assert str(report).splitlines()[1] == f"  {report.remarks[0]}"
    assert drift(ours, theirs, IDS, 2).report().ok


def test_a_buffer_in_the_place_of_a_parameter() -> None:
    ours, theirs = Ours(False), Theirs(False)
    weight = theirs.n.weight.detach()
    del theirs.n.weight
    theirs.n.register_buffer("weight", weight)
    report = compare(ours, theirs, IDS)
    assert [(row.name, row.detail) for row in report.failures] == [
        ("n.weight", "a parameter in tinylm, a buffer in PyTorch: its gradient was not compared")
    ]


def test_a_missing_parameter_and_renamed_ones() -> None:
    theirs = Theirs(False)
    theirs.out = theirs.h
    del theirs.h
    report = compare(Ours(False), theirs, IDS)
    assert [(row.name, row.detail) for row in report.rows] == [
        ("h.weight", "only in tinylm, of shape (5, 3)"),
        ("out.weight", "only in PyTorch, of shape (5, 3)"),
    ]
    assert report.remarks[1] == "only the names seem to differ: h.weight is out.weight in PyTorch"
    del theirs.out
    report = compare(Ours(False), theirs, IDS)
    assert [row.name for row in report.rows] == ["h.weight"]
    assert report.remarks == ("names or shapes of the state differ: nothing was run",)


# ---------------------------------------------------------------- gradients by name


def gradients(theirs: Any, names: bool) -> dict[str, Any]:
    theirs(torch.from_numpy(IDS[0])).square().sum().backward()
    return {name: p.grad.numpy() for name, p in theirs.named_parameters(remove_duplicate=not names)}


@pytest.mark.parametrize("names", [False, True])
def test_gradients_of_tied_weights(names: bool, tmp_path: Any) -> None:
    """PyTorch's are compared with tinylm's whether a file has them under one name, either one, or both."""
    theirs, ours = Theirs(True), Ours(True)
    ours.load_state_dict(theirs.state_dict())
    (ours(IDS[0]) ** 2).sum().backward()
    found = gradients(theirs, names)
    save_gradients(found, tmp_path / "g.safetensors")
    assert compare_gradients(ours, tmp_path / "g.safetensors").ok
    found["h.weight"] = found.pop("e.weight")
    report = compare_gradients(ours, found)
    assert report.ok, report
    assert len(report.rows) == 3
    found["h.weight"] = found["h.weight"] * 1.01
    assert [row.name for row in compare_gradients(ours, found).failures] == ["e.weight"]


def test_gradients_of_weights_that_are_tied_on_one_side() -> None:
    theirs, ours = Theirs(False, equal=True), Ours(True)
    ours.load_state_dict(theirs.state_dict())
    (ours(IDS[0]) ** 2).sum().backward()
    apart = gradients(theirs, True)
    for report in (compare_gradients(ours, apart), compare_gradients(apart, ours)):
        assert [(row.name, row.detail) for row in report.failures] == [
            (f"tie of {BOTH}", "one parameter on one side, several on the other: their sum is compared")
        ]
    one_by_one = compare_gradients({name: p.grad for name, p in ours.named_parameters()}, apart)
    assert [row.name for row in one_by_one.failures] == ["h.weight", "e.weight"]  # arrays do not say what is tied


# ---------------------------------------------------------------- state dicts


def test_two_arrays_for_one_weight_are_an_error_that_names_both() -> None:
    model = Ours(True)
    before = model.state_dict()
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"'e\.weight' and 'h\.weight' are tied, one tensor under two names, but were given"):
            model.load_state_dict(Theirs(False).state_dict(), strict)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    model.load_state_dict(Theirs(False, equal=True).state_dict())
    half = {"h.weight": np.full((5, 3), 2.0)}
    model.load_state_dict(half, strict=False)  # one of the names is enough where not all are needed
    assert (model.e.weight.data == 2).all()
    same = {**model.state_dict(), "e.weight": np.full((5, 3), np.nan), "h.weight": np.full((5, 3), np.nan, np.float32)}
    model.load_state_dict(same)  # a NaN equals a NaN, in the weight's own dtype
    close = {**same, "e.weight": np.full((5, 3), 0.1), "h.weight": np.full((5, 3), 0.1, np.float32)}
    model.load_state_dict(close)
    with pytest.raises(CheckpointError, match="are tied"):
        model.load_state_dict({**close, "h.weight": close["h.weight"] + np.float32(1e-6)})


def test_tied_modules_and_buffers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.again = model[0]  # type: ignore[attr-defined]
    shared = ops.ones_like(model[0].bias).detach()  # type: ignore[attr-defined]
    model[0].register_buffer("b", shared)
    model[1].register_buffer("b", shared)
    state = {name: array.copy() for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    for name, pattern in (("again.bias", r"'0\.bias' and 'again\.bias'"), ("1.b", r"'0\.b' and '1\.b'")):
        with pytest.raises(CheckpointError, match=f"{pattern} are tied"):
            model.load_state_dict({**state, name: state[name] + 1})


def test_arrays_that_numpy_cannot_hold() -> None:
    theirs = Theirs(False).to(torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"unusable 'e\.weight': .*BFloat16") as caught:
        Ours(False).load_state_dict(theirs.state_dict())
    assert len(str(caught.value)) < 500
    with pytest.raises(CheckpointError, match=r"unusable 'h\.weight'"):
        Ours(False).load_state_dict({"h.weight": "text"}, strict=False)
    Ours(False).load_state_dict({"n.bias": [1.0, 2.0, 3.0]}, strict=False)
