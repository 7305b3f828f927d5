"""CUDA kernels run on a GPU, or in the emulator where there is none; CPU kernels where there is a compiler."""

from collections.abc import Iterator

import pytest
from cuda_on_cpu.fixtures import gpu_required, has_gpu

from tinylm.bindings.cpu.library import Library, library
from tinylm.engine import kernels


@pytest.fixture
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The device "cuda", with its kernels switched on and their launches counted from zero."""
    if not has_gpu():
        if gpu_required():
            pytest.fail("TINYLM_REQUIRE_CUDA=1, but there is no GPU")
        request.getfixturevalue("emulated_cuda")
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    kernels.launches.clear()
    yield
    kernels.launches.clear()


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The library of the CPU kernels, switched on and with its calls counted from zero."""
    found = library()
    if found is None:
        pytest.skip("the CPU kernels need a C compiler")
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    kernels.launches.clear()
    yield found
    kernels.launches.clear()
    found.functions["pool_size"](found.threads)  # a test may have asked for another number
