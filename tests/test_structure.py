"""How the code is laid out: short files, few modules beside the training loop, a loop that knows no model, and private names."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylm.train.tasks.language_model_config import MODEL_DEFAULTS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (".py", ".c", ".h", ".cu", ".cuh", ".cpp", ".html", ".js", ".css")
MAY_BE_LONG = ("tinylm/verify/samples/", "tinylm/verify/torch/reference.py")  # lists of samples, and of PyTorch's counterparts
SCRIPTS = {path.stem for path in (ROOT / "scripts").iterdir()}  # they import each other by these names


def test_no_file_is_longer_than_300_lines() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"git lists no files: {listed.stderr.strip()}")
    files = [name for name in listed.stdout.splitlines() if name.endswith(SOURCES) and not name.startswith(MAY_BE_LONG)]
    assert len(files) > 400, "the files were found"
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in files if (ROOT / name).exists()}
    assert {name: n for name, n in lengths.items() if n > 300} == {}


def test_train_has_at_most_12_modules_at_its_top() -> None:
    found = sorted(path.name for path in (ROOT / "tinylm" / "train").glob("*.py") if path.name != "__init__.py")
    assert len(found) <= 12, found


@pytest.mark.parametrize("name", ["loop.py", "state.py"])
def test_the_training_loop_names_no_model_or_task(name: str) -> None:
    """The words of GPTModel are gpt and model."""
    text = (ROOT / "tinylm" / "train" / name).read_text(encoding="utf-8")
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}
    assert {word for word in words if word in MODEL_DEFAULTS or word == "gram" or word.startswith(("translat", "classif"))} == set()


def private_names(code: str) -> Iterator[tuple[int, str]]:
    """Yields (line, name) for each private name that the code takes from another of our files."""
    tree = ast.parse(code)
    ours = set()  # the names that imports of our files bind
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known = [a for a in node.names if a.name.split(".")[0] in ("tinylm", *SCRIPTS)]
            ours |= {a.asname or a.name.split(".")[0] for a in known}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in ("tinylm", *SCRIPTS)):
            ours |= {a.asname or a.name for a in node.names}
            yield from ((node.lineno, a.name) for a in node.names if is_private(a.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in ours:
                yield node.lineno, node.attr


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_file_uses_another_files_private_names() -> None:
    paths = [*(ROOT / "tinylm").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    assert len(paths) > 200, "the files were found"
    found = [f"{path.relative_to(ROOT)}:{line} {name}" for path in paths for line, name in private_names(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("from tinylm.engine.op import _record", ["_record"]),
        ("from . import _record as record", ["_record"]),
        ("def f():\n    from support.tables import _row", ["_row"]),
        ("from tinylm.engine import op as o\no._record()", ["_record"]),
        ("import tinylm.engine.op\ntinylm.engine.op._record", ["_record"]),
        ("from tinylm.ops import __all__ as _ops\nimport sys as _sys\n_sys._getframe()\nself._x = op._y", []),
    ],
)
def test_which_uses_of_private_names_are_found(code: str, private: list[str]) -> None:
    assert [name for _, name in private_names(code)] == private
