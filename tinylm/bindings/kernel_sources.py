"""The folders of the kernels' source files."""

import functools
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def kernel_folder(device: Literal["cpu", "cuda"]) -> "Path":
    """Returns the path of kernels/cpu or kernels/cuda: inside the package if it was installed from a wheel, else beside it."""
    from pathlib import Path  # here, since `import tinylm` needs no more of it, and it takes 5 ms

    package = Path(__file__).resolve().parents[1]
    installed = package / "_kernels" / device
    return installed if installed.is_dir() else package.parent / "kernels" / device
