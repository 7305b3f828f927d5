"""The number of threads of the CPU kernels."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tinylm.errors import ConfigError

MOST = 1024


def thread_count() -> int:
    """Returns TINYLM_NUM_THREADS, or else the number of cores that this process may use: its affinity, and its cgroup's quota of
    time, rounded up. Raises ConfigError if the variable is not a number from 1 to 1024."""
    wanted = os.environ.get("TINYLM_NUM_THREADS", "")
    if wanted:
        if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted) <= MOST:
            raise ConfigError(f"TINYLM_NUM_THREADS is {wanted!r}: expected a number from 1 to {MOST}")
        return int(wanted)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores, cgroup_cores() or cores, MOST))


def cgroup_cores(proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Returns the smallest quota of the process's cgroup and those above it, in cores, rounded up, or None without a quota."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, files = mount, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            root, files = mount / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas.append(_quota(folder, files))
            if folder == root:
                break
    return min((q for q in quotas if q is not None), default=None)


def _quota(folder: Path, files: Iterable[str]) -> int | None:
    """Returns the quota in cores, rounded up, from the files that hold it and its period; None without a quota."""
    try:
        quota, period = " ".join((folder / name).read_text(encoding="utf-8") for name in files).split()
        return None if quota == "max" or int(quota) <= 0 else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
