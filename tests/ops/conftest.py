"""The device of a test: the CPU, and a GPU where there is one."""

import os

import pytest

from tinylm import backend
from tinylm.errors import DeviceError


@pytest.fixture
def device(request):
    """The parameter's device; without a GPU "cuda" is skipped, or fails under TINYLM_REQUIRE_CUDA=1."""
    try:
        backend.device_namespace(request.param)
    except DeviceError as error:
        if os.environ.get("TINYLM_REQUIRE_CUDA") == "1":
            pytest.fail(f"TINYLM_REQUIRE_CUDA=1, but {error}")
        pytest.skip(str(error))
    return request.param
