"""What the scripts say when something is wrong: one short line without control characters, status 2."""

import sys
from pathlib import Path
from unittest import mock

import pytest
from script_helpers import SCRIPTS, Result, command_module, script_here

from tinylm import __version__
from tinylm.__main__ import main

LONG, ESCAPES = "x" * 200_000, "\x1b[31m\x9b2J\u202e"
COMMANDS = {
    "train.py": ["--data", "{}"], "classify.py": ["run", "{}"], "translate.py": ["run", "{}"], "generate.py": ["{}"],
    "score.py": ["{}", "a"],
    "evaluate.py": ["{}"], "export.py": ["{}", "x"], "explain.py": ["backward", "{}", "a"], "replay.py": ["{}"], "growth.py": ["{}"],
    "benchmark.py": ["{}"], "check_gradients.py": ["{}"], "compare_gradients.py": ["{}", "{}"], "compare_models.py": ["{}"],
    "long_range.py": ["{}"], "train_torch.py": ["{}"], "kernel_steps.py": ["{}"], "learn.py": ["solution", "{}"],
}  # fmt: skip


def one_short_line(result: Result) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.removesuffix("\n").isprintable()
    assert len(result.stderr) <= 500


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("value", [LONG, "missing " + ESCAPES], ids=["long", "escapes"])
def test_an_argument_that_is_wrong(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one_short_line(script_here(name, *(word.format(value) for word in COMMANDS[name])))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("Unable to allocate 9 TiB"), "error: not enough memory: Unable to allocate 9 TiB\n"),
        (PermissionError(13, "Permission denied", "a\x1b"), "error: cannot use the file 'a\\x1b': Permission denied\n"),
    ],
)
def test_memory_and_files(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        from support import console
    with pytest.raises(SystemExit) as stopped:
        console.run(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line


def test_a_mistake_in_the_code_keeps_its_traceback() -> None:
    with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        from support import console
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: 1 // 0)


@pytest.mark.parametrize("value", [LONG, "missing " + ESCAPES], ids=["long", "escapes"])
def test_the_doctor_shows_a_model_that_it_cannot_load(value: str) -> None:
    result = script_here("doctor.py", value)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.replace("\n", "").isprintable()
    assert len(result.stdout) < 20_000


@pytest.mark.parametrize(("extra", "checkout", "wheel"), [("", "-e .", "tinylm"), ("[test]", '-e ".[test]"', '"tinylm[test]"')])
def test_how_the_doctor_would_install(extra: str, checkout: str, wheel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = command_module("doctor")
    assert doctor.how_to_install(extra) == f"pip install {checkout}"
    monkeypatch.setattr(doctor, "scripts_folder", lambda: Path(doctor.tinylm.__file__).parent / "_scripts")
    assert doctor.how_to_install(extra) == f"pip install {wheel}"


def test_the_version_and_an_unknown_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tinylm", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"tinylm {__version__}\n"
    monkeypatch.setattr(sys, "argv", ["tinylm", ESCAPES + LONG])
    assert main() == 2
    line = capsys.readouterr().err
    assert line.removesuffix("\n").isprintable()
    assert len(line) <= 500
