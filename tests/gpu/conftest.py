"""Tests that need a real GPU: `pytest -m cuda` on a machine with an NVIDIA GPU runs them in some minutes,
`pytest -m cuda_long` the others.

Nothing is emulated here. The folder is not called cuda, which is a package that CuPy imports.
"""

from typing import Any

import pytest
from device_helpers import real_gpu

from tinylm.engine import kernels


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns CuPy's namespace, with tinylm's kernels switched on. Without a GPU the test is skipped, or fails if
    TINYLM_REQUIRE_CUDA is 1."""
    space = real_gpu()
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    return space


@pytest.fixture
def scale() -> int:
    """Returns the number by which the sizes are divided."""
    return 1
