"""A program of its own that calls CPU kernels, and a compiler for it. Importing this skips the tests if there is no C compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling

try:
    REAL = compiling.compiler()[0]
except compiling.BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

PROGRAM = """
import numpy as np, tinylm
from tinylm.bindings.cpu import library
from tinylm.engine.kernels import launches
assert library._loaded is None and library.problem() is None, "importing tinylm has loaded the kernels"
x = tinylm.Tensor(np.ones((3, 2), np.float32))
for _ in range(2):
    assert (tinylm.linear(x, x).data == 2).all()
    assert (tinylm.rnn(x[None], x[:1], x[:1, :1])[0].data > 0.9).all()
print(sum(launches.values()), library._loaded and library._loaded.place)
"""


def start(**environment: str) -> subprocess.Popen[str]:
    """Starts the program with these additions to the environment."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def outcome(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Waits until the process has ended without an error, and returns what it printed and its notices."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip(), errors


# A compiler that notes its calls and does not optimise. It makes an object file once, and then copies it from the store: the key is the
# flags and the file's name, since the tests compile the same kernels.
COMPILER = """#!/bin/sh
echo call >> "{log}"
case "$*" in *" -c "*) ;; *) exec "{real}" "$@" -O0 ;; esac
for target in "$@"; do :; done
kept="{store}/$(echo "${{*%% -c *}}" | cksum | cut -d " " -f 1)-${{target##*/}}"
if [ ! -e "$kept" ]; then
  "{real}" "$@" -O0 || exit
  cp "$target" "$kept.$$" && mv "$kept.$$" "$kept"
fi
cp "$kept" "$target"
"""


def write_compiler(path: Path, store: Path, log: Path) -> None:
    """Writes a program that compiles as this machine's compiler does, and appends a line to `log` at each call."""
    path.write_text(COMPILER.format(log=log, store=store, real=REAL), encoding="utf-8")
    path.chmod(0o755)
