"""@kernel and @update: only the dispatcher chooses, falls back and counts."""

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine import kernels
from tinylm.engine.kernels import launches
from tinylm.errors import ConfigError


@pytest.fixture
def double(monkeypatch):
    """Provides a user's op, twice x, and the calls that its kernels got."""
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    launches.clear()

    @tinylm.op
    def double(x, other=None, /, *, factor=2):
        return x * factor, lambda dy: (dy * factor, None)

    return double


def f32(*values):
    return np.array(values, np.float32)


def test_a_kernel_runs_for_its_dtype_and_is_counted(double):
    calls = []

    @tinylm.kernel(double, device="cpu")
    def fast(x, other=None, /, *, factor=2):
        calls.append((x.dtype, factor))
        return x * factor, lambda dy: (dy * 100, None)  # a different gradient, by which the kernel is recognised

    x = Tensor(f32(1, 2), requires_grad=True)
    y = double(x, factor=3)
    y.backward(f32(1, 1))
    np.testing.assert_array_equal(y.data, [3, 6])
    np.testing.assert_array_equal(x.grad, 100)
    assert calls == [(np.float32, 3)]
    assert launches["double", "cpu"] == 1

    double(Tensor(np.ones(2)))  # float64
    double(Tensor(np.array([1, 2])))  # no floating argument
    double(x, np.ones(2))  # mixed
    assert launches["double", "cpu"] == 1
    double(x, f32(1))
    double(x, np.array([1]))  # integers do not count
    assert launches["double", "cpu"] == 3


def test_a_kernel_may_decline(double):
    @tinylm.kernel(double, device="cpu", dtypes=("float32", "float64"))
    def only_matrices(x, other=None, /, *, factor=2):
        return NotImplemented if x.ndim != 2 else (np.full_like(x, 7), None)

    np.testing.assert_array_equal(double(Tensor(np.ones(2))).data, 2)
    assert launches["double", "cpu"] == 0
    np.testing.assert_array_equal(double(Tensor(np.ones((1, 2)))).data, 7)
    assert launches["double", "cpu"] == 1


def test_kernels_of_another_device_do_not_run(double):
    @tinylm.kernel(double, device="cuda")
    def never(x, other=None, /):
        raise AssertionError

    np.testing.assert_array_equal(double(Tensor(f32(1))).data, 2)


def test_derivatives_of_derivatives_come_from_the_body(double):
    @tinylm.kernel(double, device="cpu", dtypes=("float64",))
    def fast(x, other=None, /, *, factor=2):
        return x * factor, lambda dy: (dy * factor, None)

    x = Tensor(np.ones(2), requires_grad=True)
    g = tinylm.grad((double(x) ** 2).sum(), x, create_graph=True)
    np.testing.assert_array_equal(tinylm.grad(g.sum(), x).data, 8)
    assert launches["double", "cpu"] == 1


def test_wrong_registrations(double):
    @tinylm.kernel(double, device="cpu")
    def fast(x, other=None, /):
        return x, None

    with pytest.raises(ConfigError, match="double has a kernel for cpu float32 already"):
        tinylm.kernel(double, device="cpu")(fast)
    with pytest.raises(ConfigError, match="kernel device 'tpu': expected 'cpu' or 'cuda'"):
        tinylm.kernel(double, device="tpu")
    with pytest.raises(ConfigError, match="kernel for an unknown op 'triple'"):
        tinylm.kernel("triple", device="cpu")


def test_an_update_and_its_kernel(double):
    @tinylm.update
    def step(parameter, gradient, *, lr):
        """parameter -= lr gradient."""
        parameter -= lr * gradient

    assert step.__doc__ == "parameter -= lr gradient."
    p = np.ones(2)
    step(p, np.ones(2), lr=0.5)
    np.testing.assert_array_equal(p, 0.5)

    @tinylm.kernel(step, device="cpu", dtypes=("float64",))
    def fast_step(parameter, gradient, *, lr):
        if parameter.size > 2:
            return NotImplemented
        parameter[...] = 9

    step(p, np.ones(2), lr=0.5)
    np.testing.assert_array_equal(p, 9)
    assert launches["step", "cpu"] == 1
    large, single = np.ones(3), f32(1)
    step(large, np.ones(3), lr=0.5)  # declined
    step(single, f32(1), lr=np.float32(0.5))  # another dtype
    np.testing.assert_array_equal(large, 0.5)
    np.testing.assert_array_equal(single, 0.5)
    assert launches["step", "cpu"] == 1
    assert "step" not in kernels.updates  # a user's own


