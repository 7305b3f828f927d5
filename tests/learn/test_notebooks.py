"""The notebooks: each runs, shows what its .ipynb file has stored, and agrees with its source."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import SOURCES, Cell, cells_of, notebook, run

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?")


def stored(source: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return made


def without_outputs(record: dict[str, Any]) -> dict[str, Any]:
    cells = [{name: value for name, value in cell.items() if name != "outputs"} for cell in record["cells"]]
    return record | {"cells": cells}


def words(outputs: list[dict[str, Any]]) -> str:
    """Returns what a cell shows as text, # for each number: the last digits, and what training ends with, differ between machines."""
    texts = ["".join(each["text"] if "text" in each else each["data"]["text/plain"]) for each in outputs]
    kinds = [kind for each in outputs for kind in each.get("data", ())]
    return " ".join([_NUMBER.sub("#", text) for text in texts] + kinds).replace("[", " ").replace("]", " ")


def test_there_are_six() -> None:
    assert [source.stem[:2] for source in SOURCES] == ["1_", "2_", "3_", "4_", "5_", "6_"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_stored_as_its_source_says(source: Path) -> None:
    cells = cells_of(source.read_text(encoding="utf-8"))
    record = stored(source)
    how = "python tests/notebook_cells.py writes it anew"
    assert without_outputs(record) == without_outputs(notebook(cells, [[] for _ in cells])), f"{source.stem}.ipynb has other cells: {how}"
    assert source.with_suffix(".ipynb").stat().st_size < 150_000
    for cell, kept, shown in zip(cells, record["cells"], run(cells, source.stem), strict=True):
        if cell.kind == "code" and "varies" not in cell.tags:
            assert words(shown).split() == words(kept["outputs"]).split(), f"{source.stem}.ipynb shows something else: {how}\n{cell.text}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_states_and_checks(source: Path) -> None:
    """Text and code alternate, and the asserts check what the text says."""
    cells = cells_of(source.read_text(encoding="utf-8"))
    assert cells[0].text.startswith("# ")
    assert sum(cell.kind == "markdown" for cell in cells) >= 10
    assert sum(len(re.findall(r"^ *(?:assert |np\.testing\.)", cell.text, re.MULTILINE)) for cell in cells) >= 10
    following = {source.name: SOURCES[i + 1].stem for i, source in enumerate(SOURCES[:-1])}
    assert source.name not in following or f"`{following[source.name]}.ipynb`" in cells[-1].text


# ---------------------------------------------------------------- the reading of sources

SOURCE = '# %% [markdown]\n# # A title\n#\n# Text.\n\n# %% tags=["varies"]\nx = 2\nprint(x)\nx + 1.5\n'


def test_a_source_is_read_and_run_as_jupyter_does() -> None:
    cells = cells_of(SOURCE)
    assert cells == [Cell("markdown", (), "# A title\n\nText."), Cell("code", ("varies",), "x = 2\nprint(x)\nx + 1.5")]
    _, (printed, value) = run(cells, "test")
    assert printed == {"name": "stdout", "output_type": "stream", "text": ["2\n"]}
    assert value == {"data": {"text/plain": ["3.5"]}, "execution_count": 1, "metadata": {}, "output_type": "execute_result"}


@pytest.mark.parametrize("wrong", ["x = 1\n" + SOURCE, SOURCE + "# %% [raw]\n", "# %% [markdown]\nno comment\n"])
def test_what_is_no_source(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"stands|begins no cell"):
        cells_of(wrong)


def test_a_wrong_statement_and_a_stale_output_are_noticed() -> None:
    with pytest.raises(AssertionError):
        run(cells_of("# %%\nassert 1 + 1 == 3\n"), "test")
    cells = cells_of(SOURCE)
    changed = [cells[0], dataclasses.replace(cells[1], text="print('two')")]
    assert words(run(cells, "test")[1]) != words(run(changed, "test")[1])
    assert without_outputs(notebook(cells, [[], []])) != without_outputs(notebook(changed, [[], []]))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_jupyter_runs_it(source: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.reads(source.with_suffix(".ipynb").read_text(encoding="utf-8"), 4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
