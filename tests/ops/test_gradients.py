"""Every op, on every sample: compared with differences and with PyTorch, in single precision, in any layout."""

import numpy as np
import pytest
from op_cases import DEVICES, kind, layouts, parametrize, run, use

import tinylm
from tinylm.engine.kernels import launches, registry
from tinylm.verify import compare_op, gradcheck, samples_of
from tinylm.verify.arguments import is_floating, on_device
from tinylm.verify.op_checks import differentiable, flat_arguments
from tinylm.verify.reports import joint_norm, relative_error

ORDERS = pytest.mark.parametrize("order", [1, 2])


@parametrize("float64", lambda name, sample: sample.derivative and differentiable(name, sample))
@ORDERS
def test_against_finite_differences(name, sample, implementation, device, order, monkeypatch):
    use(implementation, monkeypatch)
    report = gradcheck(getattr(tinylm, name), *on_device(list(sample.args), device), order=order, **sample.settings)
    assert report.ok, report


@parametrize("float64")
@ORDERS
def test_against_pytorch(name, sample, implementation, device, order, monkeypatch):
    use(implementation, monkeypatch)
    report = compare_op(name, sample, order=order, device=device)
    assert report.ok, report


@parametrize("float32")
def test_single_precision(name, sample, implementation, device, monkeypatch):
    """float32 compared with float64 on the same (rounded) numbers; dtypes and shapes are kept."""
    args = on_device(list(sample.args), "cpu", "float32")
    use("reference", monkeypatch)
    values, gradients = run(name, on_device(args, "cpu", "float64"), sample.settings)
    use(implementation, monkeypatch)
    values32, gradients32 = run(name, on_device(args, device), sample.settings)

    for a, b in zip(values32, values, strict=True):
        assert a.shape == b.shape
        assert a.dtype == expected_dtype(name, b.dtype)
        assert relative_error(a.astype(np.float64), b.astype(np.float64), joint_norm(values)) <= 1e-5
    assert len(gradients32) == len(gradients)
    for g32, g, x in zip(gradients32, gradients, filter(is_floating, flat_arguments(args)), strict=False):
        if g is not None:
            assert g32.shape == x.shape
            assert g32.dtype == np.float32
            assert relative_error(g32, g, joint_norm([h for h in gradients if h is not None])) <= 1e-5


def expected_dtype(name, dtype64):
    """Returns the dtype of a result: float32 in gives float32 out, also beside integers; astype gives what it is told."""
    return dtype64 if dtype64.kind != "f" or name == "astype" else np.float32


@parametrize("float64")
def test_layouts(name, sample, implementation, device, monkeypatch):
    """Non-contiguous and read-only arrays give the same, and no input is written to."""
    check_layouts(name, sample, implementation, device, monkeypatch, "float64", 1e-12)


@parametrize("float32", lambda name, sample: any(dtype == "float32" for _, dtype in registry[name].kernels))
def test_layouts_of_kernels(name, sample, implementation, device, monkeypatch):
    check_layouts(name, sample, implementation, device, monkeypatch, "float32", 1e-5)


def check_layouts(name, sample, implementation, device, monkeypatch, dtype, tolerance):
    use(implementation, monkeypatch)
    args = on_device(list(sample.args), "cpu", dtype)
    values, gradients = run(name, on_device(args, device), sample.settings)
    arrays = [x for x in flat_arguments(args) if isinstance(x, np.ndarray)]
    for variants in zip(*map(layouts, arrays), strict=False):
        kept = [x.copy() for _, x in variants]
        new = iter([x for _, x in variants])
        swapped = [
            [next(new) for _ in a] if isinstance(a, list) and is_floating(a[0]) else next(new) if isinstance(a, np.ndarray) else a
            for a in args
        ]
        values2, gradients2 = run(name, on_device(swapped, device), sample.settings)
        for (layout, x), before in zip(variants, kept, strict=True):
            np.testing.assert_array_equal(x, before, err_msg=f"{layout}: an input was written to")
        for a, b in zip([*values2, *gradients2], [*values, *gradients], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=variants[0][0])


@pytest.mark.parametrize(
    ("name", "dtype", "device"),
    [(name, dtype, device) for name, record in registry.items() for device in DEVICES for k, dtype in record.kernels if k == kind(device)],
    indirect=["device"],
)
def test_every_kernel_runs_on_some_sample(name, dtype, device, monkeypatch):
    use("kernel", monkeypatch)
    launches.clear()
    for sample in samples_of(name):
        run(name, on_device(list(sample.args), device, dtype), sample.settings)
    assert launches[name, device], f"the {device} {dtype} kernel of {name} declined every sample"
