"""Only regular files are opened: a pipe would wait for ever, and a device may never end."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinylm.errors import CheckpointError
from tinylm.files.json_files import read_fields, read_json, read_text
from tinylm.files.regular_files import exists, names_in, open_regular
from tinylm.files.safetensors_files import open_safetensors, read_folder
from tinylm.files.signed_arrays import read_arrays
from tinylm.pretrained.model_loading import find_pretrained, load_model, load_tokenizer
from tinylm.train import load_run
from tinylm.train.metrics import MetricsLog, read_metrics
from tinylm.train.tasks.loading import read_record

READERS: list[Callable[[Path], Any]] = [
    read_text, read_json, read_fields, open_safetensors, read_arrays, read_metrics, open_regular,
    lambda path: MetricsLog(path, resume_at=1),
]  # fmt: skip


@pytest.fixture(params=["pipe", "zeros", "random", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Returns something that is no regular file."""
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to({"zeros": "/dev/zero", "random": "/dev/urandom"}[request.param])
    return path


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_a_device_and_a_folder(read: Callable[[Path], Any], odd: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*odd: (it is a folder, expected a file|expected a regular file, and it is)"):
        read(odd)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_in_folders_of_others(name: str, odd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file, content in {"config.json": '{"model_type": "gpt2"}', "tokenizer.json": "{}"}.items():
        (folder / file).write_text(content, encoding="utf-8")
    (folder / name).unlink(missing_ok=True)
    odd.rename(folder / name)
    reads: dict[str, list[Callable[[Path], Any]]] = {
        "config.json": [load_run, read_record, find_pretrained], "model.safetensors": [load_model, read_folder],
        "tokenizer.json": [load_tokenizer],
    }  # fmt: skip
    for read in reads[name]:
        with pytest.raises(CheckpointError, match=f"cannot read .*{name}: "):
            read(folder)


def test_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert exists(tmp_path / "a")
    assert exists(tmp_path)
    assert not exists(tmp_path / "b")
    assert not exists(tmp_path / "a" / "b")
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == names_in(tmp_path / "b") == []
    for use in (exists, names_in, open_regular):
        with pytest.raises(CheckpointError, match="File name too long"):
            use(tmp_path / ("x" * 5000))
