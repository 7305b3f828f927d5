"""Every exercise: its solution passes, each planted mistake is marked wrong and named, and the learner's file holds no answer."""

import ast
import re
from pathlib import Path

import pytest

from tinylm import learn
from tinylm.errors import ConfigError
from tinylm.learn.exercise import Edit, Exercise, Mistake, blanked, course
from tinylm.learn.running import mark
from tinylm.learn.trial import Trial, trials

each = pytest.mark.parametrize("exercise", course(), ids=lambda exercise: exercise.name)


@each
def test_the_solution_passes_and_every_mistake_is_named(exercise: Exercise, tmp_path: Path) -> None:
    done = list(trials(exercise, tmp_path))
    assert done[0].result.passed
    assert len(done) >= 3, "a marker is tried on two mistakes at least"
    for trial in done:
        assert trial.as_expected, f"{trial.mistake or 'the solution'}: {trial.result} (expected the words {trial.says!r})"


@each
def test_the_file_that_the_learner_gets(exercise: Exercise, tmp_path: Path) -> None:
    """It is valid Python that does not pass, and it holds neither the solution nor a mark of the gap."""
    given, solution = exercise.given(), exercise.solution()
    ast.parse(given)
    assert not re.search("# >>>|# <<<", given + solution)
    assert ast.get_docstring(ast.parse(given)) == ast.get_docstring(ast.parse(solution))
    path = tmp_path / exercise.file_name
    path.write_text(given, encoding="utf-8")
    result = mark(path, exercise.marker.mark)
    assert not result.ok
    assert result.unfinished == (exercise.bug is None)
    if exercise.bug is not None:
        assert exercise.bug.says in str(result), "the symptom that the task speaks of is shown"
        assert result.cause == "", "the cause is for the learner to find"


@each
def test_what_is_told(exercise: Exercise) -> None:
    assert len(exercise.title) <= 100
    assert exercise.title.endswith((".", '"'))
    assert 6 <= len(exercise.task.splitlines()) <= 18
    assert exercise.title.startswith("Bug:") == (exercise.bug is not None)
    assert len(exercise.hints) >= 2
    assert exercise.marker.THEN.endswith(".")
    named = re.findall(r"(?:tinylm|kernels|scripts|tests)/[\w/.]+\.\w+", exercise.marker.THEN)
    root = Path(__file__).resolve().parents[2]
    assert all((root / name).is_file() for name in named), named


def test_the_course() -> None:
    names = [exercise.name for exercise in course()]
    assert len(set(names)) == len(names) >= 36
    assert sum(exercise.bug is not None for exercise in course()) >= 15
    assert [exercise.number for exercise in course()] == list(range(1, len(names) + 1))
    page = (Path(learn.__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+` \| .* \| (.*) \|$", page, re.MULTILINE)
    assert ", ".join(rows).split(", ") == names


# ---------------------------------------------------------------- what contributors do wrong


def test_a_gap_needs_both_of_its_marks() -> None:
    assert blanked("def f():\n    # >>> say it\n    x = 1\n    return x\n    # <<<\n") == (
        'def f():\n    # say it\n    raise NotImplementedError("your turn")\n'
    )
    for text in ("def f():\n    return 1\n", "# >>>\nx = 1\n", "def f():\n    # >>>\n    x = 1\n# <<<\n"):
        with pytest.raises(ConfigError, match="marks its gap"):
            blanked(text)


def test_a_planted_mistake_must_change_one_place() -> None:
    solved = '"""The task: x = 1."""\nx = 1\ny = 2\n'
    assert Mistake.of("two", "x = 1", "x = 2").on(solved) == '"""The task: x = 1."""\nx = 2\ny = 2\n'
    with pytest.raises(ConfigError, match="2 times in the file"):
        Edit("= ", "+= ").on("x = 1\ny = 2\n")
    with pytest.raises(ConfigError, match="0 times in the file"):
        Mistake.of("none", "z = 3", "").on(solved)


def test_a_marker_that_is_wrong_about_a_mistake_is_noticed(tmp_path: Path) -> None:
    """A mistake that passes, and one that is marked wrong for another reason, are not as expected."""
    exercise = course()[0]
    path = tmp_path / exercise.file_name
    path.write_text(exercise.solution(), encoding="utf-8")
    right = mark(path, exercise.marker.mark)
    assert Trial(exercise, "", right).as_expected
    assert not Trial(exercise, "a mistake", right).as_expected
    path.write_text(exercise.given(), encoding="utf-8")
    wrong = mark(path, exercise.marker.mark)
    assert Trial(exercise, "a mistake", wrong).as_expected
    assert not Trial(exercise, "a mistake", wrong, "swapped arguments").as_expected
    assert not Trial(exercise, "", wrong).as_expected
