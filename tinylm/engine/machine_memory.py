"""How much memory this process can have at most: the machine's, and what its cgroup and its own limits leave of it."""

import os
import resource
from pathlib import Path

from tinylm.errors import ConfigError


def machine_memory(root: Path = Path("/")) -> tuple[int, int] | None:
    """Returns (all, available) bytes of memory, swap included; None where the system does not say.

    root: where proc and sys are found.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
        swap = found["SwapTotal"]
        total, available = found["MemTotal"] + swap, found["MemAvailable"] + found["SwapFree"]
    except (OSError, ValueError, IndexError, KeyError):  # not Linux
        try:
            total, swap = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0
            available = total
        except (OSError, ValueError):
            return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    most = min([total, *(n for n in limits if n != resource.RLIM_INFINITY), *_cgroup_limits(root, swap)])
    return most, min(most, available)


def _cgroup_limits(root: Path, swap: int) -> list[int]:
    """Returns the limits of the process's cgroup and of those above it, in bytes, with what each may have of the machine's swap."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            mount, name, of_swap = root / "sys/fs/cgroup", "memory.max", "memory.swap.max"
        elif "memory" in controllers.split(","):
            mount, name, of_swap = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", ""
        else:
            continue
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            found += [limit + min([swap, *(_limit(folder / of_swap) if of_swap else [])]) for limit in _limit(folder / name)]
            if folder == mount:
                break
    return found


def _limit(file: Path) -> list[int]:
    try:
        return [int(file.read_text(encoding="ascii"))]  # "max" is none
    except (OSError, ValueError):
        return []


def check_fits(needed: int, what: str) -> None:
    """Raises ConfigError if so many bytes are more than this process can ever have. what: that which needs them, as a sentence begins."""
    memory = machine_memory()
    if memory is not None and needed > memory[0]:
        most, available = memory
        has = f"{size_text(most)} ({size_text(available)} available)"
        raise ConfigError(f"{what} needs {size_text(needed)} of memory, this machine has {has}")


def size_text(count: int) -> str:
    """Returns bytes as text: 412 GB, 3.1 TB."""
    if count >= 10**24:
        return f"more than 10^{int((count.bit_length() - 1) * 0.30103)} bytes"
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        if count < 999_500 or unit == "EB":
            break
        count = round(count / 1000)
    return f"{count / 1000:.{max(0, 3 - len(str(count // 1000)))}f} {unit}"
