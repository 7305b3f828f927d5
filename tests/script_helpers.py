"""Runs the scripts as a user runs them."""

import contextlib
import importlib.util
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

Result = subprocess.CompletedProcess[str]


def command_module(name: str) -> ModuleType:
    """Returns the module scripts/name.py. `import benchmark` would give the folder scripts/benchmark/, since a package goes first."""
    with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        spec = importlib.util.spec_from_file_location(f"{name}_command", SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def script(name: str, *arguments: object, cwd: Path | None = None, **environment: str) -> Result:
    """Runs scripts/name with these arguments in a new Python in which warnings are errors; its output is text."""
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    env = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=cwd, env=env)


def script_here(name: str, *arguments: object, stdin: bytes = b"", cwd: Path | None = None) -> Result:
    """Runs a script in this Python, for many small cases: a new one takes half a second to start."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    command = [str(SCRIPTS / name), *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
        contextlib.chdir(cwd or Path()),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        try:
            runpy.run_path(command[0], run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
    out, err = (stream.buffer.getvalue().decode("utf-8") for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, status, out, err)


def ends_well(result: Result) -> str:
    """Asserts status 0 and nothing on stderr; returns what the script printed."""
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout


def fails_with_one_line(result: Result, message: str) -> None:
    """Asserts status 2, one line on stderr that contains the message, and nothing on stdout."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert result.stdout == ""
