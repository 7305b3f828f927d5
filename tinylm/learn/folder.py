"""The reader's folder: a file per exercise, and how far the reader has come."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinylm.checks import nearest
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json, write_json
from tinylm.learn.exercise import Exercise, course

PROGRESS = "progress.json"
USUAL = "learning"  # the name of the folder, unless the reader gives another one

ENOUGH = 3  # so many files with names of exercises make a folder that of a reader, with or without its progress.json


@dataclass
class Progress:
    """What progress.json holds: which exercises have passed, how many hints of each were read, which solutions were shown."""

    passed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)
    solutions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folder:
    """The reader's folder. `path` exists once `write` has been called."""

    path: Path

    def file_of(self, exercise: Exercise) -> Path:
        """Returns the reader's file of an exercise, under whatever number it was written."""
        found = sorted(self.path.glob(f"[0-9][0-9]_{exercise.name}.py"))
        return found[0] if found else self.path / exercise.file_name

    def write(self) -> list[Path]:
        """Writes the file of each exercise that has none, and progress.json. Returns the new exercises; nothing is overwritten."""
        self.path.mkdir(parents=True, exist_ok=True)
        new = [exercise for exercise in course() if not self.file_of(exercise).exists()]
        for exercise in new:
            write_atomically(self.path / exercise.file_name, exercise.given().encode("utf-8"))
        if not (self.path / PROGRESS).exists():
            self.store(Progress())
        return [self.path / exercise.file_name for exercise in new]

    def progress(self) -> Progress:
        """Returns how far the reader is. Raises CheckpointError if progress.json is damaged."""
        path = self.path / PROGRESS
        if not path.exists():
            return Progress()
        to_do = "delete it to begin again (your files stay)"
        try:
            record: Any = read_json(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {to_do}") from error
        fits = isinstance(record, dict) and all(
            isinstance(record.get(name), kind) for name, kind in (("passed", list), ("hints", dict), ("solutions", list))
        )
        if not fits or not all(type(n) is int and n >= 0 for n in record["hints"].values()):
            raise CheckpointError(f"{path} is damaged: expected passed, hints and solutions; {to_do}")
        known = {exercise.name for exercise in course()}
        return Progress(
            [n for n in record["passed"] if n in known],
            {n: c for n, c in record["hints"].items() if n in known},
            [n for n in record["solutions"] if n in known],
        )

    def store(self, progress: Progress) -> None:
        """Writes progress.json."""
        write_json(self.path / PROGRESS, vars(progress))

    def next(self) -> Exercise | None:
        """Returns the first exercise that has not passed; None if all have."""
        passed = self.progress().passed
        return next((exercise for exercise in course() if exercise.name not in passed), None)


def find_folder(start: Path) -> Folder | None:
    """Returns the reader's folder: `start` itself or one that it lies in, or `learning` beside it; None if there is none."""
    names = {exercise.name for exercise in course()}
    for path in (start, *start.absolute().parents, start / USUAL):
        if sum(file.stem[3:] in names for file in path.glob("[0-9][0-9]_*.py")) >= ENOUGH:
            return Folder(path)
    return None


def exercise_named(word: str) -> Exercise:
    """Returns the exercise with this name, number, or file. Raises ConfigError if there is none."""
    stem = Path(word).stem
    name = stem[3:] if stem[:2].isdigit() and stem[2:3] == "_" else stem
    for exercise in course():
        if name == exercise.name or (word.isdecimal() and int(word) == exercise.number):
            return exercise
    names = [exercise.name for exercise in course()]
    raise ConfigError(
        f"there is no exercise {word!r:.60}: expected a name, a number from 1 to {len(names)}, or a file{nearest(name, names)}"
    )
