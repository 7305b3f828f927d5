"""An exercise: a solved file with a gap marked in it, and its marker; the learner's file is made from the first."""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

from tinylm.errors import ConfigError
from tinylm.learn import exercises

BEGIN, END = "# >>>", "# <<<"  # the lines around the gap; what follows BEGIN stays as the reader's reminder
GAP = 'raise NotImplementedError("your turn")'


@dataclass(frozen=True)
class Edit:
    """A piece of the solved file, which must be in it exactly once, and what stands there instead."""

    old: str
    new: str

    def on(self, text: str) -> str:
        """Returns the text with the change. Raises ConfigError unless the piece is in it once."""
        if text.count(self.old) != 1:
            raise ConfigError(
                f"a planted mistake changes {self.old!r:.80}, which is {text.count(self.old)} times in the file: expected once"
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer: what it is, how it differs from the solution, and words that the marker must say about it."""

    about: str
    edits: tuple[Edit, ...]
    says: str = ""

    @staticmethod
    def of(about: str, *changes: str, says: str = "") -> "Mistake":
        """Returns a mistake from its texts: old, new, old, new, ..."""
        return Mistake(about, tuple(Edit(a, b) for a, b in zip(changes[::2], changes[1::2], strict=True)), says)

    def on(self, solved: str) -> str:
        """Returns the solved file with this mistake in it. The task, its docstring, stays as it is."""
        quote, task, code = re.split(r'(?<=""")((?:.|\n)*?""")', solved, maxsplit=1)
        for edit in self.edits:
            code = edit.on(code)
        return quote + task + code


@dataclass(frozen=True)
class Exercise:
    """One exercise by its number, counted from 1. `solved` is the text of its file, with the gap still filled."""

    number: int
    name: str
    chapter: str
    solved: str = field(repr=False)
    marker: ModuleType = field(repr=False)
    about_chapter: str = field(default="", repr=False)

    @property
    def file_name(self) -> str:
        """Returns the name of the learner's file, such as 03_sum_to.py."""
        return f"{self.number:02}_{self.name}.py"

    @property
    def title(self) -> str:
        """Returns the first line of the task."""
        return self.solved.removeprefix('"""').partition("\n")[0].removesuffix('"""')

    @property
    def task(self) -> str:
        """Returns the task: the docstring of the file."""
        return self.solved.removeprefix('"""').partition('"""')[0].strip()

    @property
    def bug(self) -> Mistake | None:
        """Returns the mistake that is to be found, of an exercise where one is to be found."""
        return getattr(self.marker, "BUG", None)

    @property
    def hints(self) -> Sequence[str]:
        """Returns the hints, from the gentlest to the plainest."""
        return self.marker.HINTS

    @property
    def mistakes(self) -> list[Mistake]:
        """Returns the planted mistakes; the file as the learner gets it, with the mistake to be found, is one of them."""
        return [*([] if self.bug is None else [self.bug]), *self.marker.MISTAKES]

    def given(self) -> str:
        """Returns the learner's file: with a gap, or with the mistake that is to be found."""
        return blanked(self.solved) if self.bug is None else self.bug.on(self.solution())

    def solution(self) -> str:
        """Returns the solved file without the lines that mark the gap."""
        return "".join(line for line in self.solved.splitlines(keepends=True) if not line.lstrip().startswith((BEGIN, END)))


def blanked(solved: str) -> str:
    """Returns a solved file with each marked part replaced by a line that raises NotImplementedError, under its reminder.

    Raises ConfigError if nothing is marked, or a mark is missing.
    """
    pattern = re.compile(rf"^( *){BEGIN}(.*)\n(?:.*\n)*?\1{END}\n", re.MULTILINE)
    text, count = pattern.subn(lambda m: f"{m[1]}#{m[2]}\n{m[1]}{GAP}\n" if m[2].strip() else f"{m[1]}{GAP}\n", solved)
    if not count or BEGIN in text or END in text:
        raise ConfigError(f"an exercise marks its gap with a line {BEGIN} and a line {END} of the same indentation")
    return text


@cache
def course() -> tuple[Exercise, ...]:
    """Returns all exercises in order."""
    found: list[Exercise] = []
    for chapter in exercises.CHAPTERS:
        package = importlib.import_module(f"tinylm.learn.exercises.{chapter}")
        for name in package.ORDER:
            solved = (Path(str(package.__file__)).parent / f"{name}.py").read_text(encoding="utf-8")
            marker = importlib.import_module(f"{package.__name__}.{name}_marker")
            found.append(Exercise(len(found) + 1, name, chapter, solved, marker, str(package.__doc__).partition("\n")[0]))
    return tuple(found)
