"""Damaged files, thousands of them, each loaded under limits on memory and time in a process of their own.

A test file names its formats in a dict FORMATS and calls `faults(__file__, name, cases)`, which starts this file as a program.
Case i of a seed is always the same; `python tests/fuzzing.py FILE NAME SEED I I+1` repeats it alone.
"""

import contextlib
import copy
import faulthandler
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import TinylmError

SECONDS, STUCK = 2.0, 60  # of processor time for one case; of wall time, after which the process ends
MEMORY = 500 << 20  # bytes that one case may add
LONGEST = 500  # characters of a message, the folder's path aside


@dataclass(frozen=True)
class Format:
    """write(folder, rng): puts one damaged case into an empty folder.  load(folder): reads it, or raises a TinylmError."""

    write: Callable[[Path, np.random.Generator], object]
    load: Callable[[Path], object]


# ---------------------------------------------------------------- damage


def pick(rng: np.random.Generator, choices: Any) -> Any:
    """Returns one of the choices."""
    return choices[int(rng.integers(len(choices)))]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns the bytes with one to four changes: bits, bytes, integers in place, cuts, repeats, insertions."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(changed)
        place = int(rng.integers(size + 1))
        kind = int(rng.integers(8))
        if kind == 0 and size:
            changed[place % size] ^= 1 << int(rng.integers(8))
        elif kind == 1 and size:
            changed[place % size] = pick(rng, [0, 1, 0x22, 0x7F, 0x80, 0xC3, 0xFF, int(rng.integers(256))])
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            del changed[place : place + int(rng.integers(1, 20))]
        elif kind == 4:
            changed[place:place] = changed[place : place + int(rng.integers(1, 60))]
        elif kind == 5:
            changed[place:place] = rng.bytes(int(rng.integers(1, 20)))
        else:  # an integer where one may stand, as a length or a count does
            width = pick(rng, [1, 2, 4, 8])
            place = min(place, max(size - width, 0))
            place -= place % width if kind == 6 else 0
            value = pick(rng, [0, 1, 2, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62, (1 << 63) - 1, (1 << 64) - 1])
            changed[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed)


_ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 64, 10**30, 10**400, -(10**12),
    0.0, -0.5, 0.5, 1.5, 1e-320, 1e30, 1e308, float("nan"), float("inf"), -float("inf"),
    "", "a", "0", "nan", "../x", "/etc/passwd", "\0", "\x1b[31mred", "\ud800", "é" * 300, "x" * 20_000,
    [], {}, [[]], [None], [1, 2, 3], ["a"] * 1000, {"a": 1}, {"": {}}, [0] * 5000,
]  # fmt: skip


def odd_value(rng: np.random.Generator) -> Any:
    """Returns a value that a setting in a JSON file is not expected to have."""
    return nested(rng, pick(rng, [5, 300])) if rng.random() < 0.05 else copy.deepcopy(pick(rng, _ODD))


def nested(rng: np.random.Generator, depth: int) -> Any:
    """Returns lists and records within each other."""
    value: Any = 1
    for level in rng.integers(0, 2, depth):
        value = [value] if level else {"a": value}
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value within a JSON value, the outermost first."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


