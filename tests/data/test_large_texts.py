"""Texts larger than memory: how much memory a run on them takes, and that the tokens are those of the text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import large_text_program
import numpy as np
import pytest
from cpu_targets import with_compiled_kernels

LINES = ["".join(np.random.default_rng(i).choice(list("abcdefgh ,.XYZ"), 60)) + "\n" for i in range(2000)]


def written(path: Path, megabytes: int) -> Path:
    """Writes a text of so many 10⁶ bytes, and returns its path."""
    block = "".join(LINES).encode()
    with path.open("wb") as file:
        for _ in range(megabytes * 10**6 // len(block)):
            file.write(block)
    return path


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


def peak(tmp_path: Path, megabytes: int) -> int:
    """Returns the peak memory, in MiB, of a run on a text of so many 10⁶ bytes."""
    file = written(tmp_path / "long.txt", megabytes)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TINYLM_CACHE": str(with_compiled_kernels(tmp_path / "cache"))}
    command = [sys.executable, large_text_program.__file__, str(file), str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 0, result.stderr
    used, tokens, mapped = json.loads(result.stdout)
    assert mapped
    size = file.stat().st_size
    assert tokens == max(int(size * 0.9), size - 5_000_000)
    return used


def test_a_run_holds_neither_text_nor_tokens(tmp_path: Path) -> None:
    """The tokens of 30 MB would take 240 MB as int64; a run without data needs about 120 MiB."""
    assert peak(tmp_path, 30) < 300


@pytest.mark.slow
def test_a_gigabyte_within_300_megabytes(tmp_path: Path) -> None:
    assert peak(tmp_path, 1000) * 2**20 < 300 * 10**6
