"""The device of a test: the CPU, and a GPU or, if there is none, its emulation."""

import pytest
from cuda_on_cpu.fixtures import gpu_required

from tinylm.engine.devices import device_namespace
from tinylm.errors import DeviceError


@pytest.fixture
def device(request):
    """Returns the parameter's device; "emulated" becomes "cuda" on the stand-in for CuPy. Without a GPU, "cuda" is
    skipped, or fails if TINYLM_REQUIRE_CUDA is 1."""
    if request.param == "emulated":
        request.getfixturevalue("emulated_cuda")
        return "cuda"
    try:
        device_namespace(request.param)
    except DeviceError as error:
        if gpu_required():
            pytest.fail(f"TINYLM_REQUIRE_CUDA=1, but {error}")
        pytest.skip(str(error))
    return request.param
