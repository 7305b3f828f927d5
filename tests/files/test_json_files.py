"""JSON files: limits, damage, and settings whose types and ranges are checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from tinylm.errors import CheckpointError
from tinylm.files import json_files
from tinylm.files.json_files import Fields, read_fields, read_json, read_text, write_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = {"text": "é😀\n", "none": None, "list": [1, 2.5, {"a": True}]}
    write_json(tmp_path / "a.json", record)
    assert read_json(tmp_path / "a.json") == record
    assert read_fields(tmp_path / "a.json").record == record
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == record


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: "),
        (b"{", "is damaged: "),
        (b'{"a": 1, "a": 2}', "is damaged: 'a' stands twice in one record"),
        (b'[{"b": {"a": 1, "a": 2}}]', "is damaged: 'a' stands twice in one record"),
        (b'{"' + b"n" * 5000 + b'": 1, "' + b"n" * 5000 + b'": 2}', "is damaged: 'nnn"),
        (b"[" * 200_000, "is damaged: it is nested more than 100 deep"),
        (b"[" * 101 + b"]" * 101, "is damaged: it is nested more than 100 deep"),
        (b"1" * 5000, "is damaged: Exceeds the limit"),
        (b'"\xff"', "is damaged: 'utf-8' codec"),
    ],
    ids=["empty", "cut off", "a name twice", "a name twice inside", "a long name twice", "deep", "101", "long number", "no UTF-8"],
)
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert f"{path} {message}" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for read in (read_json, read_fields, read_text):
        for path in (tmp_path / "none.json", tmp_path):
            with pytest.raises(CheckpointError, match="cannot read"):
                read(path)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_MAX_SIZE", 10)
    (tmp_path / "a.json").write_bytes(b" " * 9 + b"1")
    assert read_json(tmp_path / "a.json") == 1
    (tmp_path / "a.json").write_bytes(b" " * 10 + b"1")
    with pytest.raises(CheckpointError, match="has 11 bytes: expected at most 10"):
        read_json(tmp_path / "a.json")


FIELDS = Fields({"n": 3, "x": 2.5, "p": 0.1, "yes": True, "text": "3", "zero": 0, "none": None, "huge": 10**5000}, "a.json")


def test_fields_of_the_right_type() -> None:
    assert (FIELDS.integer("n"), FIELDS.number("x"), FIELDS.number("n"), FIELDS.fraction("p", 0.5)) == (3, 2.5, 3.0, 0.1)
    assert FIELDS.flag("yes", False) is True
    assert (FIELDS.integer("none", 7), FIELDS.number("missing", 1.5), FIELDS.fraction("missing", 0.5)) == (7, 1.5, 0.5)
    assert FIELDS.flag("none", True) is True


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda: FIELDS.integer("text"), "text is '3', expected a whole number from 1 to 16777216"),
        (lambda: FIELDS.integer("yes"), "yes is True"),
        (lambda: FIELDS.integer("zero"), "zero is 0"),
        (lambda: FIELDS.integer("n", largest=2), "n is 3, expected a whole number from 1 to 2"),
        (lambda: FIELDS.integer("missing"), "missing is None"),
        (lambda: FIELDS.number("huge"), "huge is a whole number of 16610 bits"),
        (lambda: FIELDS.number("text"), "text is '3', expected a number from 1e-30 to 1e\\+30"),
        (lambda: FIELDS.fraction("n", 0.1), "n is 3, expected a number from 0 to below 1"),
        (lambda: FIELDS.flag("n", True), "n is 3, expected true or false"),
        (lambda: FIELDS.refuse_others({"n": (1, 2)}), "settings that are not supported: n 3 \\(expected 1 or 2\\)"),
        (lambda: Fields([1], "a.json"), "expected a record of names and values, got list"),
    ],
)
def test_fields_that_do_not_fit(take: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^a\.json: {message}"):
        take()


def test_supported_settings_pass() -> None:
    FIELDS.refuse_others({"n": (3, 4), "missing": (1,)})
    with pytest.raises(CheckpointError) as caught:
        FIELDS.refuse_others({}, [f"problem {i} {'x' * 60}" for i in range(1000)])
    assert "problem 0" in str(caught.value)
    assert str(caught.value).endswith(" more")
    assert len(str(caught.value)) < 500
