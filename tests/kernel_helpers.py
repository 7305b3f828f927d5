"""Compares a kernel with the op's reference in float64: values and every gradient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import TOLERANCES, assert_close, relative_errors
from op_cases import run

import tinylm
from tinylm import Tensor
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches, using
from tinylm.engine.products import products
from tinylm.errors import ConfigError, ShapeError
from tinylm.nn import Parameter

Arrays = Sequence[np.ndarray | None]


def _cast(arrays: Arrays, dtype: str) -> list[Any]:
    return [a.astype(dtype) if a is not None and a.dtype.kind == "f" else a for a in arrays]


def results(name: str, arrays: Arrays, dtype: str, device: str, settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the op's outputs and gradients by name, computed on `device` in `dtype` from float32 values."""
    rounded = _cast(_cast(arrays, "float32"), dtype)
    outputs, gradients = run(name, [None if a is None else to_device(a, device) for a in rounded], dict(settings))
    found = {f"output {i}": y for i, y in enumerate(outputs)}
    return found | {f"gradient {i}": g for i, g in enumerate(gradients) if g is not None}


def assert_agrees(
    name: str, *arrays: np.ndarray | None, device: str = "cuda", drawn: bool = False, **settings: Any
) -> dict[str, np.ndarray]:
    """Asserts that the kernel runs and agrees with the reference in float64 to 10⁻⁵ of each array's norm. Returns its results.

    drawn: hypothesis draws the shapes, and an array may be ill-conditioned: a gradient that is the small difference of large
    numbers, or through a saturated sigmoid, whose 1 - y has few digits left. Twice the error of the reference itself in float32
    is allowed for that array then.
    """
    before = launches[name, device]
    found = results(name, arrays, "float32", device, settings)
    assert launches[name, device] == before + 1, f"the kernel of {name} did not run"
    pairs = _paired(found, results(name, arrays, "float64", "cpu", settings))
    tolerances = dict.fromkeys(pairs, TOLERANCES["float32"])
    if drawn:
        with using("reference"):
            reference = results(name, arrays, "float32", "cpu", settings)
        errors = relative_errors({key: (reference[key], expected) for key, (_, expected) in pairs.items()})
        tolerances = {key: max(tolerances[key], 2 * error) for key, error in errors.items()}
    assert_close(pairs, tolerances)
    return found


def assert_rounded_agrees(name: str, *arrays: np.ndarray | None, tolerance: float = 1e-5, device: str = "cpu", **settings: Any) -> None:
    """Asserts that the kernel, with products in bfloat16, agrees with the reference with the same, and that both round: with products in
    float32 the first output is another one."""
    with products("bfloat16"):
        before = launches[name, device]
        found = results(name, arrays, "float32", device, settings)
        assert launches[name, device] == before + 1, f"the kernel of {name} did not run"
        with using("reference"):
            expected = results(name, arrays, "float32", "cpu", settings)
    assert_close(_paired(found, expected), tolerance)
    with using("reference"):
        plain = results(name, arrays, "float32", "cpu", settings)
    assert relative_errors({"output": (plain["output 0"], expected["output 0"])})["output"] > 1e-4


def assert_declines(name: str, *arrays: np.ndarray | None, device: str = "cuda", **settings: Any) -> None:
    """Asserts that the kernel leaves the work to the reference, which does it."""
    before = launches[name, device]
    found = results(name, arrays, "float32", device, settings)
    assert launches[name, device] == before, f"the kernel of {name} ran"
    assert_close(_paired(found, results(name, arrays, "float64", "cpu", settings)), TOLERANCES["float32"])


