"""Where the kernels' source files are."""

import functools
from pathlib import Path
from typing import Literal


@functools.cache
def kernel_folder(device: Literal["cpu", "cuda"]) -> Path:
    """kernels/cpu or kernels/cuda: within the package when it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_kernels" / device
    return installed if installed.is_dir() else package.parent / "kernels" / device
