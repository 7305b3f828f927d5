"""What happens to a learner: each accident gets a message with the line, and the marker survives it."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tinylm.engine.random_keys import default_generator
from tinylm.learn.exercise import course
from tinylm.learn.repair_words import without_repair
from tinylm.learn.running import Result, mark
from tinylm.learn.work import Work

BODY = '    # compute y, define vjp(dy), return y, vjp\n    raise NotImplementedError("your turn")\n'


def marked(name: str, body: str, folder: Path, limit: float = 20.0) -> Result:
    """Returns how a body of the exercise, in place of its gap, is marked."""
    exercise = next(e for e in course() if e.name == name)
    path = folder / exercise.file_name
    head, _, tail = exercise.given().partition(BODY)
    path.write_text(f"{head}{body}{tail}", encoding="utf-8")
    return mark(path, exercise.marker.mark, limit)


SOFTMAX = "    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))\n    y = e / xp.sum(e, axis=-1, keepdims=True)\n"
ACCIDENTS = {  # the body of softmax: (words of the message, the line's text)
    "    y = x +\n": ("SyntaxError", "y = x +"),
    "    y = (x\n    return y\n": ("SyntaxError: '(' was never closed", "y = (x"),
    "  y = x\n": ("IndentationError", "y = x"),
    "    ...\n": ("returns nothing: expected `return y, vjp`", ""),
    "    pass\n": ("returns nothing: expected `return y, vjp`", ""),
    "    return x\n": ("returns a ndarray: expected `return y, vjp`", ""),
    "    return nox, 1\n": ("NameError: name 'nox' is not defined", "return nox, 1"),
    "    y = x / 0\n    return y, lambda dy: (dy,)\n": ("a division by zero", ""),
    "    return x[0], lambda dy: (dy,)\n": ("has shape (3,): expected (2, 3)", ""),
    "    return x @ x, lambda dy: (dy,)\n": ("a transposition is missing", "return x @ x, lambda dy: (dy,)"),
    "    while True: x = x * 1\n": ("did not end within 0.2 seconds", "x = x * 1"),
    "    return softmax.op.body(x)\n": ("calls itself without end", "return softmax.op.body(x)"),
    "    exit()\n": ("ends the program", "exit()"),
    "    x *= 2\n    y = x / 2\n    return tinylm.softmax(y).numpy(), lambda dy: (dy,)\n": ("changed in place", ""),
    "    return tinylm.softmax(x), lambda dy: (dy,)\n": ("the value is a Tensor", ""),
    SOFTMAX + "    return y, (y,)\n": ("returns a tuple beside the value", ""),
    "    assert x.ndim == 5, 'I thought so'\n": ("AssertionError: I thought so", "assert x.ndim == 5, 'I thought so'"),
    SOFTMAX + "    return y, lambda dy: None\n": ("the vjp returns nothing", "return y, lambda dy: None"),
    SOFTMAX + "    return y, lambda dy: (dy, dy)\n": ("returns 2 gradients: expected 1", "return y, lambda dy: (dy, dy)"),
    SOFTMAX + "    return y, lambda dy: (y * (dy - (dy * y).sum(-1)),)\n": ("could not be broadcast", "(dy * y).sum(-1)"),
    SOFTMAX + "    def vjp(dy):\n        return (dy.sum(),)\n    return y, vjp\n": ("has shape (): expected (2, 3)", "def vjp(dy):"),
    SOFTMAX + "    def vjp(dy):\n        return (dy.nosuch,)\n    return y, vjp\n": ("no attribute 'nosuch'", "return (dy.nosuch,)"),
    SOFTMAX + "    return y, lambda dy: (dy * np.exp(y),)\n": ("NameError: name 'np'", "np.exp(y)"),
    SOFTMAX + "    def vjp(dy):\n        raise NotImplementedError\n    return y, vjp\n": ("nothing is written", "raise NotImpl"),
}  # fmt: skip


@pytest.mark.parametrize("body", ACCIDENTS)
def test_an_accident_is_told_with_its_line(body: str, tmp_path: Path) -> None:
    words, source = ACCIDENTS[body]
    result = marked("softmax", body, tmp_path, 0.2 if "while" in body else 20.0)
    assert not result.ok
    assert words in str(result)
    if source:
        assert source in result.source
        assert result.line > 17
    assert len(str(result)) < 900


def test_shapes_are_told_beside_an_error_about_them(tmp_path: Path) -> None:
    body = "    y = xp.matmul(a, b)\n    return y, lambda dy: (xp.matmul(dy, b), dy)\n"
    assert "(in this line: dy (2, 4), b (3, 4))" in str(marked("matmul", body, tmp_path)).replace("y (2, 4), dy", "dy")


def test_the_file_as_a_whole(tmp_path: Path) -> None:
    exercise = course()[0]
    path = tmp_path / "01_multiply.py"
    for content, words in (
        (b"", "defines no 'multiply': keep the names"),
        (b"\xff", "not UTF-8"),
        (b"multiply = 3\n", "is no op"),
        (b"import nosuchmodule\n", "ModuleNotFoundError"),
        (b"x = 1 / 0\n", "ZeroDivisionError"),
        (b"def multiply(a, b, /):\n    return a * b\n", "keep the line @tinylm.op above it"),
    ):
        path.write_bytes(content)
        result = mark(path, exercise.marker.mark)
        assert words in str(result), result
    assert result.line == 1


def test_a_learners_except_does_not_catch_the_end_of_time(tmp_path: Path) -> None:
    body = "    while True:\n        try:\n            x = x + 0\n        except Exception:\n            pass\n"
    assert "did not end within" in str(marked("softmax", body, tmp_path, 0.2))


def test_marking_leaves_no_trace(tmp_path: Path) -> None:
    """Random numbers, NumPy's warnings and the modules of the process are as before."""
    before, errors = default_generator.state, np.geterr()
    for name in ("dropout", "softmax"):
        marked(name, "    tinylm.manual_seed(3)\n    raise ValueError\n", tmp_path)
    assert default_generator.state == before
    assert np.geterr() == errors


def test_what_passed_before_the_failure_is_told(tmp_path: Path) -> None:
    result = marked("softmax", SOFTMAX + "    return y, lambda dy: (dy * y,)\n", tmp_path)
    assert result.passed[0].startswith("the value")
    assert result.failed.startswith("the gradient, against finite differences")
    assert result.cause.startswith("the sum over i is missing")


def test_a_step_is_passed_once_the_next_one_begins() -> None:
    work = Work(Path("x.py"), ModuleType("x"))
    work.begin("one")
    work.begin("two")
    work.begin("two")
    assert work.passed == ["one"]
    work.finish()
    assert work.passed == ["one", "two"]


def test_without_pytorch_tinylm_is_the_other_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    body = SOFTMAX + "    return y, lambda dy: (y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)),)\n"
    result = marked("softmax", body, tmp_path)
    assert result.ok
    assert result.passed[-1] == "value and gradient, against tinylm"


def test_a_broken_pytorch_is_not_the_learners_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"{name}: a library of it is missing")

    monkeypatch.setattr("importlib.import_module", broken)
    body = SOFTMAX + "    return y, lambda dy: (y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)),)\n"
    result = marked("softmax", body, tmp_path)
    assert result.passed[-1] == "value and gradient, against tinylm"


def test_a_cause_does_not_spell_out_the_answer() -> None:
    repair = "right with `1 - y * y` instead of `1 - y` (line 19)"
    assert without_repair(repair) == "line 19: one small change at `1 - y` would make it right"
    assert without_repair("swapped arguments") == "swapped arguments"
    assert without_repair("") == ""
