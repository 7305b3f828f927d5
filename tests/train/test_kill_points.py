"""Runs that are ended before one operation on files after another: each can go on, and ends as if it had not been disturbed.

`kill_program.py` says how. Here a few points per task are tried; with `-m slow` all of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cpu_targets import with_compiled_kernels
from script_helpers import SCRIPTS

ROOT = SCRIPTS.parent
slow = pytest.mark.slow


def problems_of(kind: str, folder: Path, stride: int, signal: str) -> list[str]:
    """What went wrong after the points that were tried, which are at least two."""
    settings = {"TINYLM_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TINYLM_CACHE": str(with_compiled_kernels(folder / "cache"))}
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", SCRIPTS)))
    command = [sys.executable, str(ROOT / "tests" / "kill_program.py"), kind, str(folder / "runs"), str(stride), signal]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, env={**os.environ, **settings, "PYTHONPATH": paths}
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    made = found["operations"]
    assert len(made) > stride
    assert any(operation.startswith("rename") for operation in made)
    assert any("write" in operation for operation in made)
    return list(found["problems"])


@pytest.mark.parametrize(
    ("kind", "stride"),
    [
        *[("gpt", 29), ("ngram", 17), ("translator", 29), ("classifier", 29)],  # of which one each lies before the first checkpoint
        *[pytest.param(kind, 1, marks=slow) for kind in ("gpt", "ngram", "translator", "classifier")],
    ],
)
def test_killed_before_an_operation_on_a_file(kind: str, stride: int, tmp_path: Path) -> None:
    assert problems_of(kind, tmp_path, stride, "KILL") == []


@pytest.mark.parametrize(
    ("script", "signal", "stride"),
    [
        ("classify", "TERM", 45),
        *[
            pytest.param(script, signal, 29, marks=slow)
            for script in ("train", "classify", "translate")
            for signal in ("INT", "TERM", "KILL")
        ],
    ],
)
def test_a_script_gets_a_signal_before_an_operation_on_a_file(script: str, signal: str, stride: int, tmp_path: Path) -> None:
    """The status is 130 for SIGINT and SIGTERM at any moment, also before the run has begun; then --resume, or the same command again."""
    assert problems_of(script, tmp_path, stride, signal) == []
