"""What a killed process leaves is removed by the next one; what another process uses stays."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_cases import as_nobody, as_root

from tinylm.files import temporary_folders
from tinylm.files.temporary_folders import temporary_folder, whole_folder


def old(path: Path) -> Path:
    path.mkdir()
    (path / "file").touch()
    os.utime(path, (1, 1))
    return path


def test_only_what_is_abandoned_is_removed(tmp_path: Path) -> None:
    left, used, young, other = old(tmp_path / "a-1"), old(tmp_path / "a-2"), tmp_path / "a-3", old(tmp_path / "b-1")
    young.mkdir()
    (tmp_path / "a-4").symlink_to(other)
    (tmp_path / "a-5").touch()
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with temporary_folder(tmp_path, "a-") as folder:
        assert folder.is_dir()
        assert folder.name.startswith("a-")
        assert not left.exists()
    os.close(handle)
    assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a-2", "a-3", "a-4", "a-5", "b-1"}
    assert (other / "file").exists()


def test_of_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_folders, "_YOUNG", 0)
    code = (
        "import sys, time; from pathlib import Path; from tinylm.files.temporary_folders import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as work: (work / 'a').touch(); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "new")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (left,) = tmp_path.iterdir()
    time.sleep(0.01)
    with whole_folder(tmp_path / "new") as work:
        (work / "b").touch()
        assert left.exists()  # its process lives
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / "new" / "b").exists()
    (tmp_path / "new" / "b").unlink()
    with whole_folder(tmp_path / "new") as work:  # an empty folder is replaced
        (work / "c").touch()
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "above" / "new") as work:
        (work / "missing").read_text(encoding="utf-8")
    assert list((tmp_path / "above").iterdir()) == []


def test_a_folder_that_cannot_be_replaced_is_filled(tmp_path: Path) -> None:
    """As a mount point: here since it is not empty any more."""
    (tmp_path / "new").mkdir()
    with whole_folder(tmp_path / "new") as work:
        for name in ("config.json", "a", "z"):
            (work / name).write_text(name, encoding="utf-8")
        (tmp_path / "new" / "other").touch()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"config.json", "a", "z", "other"}
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "link") as work:
        (work / "a").touch()
    assert (tmp_path / "empty" / "a").exists()


@as_root
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o755)
    new = tmp_path / "locked" / "new"
    assert as_nobody(lambda: whole_folder(new).__enter__(), tmp_path) == f"CheckpointError: cannot write {new}: Permission denied"
