"""Fixtures: CUDA kernels on a GPU, or in the emulator if there is none; CPU kernels if there is a C compiler."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cpu_builds import object_files
from cpu_programs import write_compiler
from cpu_targets import library_for, name_of, targets
from cuda_on_cpu.fixtures import gpu_required, has_gpu

from tinylm.bindings.cpu import library
from tinylm.bindings.cpu.library import Library
from tinylm.engine import kernels


@pytest.fixture
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Provides the device "cuda", with its kernels switched on and their launches counted from zero."""
    if not has_gpu():
        if gpu_required():
            pytest.fail("TINYLM_REQUIRE_CUDA=1, but there is no GPU")
        request.getfixturevalue("emulated_cuda")
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    kernels.launches.clear()
    yield
    kernels.launches.clear()


def switched_on(target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Makes the bindings call the library for a target, with its calls counted from zero."""
    monkeypatch.setenv("TINYLM_CPU_TARGET", target)
    found = library_for(target)
    monkeypatch.setattr(library, "_loaded", found)
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    kernels.launches.clear()
    yield found
    kernels.launches.clear()
    found.functions["pool_size"](found.threads)  # a test may have asked for another number


@pytest.fixture(params=targets(), ids=name_of)
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Provides the kernels compiled for each of the targets."""
    yield from switched_on(request.param, monkeypatch)


@pytest.fixture
def native_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Provides the kernels compiled as a user has them."""
    yield from switched_on(targets()[0], monkeypatch)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the object files that were compiled for any of the tests."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def place(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of the cache of compiled kernels, which does not exist yet; the compiler counts its calls."""
    write_compiler(tmp_path / "compiler", store, tmp_path / "log")
    monkeypatch.setenv("CC", str(tmp_path / "compiler"))
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYLM_KERNELS", "auto")
    return tmp_path / "cache" / "cpu_kernels"


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the sources of the CPU kernels and their object files, from which tests build others."""
    return object_files(tmp_path_factory.mktemp("kernels"))
