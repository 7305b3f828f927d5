"""Every kernel under NVIDIA's compute-sanitizer: accesses out of bounds, races, uninitialised memory, barriers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_on_cpu.fixtures import gpu_required

pytestmark = pytest.mark.cuda_long
FOLDER = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join(map(str, (FOLDER, FOLDER.parent)))  # tests, and the checkout, where tinylm may not be installed


def sanitizer() -> str:
    """Returns the path of compute-sanitizer, from the CUDA toolkit."""
    places = [os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin", os.environ.get("PATH", "")]
    found = shutil.which("compute-sanitizer", path=os.pathsep.join(places))
    if found is None:
        message = "compute-sanitizer is not installed: it comes with the CUDA toolkit (apt install cuda-sanitizer-12-9, say)"
        pytest.fail(message) if gpu_required() else pytest.skip(message)
    return found


def options(tool: str) -> list[str]:
    """Returns the tool's options: calls of the CUDA API that fail are none of the kernels' errors, and CuPy makes some that may."""
    return ["--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9"]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_every_kernel(tool: str) -> None:
    command = [sanitizer(), *options(tool), sys.executable, str(FOLDER / "gpu" / "every_kernel.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": PATHS})
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "every kernel ran" in result.stdout
