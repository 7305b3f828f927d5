"""Which GPU is measured, with which driver and CUDA. python -m benchmark.card DEVICE prints it, and the versions of packages."""

import json
import platform
import subprocess
import sys
from typing import Any

from benchmark.rounds import PACKAGES, versions
from tinylm.engine.devices import device_namespace, parse_device


def card(device: str) -> dict[str, Any]:
    """Returns what a measurement on a GPU depends on: the card, and the versions of driver, CUDA and CuPy."""
    space, (_, index) = device_namespace(device), parse_device(device)
    runtime = space.cuda.runtime
    properties = runtime.getDeviceProperties(index)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties.get("totalGlobalMem"),
        "driver": driver_version(),
        "driver_serves_cuda": release(runtime.driverGetVersion()),
        "cuda": release(runtime.runtimeGetVersion()),
        "nvrtc": ".".join(map(str, space.cuda.nvrtc.getVersion())),
        "cupy": space.__version__,
    }


def release(version: int) -> str:
    """Returns "12.9" for 12090."""
    return f"{version // 1000}.{version % 1000 // 10}"


def driver_version() -> str | None:
    """Returns the version of the NVIDIA driver; None if nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0].strip() if told else None


def described(found: dict[str, Any]) -> str:
    """Returns the line about the card for a person."""
    driver, architecture = found["driver"] or "of an unknown version", found["compute_capability"].replace(".", "")
    return f"{found['name']}, sm_{architecture}, driver {driver}, CUDA {found['cuda']}, CuPy {found['cupy']}"


if __name__ == "__main__":
    packages = (*PACKAGES, "triton", "transformers", "pytest", "pytest-xdist", "pytest-timeout", "hypothesis", "tyro", "gguf")
    print(json.dumps({"card": card(sys.argv[1]), "platform": platform.platform(), "versions": versions(packages)}, indent=1))
