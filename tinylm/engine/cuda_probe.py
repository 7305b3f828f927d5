"""Finds CuPy and what it needs, or says which piece is missing and how to get it."""

import importlib
import os
from typing import Any

from tinylm.errors import DeviceError

OLDEST_CUPY = 14
_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "cupy")


def load_cupy() -> Any:
    """Returns CuPy, on a machine where it can compute: with CuPy itself, a driver, a GPU and NVRTC.

    Raises DeviceError that names the first missing piece and its remedy, in one line.
    """
    cupy = _imported()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise DeviceError(_driver_trouble(cupy.cuda.runtime, error)) from error
    if count == 0:
        raise DeviceError(_no_gpu())
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:
        raise DeviceError(
            f"CuPy and a GPU are there, but not NVRTC, which compiles the kernels ({_first_line(error)}): "
            f'pip install "{(_installed() or _PACKAGES)[0]}[ctk]"'
        ) from error
    return cupy


def _imported() -> Any:
    """Returns CuPy. Raises DeviceError if it cannot be imported or is too old."""
    try:
        cupy = importlib.import_module("cupy")
        version = cupy.__version__
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise DeviceError(
                "device 'cuda' needs CuPy, which is not installed: "
                'pip install "cupy-cuda12x[ctk]", or "cupy-cuda13x[ctk]" for a driver that serves CUDA 13 (nvidia-smi shows it)'
            ) from error
        raise _broken(f"it needs {error.name!r}") from error
    except Exception as error:  # a shared library that does not load, a folder without a module, a NumPy that does not fit
        raise _broken(_first_line(error.__cause__ or error)) from error
    if int(version.partition(".")[0]) < OLDEST_CUPY:
        package = (_installed() or _PACKAGES)[0]
        raise DeviceError(f'CuPy {version} is too old, expected {OLDEST_CUPY} or newer: pip install --upgrade "{package}[ctk]"')
    return cupy


def _broken(reason: str) -> DeviceError:
    found = _installed()
    if len(found) > 1:  # they overwrite each other's files
        return DeviceError(f"CuPy does not import ({reason}), and {' and '.join(found)} are both installed: pip uninstall all but one")
    return DeviceError(f'CuPy does not import ({reason}): pip install --force-reinstall "{(found or _PACKAGES)[0]}[ctk]"')


def _driver_trouble(runtime: Any, error: Exception) -> str:
    """Returns what a status of the CUDA runtime means. Its numbers are those of cudaError_t in the CUDA Runtime API."""
    status = getattr(error, "status", None)
    if status == 35:  # cudaErrorInsufficientDriver: none, or one older than CuPy's CUDA
        driver = runtime.driverGetVersion()
        if driver == 0:
            return "device 'cuda' needs an NVIDIA driver, and there is none: install it (nvidia-smi then lists the GPU)"
        return (
            f"the NVIDIA driver serves CUDA {_release(driver)}, this CuPy needs CUDA {_release(runtime.runtimeGetVersion())}: "
            "update the driver, or install the CuPy for its CUDA (cupy-cuda12x or cupy-cuda13x)"
        )
    if status == 100:  # cudaErrorNoDevice
        return _no_gpu()
    if status == 803:  # cudaErrorSystemDriverMismatch
        return f"the NVIDIA driver and its kernel module are of different versions ({_first_line(error)}): restart the machine"
    return f"the NVIDIA driver does not answer ({_first_line(error)}): see what nvidia-smi says"


def _no_gpu() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"the NVIDIA driver shows no GPU, and CUDA_VISIBLE_DEVICES is {visible!r}: unset it"
    return "device 'cuda' needs an NVIDIA GPU, and the driver finds none: nvidia-smi must list one (a container needs --gpus all)"


def _release(version: int) -> str:
    """Returns "12.9" for 12090."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _installed() -> list[str]:
    """Returns the installed packages that contain CuPy."""
    metadata = importlib.import_module("importlib.metadata")  # here, not above: it takes longer to import than the rest of this file

    def has(package: str) -> bool:
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            return False
        return True

    return [package for package in _PACKAGES if has(package)]
