"""What a type checker tells a user of tinylm, and that its stubs agree with the functions."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from readme_blocks import ROOT, blocks_of

import tinylm
from tinylm import ops, verify
from tinylm.engine import tensor

SCRIPT = Path(__file__).with_name("typing_cases") / "user_script.py"
MISTAKES = {  # the script's text -> (the mistake, mypy's message)
    "eps=1e-6": ("wieght=self.weight", 'Unexpected keyword argument "wieght" for "layer_norm"'),
    "x.reshape(": ("x.reshpe(", '"Tensor" has no attribute "reshpe"'),
    ", np.array([0, 1, 2, 0]))": (")", 'Too few arguments for "cross_entropy"'),
    "lr=0.1": ('lr="0.1"', 'Argument "lr" to "AdamW" has incompatible type "str"; expected "float"'),
}


def test_mypy_finds_the_four_mistakes_of_a_user_and_nothing_else(tmp_path: Path) -> None:
    right = SCRIPT.read_text("utf-8")
    wrong = right
    for text, (mistake, _) in MISTAKES.items():
        assert wrong.count(text) == 1
        wrong = wrong.replace(text, mistake)
    (tmp_path / "right.py").write_text(right, "utf-8")
    (tmp_path / "wrong.py").write_text(wrong, "utf-8")
    first_page = [block.code for block in blocks_of("README.md") if block.language == "python"]
    pages = [f"first_page_{number}.py" for number in range(len(first_page))]
    for name, code in zip(pages, first_page, strict=True):
        (tmp_path / name).write_text(code, "utf-8")
    command = [sys.executable, "-m", "mypy", "--hide-error-context", "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache' / 'users'}"]
    found = subprocess.run([*command, "right.py", "wrong.py", *pages], cwd=tmp_path, capture_output=True, text=True)
    errors = [line for line in found.stdout.splitlines() if ": error: " in line]
    assert len(errors) == len(MISTAKES), found.stdout + found.stderr
    for _, message in MISTAKES.values():
        assert sum(message in error and error.startswith("wrong.py") for error in errors) == 1, found.stdout


# ---------------------------------------------------------------- the stubs and what they describe


def executed(source: str) -> dict[str, Any]:
    """Returns what a stub defines, as plain functions without bodies."""
    names: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source.replace("@overload\n", ""), names)
    return names


def stub_of(module: Any) -> str:
    return Path(module.__file__).with_suffix(".pyi").read_text("utf-8")


def parameters(function: Any) -> list[tuple[Any, ...]]:
    """Returns (name, kind, default) of each parameter."""
    found = [(p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()]
    return [p[:2] if p[0] == "return_weights" else p for p in found]  # its overloads have different defaults


@pytest.mark.parametrize("module", [ops, verify], ids=lambda module: module.__name__)
def test_a_stub_has_the_functions_signatures(module: Any) -> None:
    declared = {name: f for name, f in executed(stub_of(module)).items() if inspect.isfunction(f) and f.__code__.co_filename == "<string>"}
    assert len(declared) >= 3
    for name, function in declared.items():
        assert parameters(function) == parameters(getattr(module, name)), name
    if module is ops:
        assert declared.keys() == set(ops.__all__)


@pytest.mark.parametrize("module", [tinylm, ops, verify], ids=lambda module: module.__name__)
def test_a_stub_declares_what_its_package_exports(module: Any) -> None:
    body = ast.parse(stub_of(module)).body
    names = [alias.asname for s in body if isinstance(s, ast.ImportFrom) for alias in s.names if alias.asname is not None]
    names += [f.name for f in body if isinstance(f, ast.FunctionDef)]
    assert set(names) == set(module.__all__) - (set(ops.__all__) if module is tinylm else set())
    if module is ops:
        assert executed(stub_of(module))["__all__"] == ops.__all__


def test_the_methods_of_a_tensor_are_declared_as_they_are() -> None:
    stub = Path(tensor.__file__).with_name("tensor_methods.pyi").read_text("utf-8")
    (kind,) = (s for s in ast.parse(stub).body if isinstance(s, ast.ClassDef))
    declared = {f.name: executed(ast.unparse(f))[f.name] for f in kind.body if isinstance(f, ast.FunctionDef)}
    assert isinstance(declared.pop("T"), property)
    own = {f.name for f in ast.walk(ast.parse(inspect.getsource(tensor.Tensor))) if isinstance(f, ast.FunctionDef)}
    installed = {name: f for name, f in vars(tensor.Tensor).items() if inspect.isfunction(f) and name not in own}
    assert declared.keys() == installed.keys()
    for name, function in declared.items():
        here, there = parameters(function)[1:], parameters(installed[name])[1:]
        if name.startswith("__"):  # an operator is called by position alone
            assert len(here) == len(there), name
        else:
            assert here == there, name
