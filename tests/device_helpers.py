"""The device "cuda" for a test: the machine's GPU, or its emulation."""

import contextlib
import importlib
from typing import Any

import pytest
from cuda_on_cpu.fixtures import gpu_required, has_gpu

from tinylm.engine import ids as engine_ids
from tinylm.engine import kernels
from tinylm.engine.devices import device_namespace
from tinylm.errors import DeviceError


def real_gpu() -> Any:
    """Returns CuPy's namespace on a machine with a GPU. Without one the test is skipped, or fails if TINYLM_REQUIRE_CUDA is 1."""
    try:
        return device_namespace("cuda")
    except DeviceError as error:
        if gpu_required():
            pytest.fail(f"TINYLM_REQUIRE_CUDA=1, but {error}")
        pytest.skip("needs a GPU; scripts/doctor.py says what is missing")


@pytest.fixture
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the module cupy, real or emulated, with tinylm's kernels switched on."""
    if has_gpu() or gpu_required():
        real_gpu()
    else:
        request.getfixturevalue("emulated_cuda")
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    monkeypatch.setattr(engine_ids, "_checks", {})  # checks that one test leaves must not reach the next
    return importlib.import_module("cupy")


def waits_for_nothing() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which whatever makes the host wait for the GPU raises."""
    return importlib.import_module("cupyx").allow_synchronize(False)