def damaged_json(value: Any, rng: np.random.Generator) -> bytes:
    """Returns the JSON text of the value with one to three members replaced, removed, renamed, repeated or scaled; sometimes the text
    itself is damaged, too deeply nested, or names a member twice."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        path = pick(rng, list(places(value)))
        if not path:
            value = odd_value(rng) if rng.random() < 0.2 else value
            continue
        owner = value
        for key in path[:-1]:
            owner = owner[key]
        key, kind = path[-1], int(rng.integers(8))
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, dict):
            owner[pick(rng, ["", "x", "__class__", key + "_", *owner])] = owner.pop(key)
        elif kind == 2 and isinstance(owner, list):
            owner[key:key] = [owner[key]] * int(rng.integers(1, 50))
        elif kind == 3 and type(owner[key]) in (int, float) and abs(owner[key]) < 1e30:
            owner[key] = pick(rng, [owner[key] + 1, owner[key] - 1, -owner[key], owner[key] * 1000, owner[key] + 0.5, f"{owner[key]:.3g}"])
        elif kind == 4 and isinstance(owner, dict):
            owner[pick(rng, ["x", "extra", "type"])] = odd_value(rng)
        else:
            owner[key] = odd_value(rng)
    text = json.dumps(value).encode()
    how = rng.random()
    if how < 0.15:
        return damaged(text, rng)
    if how < 0.18:
        return text.replace(b'": ', b'": ' + b"[" * 100_000, 1)
    if how < 0.21 and text.startswith(b'{"'):
        return text[:-1] + b", " + text[1:]
    return text


# ---------------------------------------------------------------- loading under limits


def faults(file: str, name: str, cases: int, seed: int = 0, timeout: float = 1200) -> list[str]:
    """Returns what went wrong in these cases, a line for each; none if every load succeeded or raised one clear TinylmError."""
    found: list[str] = []
    first = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    while first < cases:
        command = [sys.executable, __file__, file, name, str(seed), str(first), str(cases)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment)
        lines = done.stdout.splitlines()
        found += [line for line in lines if not line.startswith("case ")]
        if done.returncode == 0:
            return found
        begun = [int(line.split()[1]) for line in lines if line.startswith("case ")]
        if not begun:
            raise RuntimeError(f"the process did not begin: {done.stderr[-2000:]}")
        found.append(f"{name} {begun[-1]}: the process ended with status {done.returncode}: {done.stderr[-1000:]}")
        first = begun[-1] + 1
        if len(found) > 50:
            return found
    return found


class TookTooLong(BaseException):
    """Not an Exception, so that no loader takes it for a fault of the file."""


def _too_long(*_: Any) -> None:
    raise TookTooLong


def fault_of(action: Callable[[], object], path: str) -> str | None:
    """Returns what is wrong with how the action ended; None if it returned, or raised one clear TinylmError."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    begun = time.process_time()
    try:
        action()
    except TinylmError as error:
        message = str(error).replace(path, "").replace("\n", " ")  # scripts print it as one line
        if len(message) > LONGEST:
            return f"a message of {len(message)} characters: {message[:200]}"
        if not message.isprintable():
            return f"a message with control characters: {message!r:.300}"
    except TookTooLong:
        return f"more than {SECONDS} s: {last_line()}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)!r:.200}: {last_line()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, hard))
    taken = time.process_time() - begun
    return f"{taken:.1f} s" if taken > SECONDS else None


def last_line() -> str:
    """Returns where in our code the exception came from."""
    lines = [line for line in traceback.format_exc().splitlines() if 'File "' in line]
    ours = [line for line in lines if "tinylm" in line and "fuzzing.py" not in line] or lines
    return " < ".join(line.strip().replace('File "', "") for line in reversed(ours[-4:]))


def main() -> None:
    file, name, seed, first, stop = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    sys.path.insert(0, str(Path(__file__).parent))
    spec = importlib.util.spec_from_file_location("formats", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["formats"] = module
    spec.loader.exec_module(module)
    tested: Format = module.FORMATS[name]
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's, which would reach the user
    with tempfile.TemporaryDirectory() as temporary:
        for case in range(first, stop):
            folder = Path(temporary) / "case"
            folder.mkdir()
            tested.write(folder, np.random.default_rng((seed, case)))
            print("case", case, flush=True)
            faulthandler.dump_traceback_later(STUCK, exit=True)
            fault = fault_of(lambda: tested.load(folder), str(folder))  # noqa: B023 (called at once)
            faulthandler.cancel_dump_traceback_later()
            if fault is not None:
                print(f"{name} {case}: {fault}", flush=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
