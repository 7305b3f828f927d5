"""The lines about the GPU that pytest prints."""

from collections import Counter

import pytest

from . import reporting
from .emulator import Kernel


@pytest.mark.parametrize(
    ("gpu", "required", "reason", "expected"),
    [
        (False, False, None, "emulated on the CPU, none GPU-tested"),
        (False, False, "the emulator needs g++", "none emulated (the emulator needs g++), none GPU-tested"),
        (False, True, None, "none can be tested: TINYLM_REQUIRE_CUDA=1, but there is no GPU"),
        (True, False, None, "GPU-tested on a card"),
    ],
)
def test_header(gpu, required, reason, expected, monkeypatch):
    monkeypatch.setattr(reporting, "has_gpu", lambda: gpu)
    monkeypatch.setattr(reporting, "gpu_required", lambda: required)
    monkeypatch.setattr(reporting.emulator, "unavailable", lambda: reason)
    monkeypatch.setattr(reporting, "card", lambda: "a card")
    assert reporting.header() == f"CUDA: {len(reporting.implementations())} implementations, {expected}"


def test_implementations():
    found = reporting.implementations()
    assert {"layer_norm", "cross_entropy", "adamw"} <= set(found)
    assert "exp" not in found


def test_summary(monkeypatch):
    monkeypatch.setattr(Kernel, "launches", Counter())
    assert reporting.summary() is None
    Kernel.launches["a"] += 1999
    Kernel.launches["b"] += 1
    assert reporting.summary() == (
        "CUDA: 2 kernels were emulated, 2,000 launches, each in 3 thread orders under UBSan; an emulated kernel is not GPU-tested"
    )
