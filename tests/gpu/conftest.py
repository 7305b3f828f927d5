"""Tests of what only a card can show: `pytest -m cuda` on a machine with an NVIDIA GPU runs them.

Nothing is emulated here. The folder is not called cuda, which is a package that CuPy imports.
"""

from typing import Any

import pytest
from device_helpers import real_gpu

from tinylm.engine import kernels


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CuPy's namespace, with tinylm's kernels switched on; skipped without a GPU, failing under TINYLM_REQUIRE_CUDA=1."""
    space = real_gpu()
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    return space


@pytest.fixture
def scale() -> int:
    """What the sizes are divided by."""
    return 1
