"""The helper of the fuzz tests finds each kind of fault, and nothing where there is none."""

import json
import os
import time
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np

from tinylm.errors import DataError, TinylmError

CASES = 8


class AsItIs(TinylmError):
    """An error whose message is neither cut nor spelled out."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


def write(folder: Path, rng: np.random.Generator) -> None:
    (folder / "case").write_text(str(int(rng.integers(1 << 30))), encoding="utf-8")


def load(folder: Path) -> Any:
    """Fails in a way of its own in each of the eight cases."""
    known = [int(np.random.default_rng((0, case)).integers(1 << 30)) for case in range(CASES)]
    case = known.index(int((folder / "case").read_text(encoding="utf-8")))
    if case == 1:
        raise DataError(f"{folder}: the file is damaged")
    if case == 2:
        raise KeyError("foreign")
    if case == 3:
        end = time.process_time() + 30
        while time.process_time() < end:
            pass
    if case == 4:
        return np.ones(1 << 28).sum()  # 2 GB
    if case == 5:
        os._exit(7)
    if case == 6:
        raise AsItIs("x" * 501)
    if case == 7:
        raise AsItIs("\x1b[31mred")
    return None


FORMATS = {"all": fuzzing.Format(write, load)}


def test_each_kind_of_fault_is_found() -> None:
    found = fuzzing.faults(__file__, "all", CASES)
    expected = [
        "2: KeyError",
        "3: more than 2",
        "4: ",
        "5: the process ended with status 7",
        "6: a message of 501",
        "7: a message with control",
    ]
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"all {start}"), found
    assert "MemoryError" in found[2]


def test_damage_is_reproducible_and_varied() -> None:
    record = {"a": [1, {"b": "c"}], "d": 1.5, "e": True}
    texts = [fuzzing.damaged_json(record, np.random.default_rng(i)) for i in range(300)]
    assert texts == [fuzzing.damaged_json(record, np.random.default_rng(i)) for i in range(300)]
    assert len(set(texts)) > 250
    data = json.dumps(record).encode()
    assert len({fuzzing.damaged(data, np.random.default_rng(i)) for i in range(300)}) > 280
    assert record == json.loads(data)
