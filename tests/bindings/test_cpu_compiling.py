"""The CPU kernels are compiled once and kept in a cache that nobody else may change; NumPy computes if they cannot be compiled."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cpu_programs import REAL, outcome, start, write_compiler

from tinylm.bindings.cpu import compiling


def calls(place: Path) -> int:
    log = place.parent.parent / "log"
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


ONCE = sum(name.endswith(".c") for name in compiling.sources()) + 1  # each file, and linking


def the_file(place: Path) -> Path:
    (only,) = place.iterdir()  # no other file is left
    return only


def test_a_second_process_calls_no_compiler(place: Path) -> None:
    first = outcome(start())
    assert first == (f"4 {the_file(place)}", "")
    assert calls(place) == ONCE
    assert outcome(start()) == first
    assert calls(place) == ONCE
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_processes_that_start_at_once(place: Path) -> None:
    started = [start() for _ in range(3)]
    found = [outcome(process) for process in started]
    assert found == [(f"4 {the_file(place)}", "")] * 3


def test_loading_is_repeated_without_a_compiler(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    library, path = compiling.load()
    assert library.gru_forward
    assert path == str(the_file(place))
    assert compiling.load()[1] == path
    assert calls(place) == ONCE
    assert capfd.readouterr().err == ""


def rewrite(path: Path, content: bytes) -> None:
    """Writes the content as a new file, since this process has the old one mapped."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)


def cut(path: Path) -> None:
    rewrite(path, path.read_bytes()[:5000])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))


def empty(path: Path) -> None:
    rewrite(path, b"")


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


def make_a_link(path: Path) -> None:
    target = path.parent.parent / "elsewhere.so"
    path.rename(target)
    path.symlink_to(target)


def give_away(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can change a file's owner")
    os.chown(path, 12345, -1)


@pytest.mark.parametrize("damage", [cut, change_a_byte, empty, let_others_write, make_a_link, give_away])
def test_a_file_that_is_not_sound_is_compiled_again(place: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]) -> None:
    compiling.load()
    damage(the_file(place))
    library, path = compiling.load()
    assert library.gru_forward
    assert "are damaged, or others may write to them: they are compiled again" in one_line(capfd)
    assert calls(place) == 2 * ONCE
    assert path == str(the_file(place))
    assert compiling.trusted(Path(path), stat.S_ISREG)
    compiling.load()
    assert calls(place) == 2 * ONCE
    assert capfd.readouterr().err == ""


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tinylm: ")
    return line


def test_a_folder_that_others_may_write_to_is_not_used(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    compiling.load()
    place.chmod(0o777)
    assert compiling.load()[1] == "compiled for this process alone"
    assert "others may write to it" in one_line(capfd)


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    (place / ".x-y.so.abc.partial").write_bytes(b"half")
    compiling.load()
    assert [path.suffix for path in place.iterdir()] == [".so"]


def test_a_place_that_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TINYLM_CACHE", "/dev/null/cache")
    library, where = compiling.load()
    assert library.gru_forward
    assert where == "compiled for this process alone"
    assert "cannot be kept for the next process" in one_line(capfd)


AS_ANOTHER_USER = """
import os, pathlib, sys
from tinylm.bindings.cpu import compiling
compiling.folder = lambda: pathlib.Path(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
library, where = compiling.load()
assert library.gru_forward
print(where)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_home_that_is_read_only(store: Path) -> None:
    """As another user, since root may write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(compiling.folder(), Path(folder, "cpu"))
        shutil.copytree(store, Path(folder, "store"))
        os.chmod(Path(folder, "store"), 0o777)
        write_compiler(Path(folder, "compiler"), Path(folder, "store"), Path(os.devnull))
        environment = {k: v for k, v in os.environ.items() if k not in ("TINYLM_CACHE", "XDG_CACHE_HOME")}
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(Path(folder, "cpu"))],
            capture_output=True,
            text=True,
            env={**environment, "HOME": folder, "CC": str(Path(folder, "compiler"))},
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled for this process alone"
    (line,) = done.stderr.splitlines()
    assert "cannot be kept for the next process" in line
    assert "Permission denied" in line


def test_a_failed_write_keeps_what_was_compiled(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling.os, "replace", full)
    library, where = compiling.load()
    assert library.gru_forward
    assert where == "compiled for this process alone"
    assert "No space left" in one_line(capfd)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CC": "no-such-compiler"}, "the compiler no-such-compiler in CC is not there"),
        ({"CC": "", "PATH": "/nowhere"}, "there is no C compiler (cc, gcc, clang)"),
        ({"CC": shutil.which("false") or "false"}, "failed: exit status 1"),
    ],
    ids=["not there", "none", "it fails"],
)
def test_without_a_compiler_numpy_does_the_work_with_one_notice(place: Path, environment: dict[str, str], reason: str) -> None:
    output, errors = outcome(start(**environment))
    assert output == "0 None"
    assert len(errors.splitlines()) == 1
    assert errors.startswith("tinylm: the CPU kernels cannot be compiled: ")
    assert reason in errors
    assert errors.endswith("; NumPy does their work, several times as slowly\n")


def test_the_compilers_own_words_are_in_the_notice(place: Path) -> None:
    script = place.parent.parent / "compiler"
    script.write_text("#!/bin/sh\necho 'gru.c:1:1: error: no such thing' >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(compiling.BuildError, match=r"compiler failed: gru\.c:1:1: error: no such thing"):
        compiling.load()


def test_the_references_need_no_compiler(place: Path) -> None:
    assert outcome(start(TINYLM_KERNELS="reference")) == ("0 None", "")
    assert calls(place) == 0


def test_what_a_build_depends_on_names_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [compiling.key(compiling.compiler())]

    def changed() -> None:
        names.append(compiling.key(compiling.compiler()))

    monkeypatch.setattr(compiling, "FLAGS", (*compiling.FLAGS, "-O1"))
    changed()
    monkeypatch.setattr(compiling, "sources", lambda: {"a.c": "int a;"})
    changed()
    monkeypatch.setattr(compiling, "processor", lambda: "another one")
    changed()
    os.utime(place.parent.parent / "compiler", (0, 0))  # an update of the compiler
    changed()
    monkeypatch.setenv("CC", f"{REAL} -g")
    changed()
    monkeypatch.setenv("TINYLM_CPU_TARGET", "another")
    changed()
    assert len(set(names)) == len(names)
