"""The nonlinear functions of the CPU kernels keep the errors that kernels/cpu/functions.h states, over all of float32."""

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cpu_targets import name_of, targets
from scipy import special

from tinylm.bindings.cpu import compiling

SOURCE = Path(__file__).parent / "cpu_drivers" / "functions.c"


@pytest.fixture(scope="module", params=targets(), ids=name_of)
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("functions") / "functions.so"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYLM_CPU_TARGET", request.param)
        flags = [f for f in compiling.flags() if f != "-fvisibility=hidden"]
    try:
        command = compiling.compiler()
    except compiling.BuildError as error:
        pytest.skip(str(error))
    subprocess.run([*command, *flags, f"-I{compiling.folder()}", "-shared", str(SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def values(functions: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    getattr(functions, name)(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(x.size))
    return y.astype(np.float64)


def every_magnitude() -> np.ndarray:
    """Returns every 1,009th float32 of either sign, from the smallest normal number to the largest."""
    positive = np.arange(0x00800000, 0x7F800000, 1009, dtype=np.uint32).view(np.float32)
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize(("name", "true"), [("tanh", np.tanh), ("erf", special.erf)])
def test_odd_functions(functions: ctypes.CDLL, name: str, true: Callable[[np.ndarray], np.ndarray]) -> None:
    error = {"tanh": 4e-7, "erf": 5e-7}[name]
    x = every_magnitude()
    y, expected = values(functions, name, x), true(x.astype(np.float64))
    assert np.abs(y / expected - 1).max() <= error
    assert np.abs(y).max() == 1
    assert not values(functions, name, np.zeros(5, np.float32)).any()


def test_tanh_is_rounded_well_where_it_comes_near_one(functions: ctypes.CDLL) -> None:
    x = np.linspace(2, 12, 100_001).astype(np.float32)
    y, expected = values(functions, "tanh", x), np.tanh(x.astype(np.float64))
    assert np.abs(y - expected).max() <= 4e-8  # an ulp below 1 is 6e-8


def test_sigmoid(functions: ctypes.CDLL) -> None:
    x = every_magnitude()
    x = x[x >= -87]
    assert np.abs(values(functions, "sigmoid", x) / special.expit(x.astype(np.float64)) - 1).max() <= 4e-7


def test_exp(functions: ctypes.CDLL) -> None:
    x = every_magnitude()
    inside = x[(x >= -87) & (x <= 88)]
    assert np.abs(values(functions, "exp", inside) / np.exp(inside.astype(np.float64)) - 1).max() <= 3e-7
    far = np.array([-np.inf, -1e30, 1e30, np.inf], np.float32)
    np.testing.assert_allclose(values(functions, "exp", far), np.exp([-87, -87, 88, 88.0]), rtol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf", "exp"])
@pytest.mark.parametrize("size", [1, 40], ids=["alone", "in a vector"])
def test_nan_stays_nan(functions: ctypes.CDLL, name: str, size: int) -> None:
    assert np.isnan(values(functions, name, np.full(size, np.nan, np.float32))).all()


def test_infinities(functions: ctypes.CDLL) -> None:
    ends = np.array([-np.inf, np.inf] * 20, np.float32)
    for name, low in (("tanh", -1), ("erf", -1), ("sigmoid", 0)):
        np.testing.assert_allclose(values(functions, name, ends), [low, 1] * 20, rtol=0, atol=1e-37)
