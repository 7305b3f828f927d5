"""Records launches, and repeats them in programs built with AddressSanitizer and ThreadSanitizer.

A program that passed is not run again with the same launches: a file in the cache records that it passed.
"""

import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .building import build, cache, digest
from .launching import Kernel

OPTIONS = {  # debug information for reports only: more would slow the symbolizer down
    "asan": {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"},
    "tsan": {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66:history_size=0"},
}


class SanitizerError(AssertionError):
    """A sanitizer has reported an error."""


class Recorder:
    """Within it, records one launch of each configuration, by kernel file."""

    def __init__(self) -> None:
        self.launches: dict[tuple[str, tuple[str, ...]], dict[Any, bytes]] = {}

    def __enter__(self) -> "Recorder":
        Kernel.recorder = self
        return self

    def __exit__(self, *_: object) -> None:
        Kernel.recorder = None

    def add(
        self,
        kernel: Kernel,
        how: Sequence[int],
        initial: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        arguments: Sequence[tuple[int, int]],
    ) -> None:
        """Called at every launch: records what replay.cpp reads, in its order. how: grid, block, shared memory, cooperative or not."""
        of_file = self.launches.setdefault((kernel.module.code, kernel.module.options), {})
        key = (kernel.name, *how, *[x.size for x in initial], *arguments)
        if key in of_file:
            return
        name = kernel.name.encode()
        parts = [struct.pack("<I", len(name)), name, struct.pack("<8I", *how), struct.pack("<I", len(initial))]
        for before, after in zip(initial, expected, strict=True):
            parts += [struct.pack("<Q", before.size), before.tobytes(), after.tobytes()]
        parts.append(struct.pack("<I", len(arguments)))
        parts += [struct.pack("<qQ", region, value) for region, value in arguments]
        of_file[key] = b"".join(parts)


def replay(recorder: Recorder, mode: str) -> int:
    """Repeats the recorded launches under "asan" or "tsan", and returns how many programs had to run. Raises SanitizerError with the first
    report if there is one."""
    ran = 0
    for (code, options), launches in recorder.launches.items():
        text = struct.pack("<I", len(launches)) + b"".join(launches[key] for key in sorted(launches, key=repr))
        passed = cache() / f"{digest(code, mode, *options, text)}.passed"
        if passed.exists():
            continue
        program = build(code, mode, options)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "launches")
            file.write_bytes(text)
            done = subprocess.run([program, file], capture_output=True, text=True, env={**os.environ, **OPTIONS[mode]})
        if done.returncode:
            raise SanitizerError(f"{mode}, exit status {done.returncode}:\n{done.stderr}")
        passed.touch()
        ran += 1
    return ran
