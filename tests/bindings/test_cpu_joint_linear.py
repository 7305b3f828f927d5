"""Linear layers of the same input on the CPU against their references in float64."""

from typing import Any

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_same_whatever_the_layout, joint_inputs, without

from tinylm.bindings.cpu.joint_linear import rotary_heads, swiglu_linear
from tinylm.bindings.cpu.library import Library

pytestmark = pytest.mark.usefixtures("cpu")

SHAPES = [
    ((1, 3), 9),
    ((7,), 5),
    ((6, 4), 1),
    ((2, 3, 8), 33),
    ((0, 4), 5),
    ((3, 0), 4),
    ((300, 20), 33),
    ((200, 600), 70),
    ((4, 500), 600),
]

HEADS = [((2, 5, 7), 3, (4, 2, 2)), ((1, 1, 200), 32, (9, 3, 3)), ((3, 70, 33), 8, (3, 3, 3)), ((1, 3, 4), 1, (3, 2, 1))]  # with D / 2


def positions(pairs: int) -> dict[str, Any]:
    return {"frequencies": tuple(10000.0 ** (-i / pairs) for i in range(pairs)), "start": 5}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_swiglu_linear(cpu: Library, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    for shape, outputs in SHAPES:
        assert_agrees("swiglu_linear", *joint_inputs(shape, outputs, outputs), device="cpu")


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rotary_heads(cpu: Library, threads: int, pairing: str) -> None:
    cpu.functions["pool_size"](threads)
    for shape, pairs, heads in [*HEADS, ((0, 3, 4), 2, (1, 1, 1)), ((2, 0, 4), 2, (2, 1, 1)), ((1, 2, 0), 2, (2, 1, 1))]:
        arrays = joint_inputs(shape, *(2 * pairs * n for n in heads))
        assert_agrees("rotary_heads", *arrays, device="cpu", pairing=pairing, **positions(pairs))


def test_absent_biases_and_frozen_layers() -> None:
    for name, arrays, settings in [
        ("swiglu_linear", joint_inputs((4, 6), 37, 37), {}),
        ("rotary_heads", joint_inputs((2, 4, 6), 16, 8, 8), positions(4)),
    ]:
        layers = len(arrays) // 2
        for absent in [(layers + 1,), (len(arrays) - 1,), tuple(range(layers + 1, len(arrays)))]:
            assert_agrees(name, *without(arrays, *absent), device="cpu", **settings)
        found = assert_agrees(name, *arrays, device="cpu", frozen=True, **settings)
        assert [key for key in found if key.startswith("gradient")] == ["gradient 0"]


def test_the_same_bits_for_any_number_of_threads(cpu: Library) -> None:
    arrays = [a.astype(np.float32) for a in joint_inputs((1, 1, 300), 640, 320, 320)]
    found = []
    for threads in (1, 2, 3):
        cpu.functions["pool_size"](threads)
        found.append(rotary_heads(*arrays, **positions(8))[0] + (swiglu_linear(arrays[0], *arrays[2:4])[0],))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_any_layout() -> None:
    x, gate, up, *biases = (a.astype(np.float32) for a in joint_inputs((4, 6), 9, 9))
    dy = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    turned = (np.asfortranarray(a) for a in (x, gate, up))
    assert_same_whatever_the_layout(dy, swiglu_linear(x, gate, up, *biases)[1], swiglu_linear(*turned, *biases)[1])
    arrays = [a.astype(np.float32) for a in joint_inputs((2, 5, 6), 8, 4, 4)]
    (q, k, v), vjp = rotary_heads(*arrays, **positions(2))
    (again, _, _), turned_vjp = rotary_heads(*(np.asfortranarray(a) for a in arrays), **positions(2))
    np.testing.assert_array_equal(q, again)
    rest = [np.random.default_rng(1).standard_normal(x.shape).astype(np.float32) for x in (k, v)]
    dq = np.random.default_rng(2).standard_normal(q.shape).astype(np.float32)
    assert_same_whatever_the_layout(dq, lambda dy: vjp(dy, *rest), lambda dy: turned_vjp(dy, *map(np.asfortranarray, rest)))


def test_what_the_reference_refuses() -> None:
    """The kernels leave shapes that do not fit to the reference, which says what is wrong."""
    x, gate, up, gate_bias, _ = joint_inputs((1, 2, 6), 8, 8)
    for wrong in [(np.ones(()), gate, up), (x, gate, up[:4]), (x, gate[:, :3], up[:, :3]), (x, gate, up, gate_bias[:4])]:
        assert swiglu_linear(*wrong) is NotImplemented
    assert swiglu_linear(x, gate, up, gate_bias) is not NotImplemented
    settings = positions(2)
    for wrong in [(x[0], gate, gate, gate), (x, gate, gate, gate[:6]), (x, gate, gate, gate[:, :3]), (x, gate, gate, gate, gate_bias[:4])]:
        assert rotary_heads(*wrong, **settings) is NotImplemented
    assert rotary_heads(x, gate, gate, gate, gate_bias, **settings) is not NotImplemented


def test_nan_and_infinity_pass_through() -> None:
    x, gate, up = (a.astype(np.float32) for a in joint_inputs((3, 4), 40, 40)[:3])
    x[1, 2], up[7, 0] = np.nan, np.inf
    y, vjp = swiglu_linear(x, gate, up)
    assert np.isfinite(y).tolist() == [[i != 1 and j != 7 for j in range(40)] for i in range(3)]
    assert np.isnan(vjp(np.ones_like(y))[0]).any()
