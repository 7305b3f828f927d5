"""Runs made before the modules moved: they resume bit for bit, and give the same texts and scores.

tests/old_runs/make.py says how they were made; expected.json has what the code of that time gave for them.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_runs.measure import RUNS, arrays_of, losses_of, machine, newest, scores_of, summary_of
from script_helpers import ends_well, script_here

EXPECTED = json.loads((RUNS / "expected.json").read_text(encoding="utf-8"))
RESUMED = [name for name, run in EXPECTED["runs"].items() if run.get("resume")]
SAME_MACHINE = EXPECTED["machine"] == machine()
# Another processor or NumPy adds float32 numbers in another order. A few steps make little of that, but Adam divides a
# gradient by its own size, so that rounding shows where a gradient is nearly zero: arrays are compared by the norm of
# their part (all weights, all averages, ...), never number by number, and without the biases of keys. The gradient of
# these is zero but for rounding, since a softmax does not see what is added to all scores of a row.
TOLERANCE = 1e-5
KEY_BIASES = ("c_attn.bias", "in_proj_bias")
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]\d+)?")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies all old runs to a folder of the name given, and goes there: their configs name texts and runs by relative paths."""

    def copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(RUNS, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        monkeypatch.chdir(folder)
        return folder

    return copy


def run(command: list[Any]) -> str:
    return ends_well(script_here(*command))


def same_numbers(found: Any, expected: Any, exact: bool = SAME_MACHINE) -> None:
    """Records of numbers, lists of them, or numbers: equal, or within the tolerance."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            same_numbers(found[name], value, exact)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same_numbers(one, other, exact)
    else:
        assert found == expected if exact else found == pytest.approx(expected, rel=TOLERANCE)


def same_arrays(found: dict[str, str], expected: dict[str, str], exact: bool = SAME_MACHINE) -> None:
    """Arrays as `arrays_of` measures them: equal, or each within the tolerance of its part's norm."""
    assert found.keys() == expected.keys()
    if exact:
        assert found == expected
        return
    differences: dict[str, list[np.ndarray]] = {}
    norms: dict[str, float] = {}
    for name, measured in expected.items():
        (digest, *numbers), (its_digest, *its_numbers) = measured.split(), found[name].split()
        if digest == its_digest or name.endswith(KEY_BIASES):
            continue
        part = name.split(".")[0]
        values, its_values = np.array(numbers, float), np.array(its_numbers, float)
        differences.setdefault(part, []).append(its_values - values)
        norms[part] = float(np.hypot(norms.get(part, 0.0), values[0]))
    for part, of_arrays in differences.items():
        assert np.abs(of_arrays).max() <= TOLERANCE * norms[part], part


def same_output(command: list[Any], found: str, expected: str, exact: bool = SAME_MACHINE) -> None:
    """What a command prints: texts and numbers for themselves, since the words around numbers may change.

    On another machine the last digit printed may differ, and a draw or a search can be at a close call: texts are
    compared where they are greedy, which means that the likeliest token is far ahead.
    """
    numbers, its_numbers = (list(map(float, NUMBER.findall(out))) for out in (expected, found))
    assert its_numbers == numbers if exact else its_numbers == pytest.approx(numbers, rel=1e-3, abs=2e-4)
    if command[0] == "replay.py":
        assert all(word in found for word in ("step 2", "nan", "layer_norm"))
    elif command[0] != "score.py" and (exact or not {"--seed", "run"} & set(command) or "--beams" in command):
        assert NUMBER.sub("", found) == NUMBER.sub("", expected)


def gives_the_same(name: str, part: str, folder: Path) -> None:
    """What the scripts say of a run, and the scores of texts to the last bit, which no script prints."""
    expected = EXPECTED["runs"][name]
    for asked in expected[part]:
        same_output(asked["command"], run(asked["command"]), asked["out"])
    if f"{part}_scores" in expected:
        same_numbers(scores_of(folder / name, expected["texts"]), expected[f"{part}_scores"])


@pytest.mark.parametrize("name", [name for name, run in EXPECTED["runs"].items() if run["before"]])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the run that failed
def test_as_it_lies_it_gives_the_same(name: str, copy: Callable[[str], Path]) -> None:
    gives_the_same(name, "before", copy("copy"))


@pytest.mark.parametrize("name", RESUMED)
def test_it_resumes(name: str, copy: Callable[[str], Path]) -> None:
    """Its weights, its optimiser and its losses, and what the resumed run gives; a second time exactly so on any machine."""
    expected = EXPECTED["runs"][name]
    arrays, losses = [], []
    for number in ("first", "second"):
        folder = copy(number)
        for command in expected["resume"]:
            run(command)
        arrays.append(arrays_of(newest(folder / name)))
        losses.append(losses_of(folder / name))
    same_arrays(arrays[1], arrays[0], exact=True)
    same_numbers(losses[1], losses[0], exact=True)
    same_arrays(arrays[0], expected["arrays"])
    same_numbers(losses[0], expected["losses"])
    same_numbers(summary_of(folder / name), expected["summary"])
    gives_the_same(name, "after", folder)
