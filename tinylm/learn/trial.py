"""Tries the exercises themselves: every solution must pass, every planted mistake must be marked wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinylm.learn.exercise import Exercise
from tinylm.learn.running import Result, mark


@dataclass(frozen=True)
class Trial:
    """A solution (mistake is ""), a planted mistake, or the file as the learner gets it, and how it was marked."""

    exercise: Exercise
    mistake: str
    result: Result
    says: str = ""  # words that the marker had to say

    @property
    def as_expected(self) -> bool:
        """True if the solution passes, or the mistake is marked wrong with the words that name it, or a line that it stands in."""
        if not self.mistake:
            return self.result.ok
        return not self.result.ok and self.says in str(self.result)


def trials(exercise: Exercise, folder: Path) -> Iterator[Trial]:
    """Yields how the solution and each planted mistake of an exercise is marked; the files are written into `folder`."""
    path = folder / exercise.file_name
    for about, text, says in [("", exercise.solution(), ""), *((m.about, m.on(exercise.solution()), m.says) for m in exercise.mistakes)]:
        path.write_text(text, encoding="utf-8")
        yield Trial(exercise, about, mark(path, exercise.marker.mark), says)
