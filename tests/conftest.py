"""Settings for every test: hypothesis without deadlines, one PyTorch thread, a fresh seed."""

import os

import pytest
from cuda_on_cpu.fixtures import emulated_cuda  # noqa: F401
from device_helpers import cuda  # noqa: F401
from hypothesis import settings

import tinylm

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    tinylm.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
