"""Rotary positions and SwiGLU on the CPU against their references in float64."""

import numpy as np
import pytest
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout

from tinylm.bindings.cpu.activations import swiglu
from tinylm.bindings.cpu.library import Library
from tinylm.bindings.cpu.rotary import rotary

pytestmark = pytest.mark.usefixtures("cpu")


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape)


def frequencies(pairs: int) -> tuple[float, ...]:
    return tuple(10000.0 ** (-i / pairs) for i in range(pairs))


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rotary(cpu: Library, threads: int, pairing: str) -> None:
    cpu.functions["pool_size"](threads)
    for shape in [(3, 6), (2, 5, 2), (2, 9, 70, 64), (1, 3, 1, 34), (2, 0, 4, 6), (0, 2, 4, 6), (2, 2, 0, 6)]:
        assert_agrees("rotary", drawn(*shape), frequencies=frequencies(shape[-1] // 2), start=5, device="cpu", pairing=pairing)
    assert_declines("rotary", drawn(1, 2, 2, 3, 4), frequencies=frequencies(2), device="cpu", pairing=pairing)


def test_rotary_reads_heads_in_place() -> None:
    """Heads in a projection's layout give the same bits as a copy, and the result has the heads' layout."""
    projected, dy = drawn(2, 7, 3 * 8).astype(np.float32), drawn(2, 3, 7, 8).astype(np.float32)
    heads = projected.reshape(2, 7, 3, 8).transpose(0, 2, 1, 3)
    y, vjp = rotary(heads, frequencies(4), 2)
    copied, _ = rotary(heads.copy(), frequencies(4), 2)
    np.testing.assert_array_equal(y, copied)
    assert y.transpose(0, 2, 1, 3).flags.c_contiguous
    wide = drawn(2, 3, 7, 16).astype(np.float32)
    np.testing.assert_array_equal(rotary(wide[..., ::2], frequencies(4))[0], rotary(wide[..., ::2].copy(), frequencies(4))[0])
    assert_same_whatever_the_layout(dy, vjp, rotary(np.asfortranarray(heads), frequencies(4), 2)[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_swiglu(cpu: Library, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    for shape in [(), (1,), (3, 17), (2, 50, 301), (0, 4)]:
        a, b = drawn(2, *shape)
        assert_agrees("swiglu", a * 5, b, device="cpu")
    a, b, dy = drawn(3, 4, 9).astype(np.float32)
    assert_same_whatever_the_layout(dy, swiglu(a, b)[1], swiglu(np.asfortranarray(a), b)[1])


def test_nan_and_infinity_pass_through() -> None:
    a, b = np.ones((2, 40), np.float32)
    a[3], b[5], a[7] = np.nan, np.inf, np.inf
    y, vjp = swiglu(a, b)
    assert np.isfinite(y).tolist() == [i not in (3, 5, 7) for i in range(40)]
    da, _ = vjp(np.ones(40, np.float32))
    assert not np.isfinite(da[[3, 5]]).any()
    x = np.ones((1, 8), np.float32)
    x[0, 1] = np.nan
    assert np.isnan(rotary(x, frequencies(4))[0][0]).tolist() == [i in (1, 5) for i in range(8)]
