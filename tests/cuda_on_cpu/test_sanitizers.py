"""Runs every CUDA kernel under AddressSanitizer and ThreadSanitizer if it or the emulator has changed."""

from typing import Any

import pytest

from tinylm.bindings.cuda import launching
from tinylm.engine import kernels

from . import emulator
from .emulator.recording import Recorder, replay
from .fixtures import sources
from .workloads import WORKLOADS


def test_every_kernel_file_has_a_workload() -> None:
    assert set(WORKLOADS) == {file.stem for file in launching.folder().glob("*.cu")} == {s.name for s in sources()}


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
@pytest.mark.parametrize("file", WORKLOADS)
def test_sanitizers(file: str, emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels of the file run and agree with the reference; under a sanitizer they give the same bytes, without a report."""
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    with Recorder() as recorder:
        WORKLOADS[file]()
    code = launching.source(file)
    recorder.launches = {key: found for key, found in recorder.launches.items() if key[0] == code}
    names = {kernel for found in recorder.launches.values() for kernel, *_ in found}
    assert names == set(launching.signatures(code)), "a kernel that no workload launches"
    for mode in ("asan", "tsan"):
        replay(recorder, mode)
