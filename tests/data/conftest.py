"""A text of which every token is kept in a file."""

from pathlib import Path

import pytest
from file_cases import TEXT

from tinylm.data import encoding, reading


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes texts of more than 100 characters be kept in files, read in small pieces; returns their folder."""
    monkeypatch.setattr(reading, "BYTES", 1000)
    monkeypatch.setattr(encoding, "IN_MEMORY", 100)
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path
