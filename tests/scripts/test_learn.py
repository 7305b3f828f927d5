"""`learn`: what a reader sees from the first call to the last exercise, and that nothing shows a solution unasked."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, Result, command_module, ends_well, fails_with_one_line, script_here

from tinylm.learn.exercise import course

FIRST, SECOND = course()[:2]
N = len(course())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def learn(*arguments: object) -> Result:
    return script_here("learn.py", *arguments)


def solve(folder: Path, name: str = FIRST.name) -> None:
    exercise = next(e for e in course() if e.name == name)
    (folder / exercise.file_name).write_text(exercise.solution(), encoding="utf-8")


def progress(folder: Path) -> dict[str, object]:
    return json.loads((folder / "progress.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_first_calls_say_what_to_do(here: Path) -> None:
    out = ends_well(learn())
    assert re.search("Begin with: python .*learn(.py)? start", out)
    assert not list(here.iterdir())
    assert f"{N} exercises would be written into learning" in ends_well(learn("start", "--dry-run"))
    assert not list(here.iterdir())
    out = ends_well(learn("start"))
    assert f"{N} files written into learning" in out
    assert FIRST.title in out
    assert re.search("mark it: python .*learn(.py)? check\nHelp: python .*learn(.py)? hint\n", out)
    assert len(list((here / "learning").glob("*.py"))) == N
    assert f"0 of {N} exercises have passed" in ends_well(learn())


def test_one_exercise_from_gap_to_right(here: Path) -> None:
    out = ends_well(learn("start", "mine"))
    folder = here / "mine"
    printed = re.search("mark it: cd mine && python (.*)\nHelp: cd mine && python .* hint\n", out)
    assert printed is not None
    command = [sys.executable, *shlex.split(printed[1])]  # there, where no scripts/learn.py lies
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (ran.returncode, "to do" in ran.stdout) == (1, True), ran
    fails_with_one_line(learn("check"), "no exercises here")  # the folder has a name of its own, and we are beside it
    result = learn("check", folder / FIRST.file_name)
    assert result.returncode == 1
    assert "to do" in result.stdout
    assert "line 19" in result.stdout
    wrong = FIRST.solution().replace("return dy * b, dy * a", "return dy * a, dy * b")
    (folder / FIRST.file_name).write_text(wrong, encoding="utf-8")
    result = script_here("learn.py", "check", cwd=folder)
    assert result.returncode == 1
    assert "likely cause: swapped arguments" in result.stdout
    assert "01_multiply.py, line 20: def vjp(dy):" in result.stdout
    assert progress(folder)["passed"] == []
    solve(folder)
    assert "Right." in ends_well(script_here("learn.py", "check", "--dry-run", cwd=folder))
    assert progress(folder)["passed"] == []
    out = ends_well(script_here("learn.py", "check", cwd=folder))
    assert f"1 of {N} have passed. Next: 02_add.py" in out
    assert progress(folder)["passed"] == ["multiply"]
    out = ends_well(script_here("learn.py", "list", cwd=folder))
    assert "passed   1 multiply" in out
    assert "         2 add " in out
    (folder / FIRST.file_name).write_text(wrong, encoding="utf-8")
    assert "open again" not in script_here("learn.py", "check", "1", "--dry-run", cwd=folder).stdout
    assert "It passed before, and is open again." in script_here("learn.py", "check", "1", cwd=folder).stdout
    assert progress(folder)["passed"] == []
    assert "         1 multiply" in ends_well(script_here("learn.py", "list", cwd=folder))


def test_what_a_file_prints_comes_first_and_is_cut(here: Path) -> None:
    ends_well(learn("start"))
    path = here / "learning" / FIRST.file_name
    path.write_text("for i in range(100):\n    print('number', i)\nprint('no end', end='')\n" + FIRST.given(), encoding="utf-8")
    lines = learn("check").stdout.splitlines()
    assert lines[:2] == ["Your file printed 101 lines:", "  | number 0"]
    assert "  | ... (89 lines more)" in lines
    assert lines[12:15] == ["  | number 99", "  | no end", ""]
    assert "to do" in lines[15]


def test_the_command_is_named_as_it_works_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/learn.py"])
    module = command_module("learn")
    assert module.say("check", SCRIPTS.parent) == "python scripts/learn.py check"
    monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 1))  # tinylm is not importable there
    assert module.say("check", tmp_path) == f"python {shlex.quote(str(SCRIPTS / 'learn.py'))} check"
    monkeypatch.setattr("sys.argv", ["tinylm learn"])
    module.program_in.cache_clear()
    assert module.say("check", tmp_path) == "tinylm learn check"


def test_an_exercise_is_named_in_several_ways(here: Path) -> None:
    ends_well(learn("start"))
    solve(here / "learning", "sum_to")
    for word in ("sum_to", "3", "03_sum_to.py", "learning/03_sum_to.py", "03_sum_to"):
        assert "Right." in ends_well(learn("check", word))
    assert progress(here / "learning")["passed"] == ["sum_to"]
    fails_with_one_line(
        learn("check", "sumto"), f"there is no exercise 'sumto': expected a name, a number from 1 to {N}, or a file; did you"
    )
    fails_with_one_line(learn("check", "0"), "there is no exercise '0'")
    fails_with_one_line(learn("hint", "x" * 500), "there is no exercise")
    fails_with_one_line(learn("hnit"), "did you mean 'hint'?")
    fails_with_one_line(learn("--all-solution"), "did you mean '--all-solutions'?")
    fails_with_one_line(learn("solution"), "its name, number or file (required)")


def test_hints_come_one_by_one_and_solutions_only_when_asked(here: Path) -> None:
    ends_well(learn("start"))
    outputs = [ends_well(learn("hint", "softmax")) for _ in range(4)]
    assert [out.count("Hint ") for out in outputs] == [1, 2, 3, 3]
    assert "solution softmax" in outputs[-1]
    assert "solution softmax" not in outputs[0]
    assert progress(here / "learning")["hints"] == {"softmax": 3}
    assert ends_well(learn("hint", "add", "--dry-run")).count("Hint ") == 1
    assert "add" not in progress(here / "learning")["hints"]  # type: ignore[operator]
    answer = "y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))"
    assert answer not in "".join([*outputs, *(learn(*words).stdout for words in ([], ["list"], ["check", "softmax"]))])
    assert not any(answer in path.read_text(encoding="utf-8") for path in (here / "learning").iterdir())
    assert answer in ends_well(learn("solution", "softmax"))
    assert progress(here / "learning")["solutions"] == ["softmax"]
    assert "your turn" in (here / "learning" / "06_softmax.py").read_text(encoding="utf-8")


def test_files_of_the_reader_are_never_overwritten(here: Path) -> None:
    ends_well(learn("start"))
    folder = here / "learning"
    (folder / FIRST.file_name).write_text("mine\n", encoding="utf-8")
    (folder / SECOND.file_name).unlink()
    fails_with_one_line(learn("check", "add"), "start learning' writes it again")
    assert f"1 file written into learning; {N - 1} were there and stay as they are" in ends_well(learn("start"))
    assert (folder / FIRST.file_name).read_text(encoding="utf-8") == "mine\n"
    (folder / SECOND.file_name).rename(folder / "17_add.py")  # the number that it had in another version
    assert "17_add.py" in learn("check", "add").stdout
    assert "0 files written" in ends_well(learn("start"))


def test_start_within_the_folder_goes_on_in_it(here: Path) -> None:
    """Also where progress.json was deleted: the files tell whose folder it is."""
    ends_well(learn("start", "mine"))
    folder = here / "mine"
    (folder / SECOND.file_name).unlink()
    (folder / "progress.json").unlink()
    assert "1 exercise would be written into ." in ends_well(script_here("learn.py", "start", "--dry-run", cwd=folder))
    assert "nothing is written here yet" in script_here("learn.py", "check", cwd=folder).stdout
    assert f"1 file written into .; {N - 1} were there" in ends_well(script_here("learn.py", "start", cwd=folder))
    assert not (folder / "learning").exists()
    assert (folder / SECOND.file_name).is_file()


def test_progress_that_is_damaged_is_told_and_kept(here: Path) -> None:
    ends_well(learn("start"))
    path = here / "learning" / "progress.json"
    for text in ("{", "[]", '{"passed": 3, "hints": {}, "solutions": []}', '{"passed": [], "hints": {"add": "x"}, "solutions": []}'):
        path.write_text(text, encoding="utf-8")
        result = learn("check")
        fails_with_one_line(result, "progress.json is damaged")
        assert "delete it to begin again (your files stay)" in result.stderr
        assert path.read_text(encoding="utf-8") == text
    path.write_text('{"passed": ["add", "an exercise of old"], "hints": {}, "solutions": []}', encoding="utf-8")
    assert f"1 of {N} exercises have passed" in ends_well(learn())


def test_the_end_of_the_course(here: Path) -> None:
    ends_well(learn("start"))
    path = here / "learning" / "progress.json"
    path.write_text(json.dumps({"passed": [e.name for e in course()], "hints": {}, "solutions": []}), encoding="utf-8")
    assert "That was all of them" in ends_well(learn())
    fails_with_one_line(learn("check"), f"all {N} exercises have passed: name one")


def test_the_exercises_try_themselves(here: Path) -> None:
    """tests/learn tries all of them; here the first."""
    assert ends_well(learn("--all-solutions", "--dry-run")) == "1 of 1 exercises pass, 6 of 6 planted mistakes are marked wrong\n"