def test_a_registration_returns_the_function_and_its_kernel_serves_each_of_its_dtypes(double):
    def fast(x, other=None, /, *, factor=2):
        return x * 0 + 7, None

    assert tinylm.kernel(double, device="cpu", dtypes=("float16", "float64"))(fast) is fast
    for dtype, expected in (("float16", 7), ("float32", 2), ("float64", 7)):
        assert double(Tensor(np.ones(1, dtype))).item() == expected
    assert double.op.kernels == {("cpu", "float16"): fast, ("cpu", "float64"): fast}
    assert double.op.devices == {"cpu"}
    assert not double.op.floats_only


def test_kernels_for_floats_only_take_no_integers_beside_them(double):
    tinylm.kernel(double, device="cpu", floats_only=True)(lambda x, other=None, /, **how: (x * 0 + 7, None))
    tinylm.kernel(double, device="cpu", dtypes=("float64",))(lambda x, other=None, /, **how: (x * 0 + 8, None))
    assert double.op.floats_only, "of one kernel is of all"
    assert double(f32(1)).item() == 7
    assert double(f32(1), None).item() == 7
    for other in (np.array([1]), np.array([True])):
        assert double(f32(1), other).item() == 2
        assert double(np.ones(1), other).item() == 2


def test_a_kernel_gets_arrays_of_one_dtype_and_type(double):
    tinylm.kernel(double, device="cpu")(lambda x, other=None, /, **how: (x * 0 + 7, None))
    choose = double.op.choose
    assert choose([f32(1), f32(2)]) == (double.op.kernels["cpu", "float32"], "cpu")
    assert choose([f32(1), np.array([1]), 3, None]) is not None
    equal = np.frombuffer(f32(1).tobytes(), np.dtype("<f4").newbyteorder("="))
    assert choose([f32(1), equal]) is not None
    for others in ([np.ones(1)], [f32(1).view(type("Sub", (np.ndarray,), {}))]):
        assert choose([f32(1), *others]) is None
    for none in ([], [None, 2.0], [np.array([1])], [np.array([1], np.longdouble)]):
        assert choose(none) is None


def test_kernels_are_switched_within_a_block_and_for_this_thread(double):
    tinylm.kernel(double, device="cpu")(lambda x, other=None, /, **how: (x * 0 + 7, None))

    def value():
        return double(f32(1)).item()

    with kernels.using("reference"):
        assert value() == 2
        with kernels.using("auto"):
            assert value() == 7
        assert value() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(value).result() == 7
    assert value() == 7
    with contextlib.suppress(ZeroDivisionError), kernels.using("reference"):
        raise ZeroDivisionError
    assert value() == 7


def test_tinylms_own_updates_are_known_by_name(double):
    assert {"adamw", "squared_norm"} <= set(kernels.updates)
    assert all(kernels.updates[name].name == name for name in kernels.updates)
    assert all(kernels.registry[name].name == name for name in kernels.registry)


PROGRAM = """
import numpy as np, tinylm
from tinylm.engine.kernels import launches, registry
registry["exp"].kernels.clear()
@tinylm.kernel("exp", device="cpu", dtypes=("float64",))
def wrong(x, /):
    return np.zeros_like(x), None
print(tinylm.exp(tinylm.Tensor(np.zeros(1))).item(), sum(launches.values()))
"""


@pytest.mark.parametrize(("choice", "output"), [("reference", "1.0 0"), ("auto", "0.0 1")])
def test_the_environment_switches_kernels_off(choice, output, monkeypatch):
    monkeypatch.setenv("TINYLM_KERNELS", choice)
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == output


def test_an_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("TINYLM_KERNELS", "fast")
    run = subprocess.run([sys.executable, "-c", "import tinylm"], capture_output=True, text=True, check=False)
    assert "ConfigError: TINYLM_KERNELS is 'fast': expected 'auto' or 'reference'" in run.stderr
