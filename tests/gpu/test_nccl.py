"""The mean over ranks by NCCL itself, on all GPUs of the machine."""

import importlib

import numpy as np
import pytest

from tinylm.engine.devices import device_namespace, to_numpy
from tinylm.train.distributed import NcclMeans

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_rank_is_its_own_mean(dtype: str) -> None:
    """One GPU shows that the library loads and the call is right; more ranks need more GPUs (mpiexec)."""
    cupy = device_namespace("cuda")
    nccl = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        pytest.skip("CuPy finds no NCCL (pip install nvidia-nccl-cu12)")
    means = NcclMeans(nccl, nccl.NcclCommunicator(1, nccl.get_unique_id(), 0), 1, cupy)
    array = cupy.arange(1000, dtype=dtype)
    means.average(array)
    np.testing.assert_array_equal(to_numpy(array), np.arange(1000, dtype=dtype))
