"""The README's Python blocks run as they stand, and its commands name scripts and flags that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.S))
def test_python_blocks_run(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {})


def test_commands_exist() -> None:
    commands = re.findall(r"python scripts/(\w+\.py)( (?:train|run|compare|backward|attention|gates|report)\b)?([^\n#`]*)", README)
    assert commands
    helps: dict[tuple[str, ...], str] = {}
    for name, part, rest in commands:
        key = (name, *part.split())
        if key not in helps:
            command = [sys.executable, str(ROOT / "scripts" / name), *part.split(), "--help"]
            helps[key] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for flag in re.findall(r"--[\w-]+", rest):
            assert flag in helps[key], f"{' '.join(key)} {flag}"


def test_named_files_exist() -> None:
    for path in re.findall(r"`((?:tinylm|kernels|scripts)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