def _paired(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    assert found.keys() == expected.keys()
    return {k: (found[k], expected[k].astype(np.float32)) for k in expected}


# ---------------------------------------------------------------- arguments

GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # blocks of rows of a recurrent layer's weights


def recurrent_inputs(name: str, steps: int = 3, batch: int = 4, width: int = 3, hidden: int = 5) -> list[np.ndarray | None]:
    """Returns x, weights, biases and initial states of a recurrent layer."""
    rng = np.random.default_rng((steps, batch, hidden))
    rows = GATES[name] * hidden
    shapes = [(steps, batch, width), (rows, width), (rows, hidden), (rows,), (rows,), (batch, hidden), (batch, hidden)]
    return [rng.standard_normal(s) for s in shapes[: 7 if name == "lstm" else 6]]


def linear_inputs(shape: tuple[int, ...], outputs: int) -> list[np.ndarray]:
    """Returns x, weight, bias and residual of a linear layer."""
    rng = np.random.default_rng(outputs)
    return [rng.standard_normal(s) for s in (shape, (outputs, shape[-1]), (outputs,), (*shape[:-1], outputs))]


def joint_inputs(shape: tuple[int, ...], *outputs: int) -> list[np.ndarray]:
    """Returns x, then the weights and then the biases of several linear layers of it."""
    rng = np.random.default_rng(outputs)
    return [rng.standard_normal(s) for s in (shape, *((n, shape[-1]) for n in outputs), *((n,) for n in outputs))]


def norm_inputs(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Returns x, weight and bias of layer norm."""
    rng = np.random.default_rng(len(shape))
    return [rng.standard_normal(shape) + 2, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])]


def score_inputs(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Returns scores with classes on the last axis, and a target for each row."""
    scores = np.random.default_rng(len(shape)).standard_normal(shape) * 4
    return [scores, np.random.default_rng(7).integers(0, shape[-1], shape[:-1])]


UPDATE_SETTINGS: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3, "step": 3}


def update_inputs(size: int | tuple[int, ...], dtype: str = "float32") -> list[np.ndarray]:
    """Returns values, grads, exp_avg and exp_avg_sq of AdamW, of that size or shape; the first three also serve SGD and Muon."""
    rng = np.random.default_rng(size)
    values, grads, exp_avg, exp_avg_sq = (rng.standard_normal(size).astype("float32").astype(dtype) for _ in range(4))
    return [values, grads, exp_avg, exp_avg_sq**2]


def attention_inputs(*lead: int, steps: int, keys: int, width: int, out_width: int | None = None) -> list[np.ndarray]:
    """Returns q, k and v."""
    rng = np.random.default_rng((steps, keys, width))
    shapes = (steps, width), (keys, width), (keys, out_width or width)
    return [rng.standard_normal((*lead, *shape)) for shape in shapes]


def without(arrays: Sequence[Any], *places: int) -> list[Any]:
    return [None if i in places else a for i, a in enumerate(arrays)]


def assert_refuses_as_the_reference(name: str, tensors: Sequence[Tensor]) -> None:
    """Asserts that a recurrent layer's kernel names wrong shapes, lengths and nonlinearities as its reference does."""
    with pytest.raises(ShapeError, match=f"{name}: weight_ih has shape"):
        getattr(tinylm, name)(*tensors[:2], tensors[1], *tensors[3:])
    with pytest.raises(ShapeError, match="length 4 is out of range"):
        getattr(tinylm, name)(*tensors, lengths=np.array([1, 2, 3, 4]))
    with pytest.raises(ConfigError, match="nonlinearity 'gelu'"):
        tinylm.rnn(*tensors[:6], nonlinearity="gelu")


def assert_same_whatever_the_layout(dy: np.ndarray, vjp: Any, turned_vjp: Any) -> None:
    """Asserts that a vjp gives the same gradients, also a second time, for dy that is read-only, in C or Fortran order,
    or float64; both for a kernel's vjp and for one whose arguments have other memory layouts."""
    dy.flags.writeable = False
    expected = [None if d is None else d.copy() for d in vjp(dy)]
    assert any(d is not None for d in expected)
    for again in (vjp(dy), turned_vjp(np.asfortranarray(dy)), vjp(dy.astype(np.float64))):
        for a, b in zip(again, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a, b)


def trained(kind: Any, device: str, dtype: str, **settings: Any) -> dict[str, np.ndarray]:
    """Returns the parameters after four steps of an optimiser with clipping; in one step, one of them has no gradient."""
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> Any:
        return to_device(rng.standard_normal(shape).astype("float32").astype(dtype), device)

    parameters = [Parameter(draw(shape)) for shape in [(3, 5), (7,), (), (20, 30)]]
    optimizer = kind(parameters, lr=0.1, weight_decay=0.2, **settings)
    for step in range(4):
        for p in parameters:
            p.grad = draw(p.shape)
        if step == 2:
            parameters[1].grad = None
        optimizer.step(max_norm=0.5)
    return {str(p.shape): p.numpy() for p in parameters}
