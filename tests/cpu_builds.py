"""Libraries of the CPU kernels with changed sources or other options, built from object files of which most stay the same."""

import ctypes
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling, library
from tinylm.bindings.cpu.library import Library

DRIVERS = Path(__file__).parent / "bindings" / "cpu_drivers"
PRODUCTS = ["panels", "panels_bfloat16", "panels_tiles", "products", "few_rows", "matmul", "recurrent"]
PRODUCTS += ["attention", "scaled_dot_product_attention", "scaled_dot_product_attention_backward"]

# Options for each of the ways to multiply rounded numbers that need no processor of their own.
_WITHOUT_DOTS = ["-mno-avx512bf16"] if platform.machine() == "x86_64" else []
UNITS = {"floats": _WITHOUT_DOTS, "tiles": ["-O1", "-DEMULATED_TILES", f"-I{DRIVERS}", *_WITHOUT_DOTS]}


def object_files(workspace: Path) -> Path:
    """Fills the folder with the sources of the kernels and their object files, which are not optimised. Returns it."""
    for name, text in compiling.sources().items():
        (workspace / name).write_text(text, encoding="utf-8")
    for path in workspace.glob("*.c"):
        compile_one(path, f"{path}.o")
    return workspace


def compile_one(path: Path, target: str, *options: str) -> None:
    subprocess.run([*compiling.compiler(), *compiling.flags(), "-O0", *options, "-c", str(path), "-o", target], check=True)


def compiled_again(workspace: Path, name: str, files: Iterable[str], *options: str) -> dict[str, str]:
    """Returns new object files, by the name of the C file."""
    made = {file: str(workspace / f"{name}-{file}.object") for file in files}
    for file, target in made.items():
        compile_one(workspace / file, target, *options)
    return made


def compiled_wrong(
    workspace: Path, name: str, file: str, changes: Mapping[str, str], files: Iterable[str], *options: str
) -> dict[str, str]:
    """As `compiled_again`, while the texts in one file are others."""
    text = wrong = (workspace / file).read_text(encoding="utf-8")
    for before, after in changes.items():
        assert before in wrong
        wrong = wrong.replace(before, after)
    try:
        (workspace / file).write_text(wrong, encoding="utf-8")
        return compiled_again(workspace, name, files, *options)
    finally:
        (workspace / file).write_text(text, encoding="utf-8")


def linked(workspace: Path, name: str, others: Mapping[str, str]) -> Path:
    """Returns a new library, since a loaded one stays loaded, of the object files, of which `others` take the place of some."""
    return _linked(workspace, f"{name}.so", others, "-shared")


def program(workspace: Path, name: str, others: Mapping[str, str], driver: str) -> Path:
    """Returns a program of the same and a C file of cpu_drivers."""
    return _linked(workspace, name, others, f"-I{workspace}", str(DRIVERS / driver))


def _linked(workspace: Path, name: str, others: Mapping[str, str], *options: str) -> Path:
    path = workspace / name
    objects = [others.get(each.stem, str(each)) for each in workspace.glob("*.o")]
    subprocess.run([*compiling.compiler(), *options, "-pthread", *objects, "-o", str(path), "-lm"], check=True)
    return path


def use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the bindings call the kernels of a library."""
    monkeypatch.setattr(compiling, "load", lambda: (ctypes.CDLL(str(path)), str(path)))
    monkeypatch.setenv("TINYLM_NUM_THREADS", "2")
    monkeypatch.setattr(library, "_loaded", Library(compiling))
