"""How many files one training step takes a reader through: tinylm/train/README.md walks through them once.

Counted are the Python files of which a function runs in the main thread, from the batch to the update, in a step after which no
record, validation or checkpoint is due. These take more files, once in many steps, and the C files lie behind the bindings.
"""

import os
import re
import subprocess
import sys

import pytest
from script_helpers import SCRIPTS

ROOT = SCRIPTS.parent
AT_MOST = 27  # files; three of them for dropout masks of each run's own, for the precision of products, and for gradients that
# are written where they belong

PROGRAM = """
import runpy, sys
from pathlib import Path
from tinylm.train.loop import Training

root, scripts, data, out = sys.argv[1:]
files, advance = set(), Training.advance

def note(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(root) and name != __file__:
        files.add(str(Path(name).relative_to(root)))

def traced(self, report):
    sys.setprofile(note if self.progress.step == 5 else None)  # the kernels are loaded, and nothing is due after this step
    try:
        return advance(self, report)
    finally:
        sys.setprofile(None)

Training.advance = traced
settings = ["--steps", "7", "--log-every", "100", "--eval-every", "100", "--save-every", "100"]
sys.argv = ["train.py", "--data", data, "--out", out, *settings]
try:
    runpy.run_path(f"{scripts}/train.py", run_name="__main__")
finally:
    sys.stderr.write("".join(f"file: {name}\\n" for name in sorted(files)))
"""


@pytest.fixture(scope="module")
def files_of_one_step(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of the repository whose functions run in one step of `python scripts/train.py`, on a short text."""
    folder = tmp_path_factory.mktemp("step")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 400, encoding="utf-8")
    command = [sys.executable, *map(str, (folder / "program.py", ROOT, SCRIPTS, folder / "fox.txt", folder / "run"))]
    environment = {"PYTHONPATH": f"{ROOT}:{SCRIPTS}", "PYTHONWARNINGS": "error"}
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    return re.findall(r"^file: (.*)$", result.stderr, re.MULTILINE)


def test_one_step_is_read_in_few_files(files_of_one_step: list[str]) -> None:
    found = files_of_one_step
    assert "tinylm/train/loop.py" in found
    assert "tinylm/models/gpt.py" in found
    assert len(found) <= AT_MOST, "\n".join([f"{len(found)} files:", *found])


def test_the_readme_walks_through_them(files_of_one_step: list[str]) -> None:
    """It names each of them once, and no file that is not there."""
    text = (ROOT / "tinylm" / "train" / "README.md").read_text(encoding="utf-8")
    walk = re.findall(r"^\d+\. `([^`]+)`", text, re.MULTILINE)
    assert len(set(walk)) == len(walk)
    assert set(files_of_one_step) <= set(walk)
    assert all((ROOT / name).exists() for name in walk)
