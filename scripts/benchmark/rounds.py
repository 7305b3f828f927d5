"""Measures in fresh processes that take turns, so that a slow minute of the machine affects every side alike."""

import dataclasses
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmark.process import Measurement
from benchmark.sides import SIDES
from benchmark.workloads import Workload
from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.processor import cache_sizes, processor_name, product_instructions
from tinylm.engine.devices import device_namespace
from tinylm.errors import DeviceError, TinylmError

Found = dict[str, list[Measurement] | str]  # a side's measurements, one per round, or the message of its failure
PACKAGES = ("numpy", "scipy", "torch", "llama-cpp-python", "cupy-cuda12x", "cupy-cuda13x")
NO_TIME = "the time was up"
SLOWER = 1.5  # a PyTorch side that takes this many times as long as the fastest of its precision is not the one that counts


def rounds(name: str, work: Workload, sides: list[str], device: str, count: int, until: float | None = None) -> Found:
    """Measures every side in turn, `count` times; those of PyTorch's that cannot become its fastest once only. until: when the last process
    ends, on the clock of time.monotonic. Raises TinylmError if a side of tinylm's or PyTorch's plain one fails."""
    found: Found = {side: [] for side in sides}
    for number in range(count):
        for side in sides:
            so_far = found[side]
            if isinstance(so_far, str) or (number and hopeless(side, found)):
                continue
            result = measure(side, work, device, *([] if until is None else [until - time.monotonic()]))
            if isinstance(result, Measurement):
                so_far.append(result)
            elif result != NO_TIME and (side == "torch" or SIDES[side].library == "tinylm"):
                raise TinylmError(f"the {side} side of {name} failed: {result}")
            else:
                found[side] = result
    return found


def hopeless(side: str, found: Found) -> bool:
    """Returns whether a PyTorch side was far slower in the first round than another one of the same precision."""
    way = SIDES[side]
    rivals = {
        s: r[0].seconds
        for s, r in found.items()
        if not isinstance(r, str) and (SIDES[s].library, SIDES[s].numbers) == (way.library, way.numbers)
    }
    return rivals[side] > SLOWER * min(rivals.values())


def median_seconds(measurements: list[Measurement]) -> float:
    return statistics.median(m.seconds for m in measurements)


def measure(side: str, work: Workload, device: str, seconds: float | None = None) -> Measurement | str:
    """Returns what a fresh process measured, or the reason why it failed: NO_TIME after so many seconds."""
    found, why = fresh_process("benchmark.process", side, device, json.dumps(dataclasses.asdict(work)), seconds=seconds)
    return why if found is None else Measurement(**found)


def fresh_process(module: str, *arguments: str, seconds: float | None = None) -> tuple[Any, str]:
    """Runs a module of this folder in a new Python, which is ended after so many seconds. Returns (what its last line of JSON holds, ""),
    or (None, the reason why it failed)."""
    if seconds is not None and seconds <= 0:
        return None, NO_TIME
    command = [sys.executable, "-P", "-m", module, *arguments]
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]  # scripts/ first; -P: not the current one
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    kept: Any = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    try:
        result = subprocess.run(command, check=False, env=environment, timeout=seconds, **kept)
    except subprocess.TimeoutExpired:
        return None, NO_TIME
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}, no reason given"]
        reason = (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line))  # hints may follow it
        return None, next(reason, lines[-1])
    return json.loads(result.stdout.splitlines()[-1]), ""


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Returns the versions of Python and of these packages, None for one that is missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """Returns the machine, today's date, the versions and the environment variables of the measurements."""
    settings = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS") or name.startswith("TINYLM_")}
    return {
        "platform": platform.platform(),
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": thread_count(),
        "cache_bytes": cache_sizes(),
        "cpu_products": product_instructions(),
        "versions": versions(),
        "environment": settings,
    }


def check_device(device: str, against: str | None) -> None:
    """Raises DeviceError if tinylm, or the PyTorch to compare with, cannot compute on the device."""
    device_namespace(device)
    if against and device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise DeviceError(
                f"--against torch on {device} needs a PyTorch that finds the GPU, and {torch.__version__} does not: "
                "pip install torch --index-url https://download.pytorch.org/whl/cu126"
            )
