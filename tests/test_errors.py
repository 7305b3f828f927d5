"""Messages: short whatever they quote, nothing in them that a terminal obeys, and one line for what a user can mend."""

import pickle
from pathlib import Path

import pytest

from tinylm import errors
from tinylm.errors import CheckpointError, ConfigError, DataError, GradientShapeError, TinylmError, explanation, one_line
from tinylm.files.json_files import read_json


@pytest.mark.parametrize("kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, TinylmError)])
def test_every_class_keeps_both_ends_of_a_long_message(kind: type[TinylmError]) -> None:
    message = "the beginning " + "x" * 600_000 + " the end"
    error = kind(message) if kind is not GradientShapeError else GradientShapeError(message, 0, (), ())
    assert len(str(error)) <= 480
    assert str(error).startswith("the beginning xxx")
    assert str(error).endswith("xxx the end")
    assert " ... " in str(error)
    assert str(kind("short") if kind is not GradientShapeError else GradientShapeError("short", 0, (), ())) == "short"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\tb\r", r"a\tb\r"),
        ("right to left \u202e, \u2066", r"right to left \u202e, \u2066"),
        ("half \udc80", r"half \udc80"),
        ("two\nlines", "two\nlines"),
        ("é 好 😀 क्या", "é 好 😀 क्या"),
        ("\x9b2J \x7f", r"\x9b2J \x7f"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text: str, shown: str) -> None:
    assert str(DataError(text)) == shown
    assert one_line(f"  {text}\n") == " ".join(shown.split())


@pytest.mark.parametrize("size", [479, 480, 481, 900, 960, 961, 5000])
@pytest.mark.parametrize("letter", ["x", "\x1b", "\n", "😀", "\U000e0001"])
def test_no_message_is_longer_than_its_limit(letter: str, size: int) -> None:
    for text in (letter * size, "a" * (size - 1) + letter, letter + "a" * (size - 1)):
        assert len(str(ConfigError(text))) <= 480
        assert len(one_line(text)) <= 480
        assert one_line(text).isprintable()


def test_a_message_within_a_message_and_a_pickled_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"' + "\\u001b" * 1000 + '": 1, "' + "\\u001b" * 1000 + '": 2}')
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def raised(action: object, *arguments: object) -> BaseException:
    with pytest.raises(BaseException) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value


def test_what_a_user_can_mend_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing\x1b"
    assert explanation(ConfigError("a\nb")) == "a b"
    assert explanation(raised(missing.read_text)) == rf"cannot use the file '{tmp_path}/missing\x1b': No such file or directory"
    assert explanation(MemoryError()) == "not enough memory"
    assert explanation(OSError("broken")) == "the system refuses: broken"
    assert explanation(raised(lambda: 1 / 0)) is None
    assert explanation(KeyboardInterrupt()) is None


def test_too_little_memory_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("tinylm.files.json_files.read_text", full)
    line = explanation(raised(read_json, Path("a.json")))
    assert line is not None
    assert line.startswith("not enough memory, in read_json (files/json_files.py, line ")
    assert line.endswith("): Unable to allocate 9 TiB")


def test_an_anomaly_keeps_its_whole_report() -> None:
    error = errors.AnomalyError("first " + "x" * 1000)
    assert len(str(error)) == 480
    assert error.report == "first " + "x" * 1000
