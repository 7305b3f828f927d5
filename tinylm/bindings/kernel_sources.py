"""The folders of the kernels' source files."""

import functools
from pathlib import Path
from typing import Literal


@functools.cache
def kernel_folder(device: Literal["cpu", "cuda"]) -> Path:
    """Returns the path of kernels/cpu or kernels/cuda: inside the package if it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_kernels" / device
    return installed if installed.is_dir() else package.parent / "kernels" / device
