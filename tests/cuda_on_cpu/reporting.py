"""The lines about the GPU before and after the tests: they never claim more than was tested."""

import tinylm.optim  # noqa: F401 - it registers the kernels of updates
from tinylm.engine import kernels
from tinylm.engine.devices import device_namespace

from . import emulator
from .emulator import Kernel
from .emulator.launching import ORDERS
from .fixtures import gpu_required, has_gpu


def implementations() -> list[str]:
    """Returns the ops and updates that have a CUDA kernel."""
    records = {**kernels.registry, **kernels.updates}
    return sorted(name for name, record in records.items() if any(device == "cuda" for device, _ in record.kernels))


def card() -> str:
    """Returns the name of the GPU and its compute capability."""
    properties = device_namespace("cuda").cuda.runtime.getDeviceProperties(0)
    return f"{properties['name'].decode()}, sm_{properties['major']}{properties['minor']}"


def header() -> str:
    """Returns the line before the tests."""
    count = f"CUDA: {len(implementations())} implementations"
    if has_gpu():
        return f"{count}, GPU-tested on {card()}"
    if gpu_required():
        return f"{count}, none can be tested: TINYLM_REQUIRE_CUDA=1, but there is no GPU"
    reason = emulator.unavailable()
    return f"{count}, {f'none emulated ({reason})' if reason else 'emulated on the CPU'}, none GPU-tested"


def summary() -> str | None:
    """Returns the line after the tests; None if no kernel ran in the emulator."""
    if not Kernel.launches:
        return None
    return (
        f"CUDA: {len(Kernel.launches)} kernels were emulated, {Kernel.launches.total():,} launches, "
        f"each in {len(ORDERS)} thread orders under UBSan; an emulated kernel is not GPU-tested"
    )
