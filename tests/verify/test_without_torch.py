"""tinylm.verify works without PyTorch, and what needs PyTorch says so."""

import subprocess
import sys

import pytest

import tinylm

PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import pkgutil, importlib, numpy as np, tinylm
from tinylm import verify

for found in pkgutil.iter_modules(verify.__path__):
    importlib.import_module(f"tinylm.verify.{found.name}")
assert verify.gradcheck(tinylm.exp, np.ones(3)).ok
assert verify.check_module(tinylm.nn.Linear(3, 2), [np.ones((2, 3))]).ok
for name in ("compare", "compare_op", "drift", "twins_of", "twins_of_pretrained"):
    try:
        getattr(verify, name)
    except tinylm.TinylmError as error:
        print(error)
"""


def test_without_pytorch() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["PyTorch is not installed: pip install 'tinylm[test]'"] * 5


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match=r"module 'tinylm.verify' has no attribute 'comparison'"):
        tinylm.verify.comparison  # noqa: B018
