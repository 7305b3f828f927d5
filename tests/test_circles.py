"""No file imports itself through others: imports within functions and under TYPE_CHECKING count as well."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules(root: Path, *folders: str) -> dict[str, Path]:
    """Returns the files in the folders by their import names. Files in scripts/ import each other without that prefix."""
    found = {}
    for folder in folders:
        base = root if folder == "tinylm" else root / folder
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: Iterable[str]) -> Iterator[str]:
    """Yields the names of the modules that a file imports. `from package import submodule` gives the submodule alone;
    the package's own file counts only if a name is taken from it that is no submodule."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in known else source


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Returns the strongly connected components with two or more modules (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            component = set(stack[at:])
            del stack[at:]
            if len(component) > 1:
                found.append(component)

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def graph_of(root: Path, *folders: str) -> dict[str, set[str]]:
    """Returns which of the other files in the folders each file imports."""
    files = modules(root, *folders)
    return {name: {other for other in imported(name, path, files) if other in files and other != name} for name, path in files.items()}


def test_no_file_imports_itself_through_others() -> None:
    graph = graph_of(ROOT, "tinylm", "scripts")
    assert len(graph) > 200, "the files were found"
    found = circles(graph)
    told = "\n".join(", ".join(f"{name} -> {' '.join(sorted(graph[name] & circle))}" for name in sorted(circle)) for circle in found)
    assert not found, f"circles:\n{told}"


def test_every_kind_of_import_counts(tmp_path: Path) -> None:
    package = tmp_path / "tinylm"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__.py": "from tinylm.a import f",
        "a.py": "def f():\n    from tinylm import b\n    import tinylm.inner.g",
        "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tinylm.inner import c",
        "inner/__init__.py": "from tinylm.inner.c import g",
        "inner/c.py": "from tinylm.a import f\ng = f",
        "inner/d.py": "from . import e\nfrom tinylm.inner import c",
        "inner/e.py": "from .d import h",
        "inner/g.py": "from tinylm.inner import g\nimport numpy",
    }.items():
        (package / name).write_text(text, encoding="utf-8")
    assert circles(graph_of(tmp_path, "tinylm")) == [{"tinylm.a", "tinylm.b", "tinylm.inner.c"}, {"tinylm.inner.d", "tinylm.inner.e"}]
