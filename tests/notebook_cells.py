"""The notebooks: their sources in the percent format, run cell by cell in this process, and the .ipynb files made of them.

`python tests/notebook_cells.py [NAME]` runs the sources and writes the .ipynb files with what they show.
"""

import ast
import base64
import contextlib
import io
import itertools
import json
import linecache
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "tinylm" / "learn" / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
_MARK = re.compile(r"^# %%(?: \[(markdown)\])?(?: tags=(\[.*\]))?$")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what it shows. tags: "varies" if a number in it is not the same on every machine."""

    kind: str  # "markdown" or "code"
    tags: tuple[str, ...]
    text: str


def cells_of(source: str) -> list[Cell]:
    """Returns the cells of a source in the percent format. Raises ValueError for a line before the first cell or an unknown mark."""
    parts: list[tuple[str, tuple[str, ...], list[str]]] = []
    for line in source.splitlines():
        if line.startswith("# %%"):
            mark = _MARK.match(line)
            if mark is None:
                raise ValueError(f"{line!r} begins no cell")
            parts.append((mark[1] or "code", tuple(json.loads(mark[2] or "[]")), []))
        elif parts:
            parts[-1][2].append(line)
        elif line:
            raise ValueError(f"{line!r} stands before the first cell")
    return [Cell(kind, tags, "\n".join(_uncommented(lines) if kind == "markdown" else lines).strip("\n")) for kind, tags, lines in parts]


def _uncommented(lines: list[str]) -> list[str]:
    if strange := [line for line in lines if line and line != "#" and not line.startswith("# ")]:
        raise ValueError(f"{strange[0]!r} stands in a cell of text without '# '")
    return [line[2:] for line in lines]


def run(cells: list[Cell], name: str) -> list[list[dict[str, Any]]]:
    """Runs the code cells in order, in a namespace of their own; returns the outputs of each cell as .ipynb files have them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    counts = itertools.accumulate(cell.kind == "code" for cell in cells)  # code cells alone are numbered, from 1
    return [
        _outputs(cell.text, f"{name}-cell-{i}.py", names, i) if cell.kind == "code" else [] for i, cell in zip(counts, cells, strict=True)
    ]


def _outputs(code: str, file: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Runs one cell as Jupyter does: what it prints, and the value of an expression on its last line."""
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # tracebacks and explain.steps quote the lines
    tree = ast.parse(code, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";") else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, file, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        sizes = {"image/png": value._repr_png_()[1]} if hasattr(value, "_repr_png_") else {}
        outputs.append({"data": _shown(value), "execution_count": number, "metadata": sizes, "output_type": "execute_result"})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """Returns what a notebook shows of a value, by type of content."""
    shown: dict[str, Any] = {}
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()):
        shown["text/html"] = _lines(html)
    elif hasattr(value, "_repr_mimebundle_"):  # rich's tables
        shown |= {kind: _lines(text) for kind, text in value._repr_mimebundle_((), ()).items() if kind == "text/html"}
    if hasattr(value, "_repr_png_"):
        png, _ = value._repr_png_()
        shown["image/png"] = base64.b64encode(_few_colours(png)).decode("ascii")
    return {**shown, "text/plain": _lines(repr(value))}


def _few_colours(png: bytes) -> bytes:
    """Returns a picture with at most 64 colours, a third of the size, and no difference to see."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(small, "PNG", optimize=True)
    return small.getvalue()


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(cells: list[Cell], outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns the notebook as nbformat 4.5 has it."""
    made = []
    counts = itertools.accumulate(cell.kind == "code" for cell in cells)
    for i, (cell, shown, count) in enumerate(zip(cells, outputs, counts, strict=True)):
        each: dict[str, Any] = {"cell_type": cell.kind, "id": f"cell-{i}", "metadata": {"tags": list(cell.tags)} if cell.tags else {}}
        each["source"] = _lines(cell.text)
        made.append(each | ({"execution_count": count, "outputs": shown} if cell.kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


def make(source: Path) -> Path:
    """Runs a source and writes the .ipynb file beside it."""
    cells = cells_of(source.read_text(encoding="utf-8"))
    target = source.with_suffix(".ipynb")
    text = json.dumps(notebook(cells, run(cells, source.stem)), indent=1, ensure_ascii=False, sort_keys=True)
    target.write_text(text + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    for path in SOURCES:
        if len(sys.argv) < 2 or sys.argv[1] in path.stem:
            made = make(path)
            print(f"{made.name}: {made.stat().st_size / 1024:.0f} KB")
