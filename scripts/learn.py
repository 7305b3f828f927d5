"""Exercises that the checker marks: write gradients, a tape, a GPT; find what is broken."""

import contextlib
import shlex
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import tyro
from support import console

from tinylm.errors import ConfigError
from tinylm.learn.exercise import Exercise, course
from tinylm.learn.folder import USUAL, Folder, exercise_named, find_folder
from tinylm.learn.printed import Printed
from tinylm.learn.running import Result, mark
from tinylm.learn.trial import trials

Word = Annotated[str | None, tyro.conf.Positional]


@dataclass(frozen=True)
class Overview:
    """Says where you are and what comes next. `start` writes the exercises, `check` marks one, `hint` helps."""

    all_solutions: bool = False
    """instead, try the exercises themselves: every solution must pass its marker, every planted mistake must be marked wrong"""
    dry_run: bool = False
    """with --all-solutions: the first exercise only"""


@dataclass(frozen=True)
class Start:
    """Writes the exercises into a folder: one file each. Files that are there stay as they are, so a file that you delete is
    written afresh by another start."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """where to; by default the folder of exercises that you are in or beside, and if there is none, learning"""
    dry_run: bool = False
    """say what would be written, and write nothing"""


@dataclass(frozen=True)
class Check:
    """Marks your file: what is right, what is wrong, the line and the likely cause. The exit status is 1 if it is wrong."""

    exercise: Word = None
    """its name, number or file; by default the first that has not passed"""
    dry_run: bool = False
    """do not note that it passed"""


@dataclass(frozen=True)
class Hint:
    """Shows one more hint each time; the last one nearly gives it away."""

    exercise: Word = None
    """its name, number or file; by default the first that has not passed"""
    dry_run: bool = False
    """do not note that it was read"""


@dataclass(frozen=True)
class Solution:
    """Shows the solution of the exercise that you name. Your file stays as it is."""

    exercise: Annotated[str, tyro.conf.Positional]
    """its name, number or file"""
    dry_run: bool = False
    """do not note that it was shown"""


@dataclass(frozen=True)
class List:
    """Lists the exercises and which have passed."""

    dry_run: bool = False
    """accepted as by every command; nothing is ever written"""


def say(command: str, there: Path | None = None) -> str:
    """Returns what the reader types for one of the commands, in the folder `there`, by default the current one."""
    return f"{program_in((there or Path()).absolute())} {command}".rstrip()


@cache
def program_in(folder: Path) -> str:
    """Returns how this script is started in a folder: as it was started now, if that works there, or else in a way that does."""
    started, script = console.program(), Path(__file__).resolve()
    if not started.startswith("python"):  # the installed command
        return started
    if started.startswith("python scripts/") and (folder / "scripts" / script.name).exists():
        return started
    looks = "import importlib.util; raise SystemExit(importlib.util.find_spec('tinylm') is None)"
    found = subprocess.run([sys.executable, "-c", looks], cwd=folder, check=False, capture_output=True)
    return "python -m tinylm learn" if found.returncode == 0 else f"python {shlex.quote(str(script))}"


def shown(path: Path) -> str:
    """Returns a path as short as it can be typed here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def folder_here(word: str | None = None) -> Folder:
    """Returns the reader's folder: that of a file which was named, or the one found here. Raises ConfigError if there is none."""
    named = None if word is None or not word.endswith(".py") else find_folder(Path(word).absolute().parent)
    found = named or find_folder(Path())
    if found is None:
        raise ConfigError(f"no exercises here: '{say('start')}' writes them into {USUAL}/, or go to the folder that has them")
    return found


def chosen(word: str | None, folder: Folder) -> Exercise:
    """Returns the exercise that was named, or else the next one. Raises ConfigError if all have passed and none is named."""
    if word is not None:
        return exercise_named(word)
    if (exercise := folder.next()) is None:
        raise ConfigError(f"all {len(course())} exercises have passed: name one, such as {course()[0].name}")
    return exercise


def overview(a: Overview) -> int:
    if a.all_solutions:
        return try_all(a.dry_run)
    bugs = sum(exercise.bug is not None for exercise in course())
    if (folder := find_folder(Path())) is None:
        print(
            f"Learn it here: {len(course()) - bugs} pieces to write, from the gradient of a product to a GPT, and {bugs} programs to mend."
        )
        print("Each exercise is a file with a task and a gap. Fill the gap in your editor; the marker then says what is right, what is")
        print("wrong, in which line and for what likely reason. You need Python, NumPy, and what a derivative is.\n")
        print(f"  {say('start'):34} writes the files into {USUAL}/ (or a folder that you name)")
        print(f"  {say('check'):34} marks the next exercise")
        print(f"  {say('hint'):34} helps, a little more each time")
        print(f"  {say('list'):34} lists all exercises\n\nBegin with: {say('start')}")
        return 0
    introduce(folder)
    return 0


def introduce(folder: Folder) -> None:
    """Prints how far the reader is, the next task, and how to go on."""
    passed, exercise = folder.progress().passed, folder.next()
    print(f"{len(passed)} of {len(course())} exercises have passed.")
    if exercise is None:
        print("That was all of them. Next: tinylm/README.md says how to add an op of your own to tinylm.")
        return
    print(f"Next: {shown(folder.file_of(exercise))}\n\n{textwrap.indent(exercise.task, '  ')}\n")
    there, go = (None, "") if find_folder(Path()) else (folder.path, f"cd {shlex.quote(shown(folder.path))} && ")
    what = "find the mistake" if exercise.bug else "fill the gap"
    print(f"Open {shown(folder.file_of(exercise))}, {what}, and mark it: {go}{say('check', there)}")
    print(f"Help: {go}{say('hint', there)}")


def start(a: Start) -> int:
    folder = (find_folder(Path()) or Folder(Path(USUAL))) if a.folder is None else Folder(a.folder)
    if a.dry_run:
        missing = sum(not folder.file_of(exercise).exists() for exercise in course())
        print(f"{missing} exercise{'s' * (missing != 1)} would be written into {shown(folder.path)}")
        return 0
    new = folder.write()
    kept = len(course()) - len(new)
    told = f"; {kept} were there and stay as they are" if kept else ""
    print(f"{len(new)} file{'s' * (len(new) != 1)} written into {shown(folder.path)}{told}.\n")
    introduce(folder)
    return 0


def check(a: Check) -> int:
    folder = folder_here(a.exercise)
    exercise = chosen(a.exercise, folder)
    path = folder.file_of(exercise)
    if not path.is_file():
        raise ConfigError(f"{shown(path)} is missing: '{say(f'start {shown(folder.path)}')}' writes it again")
    printed = Printed()
    with contextlib.redirect_stdout(printed):
        result = mark(path.absolute(), exercise.marker.mark)
    printed.show()
    print_result(result, path)
    progress = folder.progress()
    if not result.ok:
        if exercise.name in progress.passed and not a.dry_run:
            progress.passed.remove(exercise.name)
            folder.store(progress)
            print("\nIt passed before, and is open again.")
        named = exercise.name if find_folder(Path()) else shlex.quote(shown(path))
        print(f"\nHelp: {say(f'hint {named}')}")
        return 1
    if exercise.name not in progress.passed:
        progress.passed.append(exercise.name)
        if not a.dry_run:
            folder.store(progress)
    print(f"\nRight. To read now: {exercise.marker.THEN}")
    following = folder.next() if not a.dry_run else None
    if following is not None:
        print(f"{len(progress.passed)} of {len(course())} have passed. Next: {shown(folder.file_of(following))}: {following.title}")
    return 0


def print_result(result: Result, path: Path) -> None:
    """Prints what passed, and what is wrong with the line that it is in."""
    for step in result.passed:
        print(f"  ok     {step}")
    if result.ok:
        return
    print(f"  {'to do ' if result.unfinished else 'wrong '} {result.failed}")
    lines = [result.finding, f"likely cause: {result.cause}" if result.cause else ""]
    if result.line:
        lines.insert(0, f"{shown(path)}, line {result.line}: {result.source}")
    for line in filter(None, lines):
        print(textwrap.indent(textwrap.fill(line, 110, break_long_words=False, replace_whitespace=False), " " * 9))


def hint(a: Hint) -> int:
    folder = folder_here(a.exercise)
    exercise = chosen(a.exercise, folder)
    progress = folder.progress()
    count = min(progress.hints.get(exercise.name, 0) + 1, len(exercise.hints))
    for i, text in enumerate(exercise.hints[:count]):
        print(f"Hint {i + 1} of {len(exercise.hints)} for {exercise.name}:\n{textwrap.indent(text, '  ')}")
    if count == len(exercise.hints):
        print(f"That was the last one. If you are stuck: {say(f'solution {exercise.name}')}")
    if not a.dry_run:
        progress.hints[exercise.name] = count
        folder.store(progress)
    return 0


def solution(a: Solution) -> int:
    exercise = exercise_named(a.exercise)
    print(exercise.solution(), end="")
    folder = find_folder(Path())
    if folder is not None and not a.dry_run:
        progress = folder.progress()
        if exercise.name not in progress.solutions:
            progress.solutions.append(exercise.name)
            folder.store(progress)
    return 0


def listing(a: List) -> int:
    folder = find_folder(Path())
    passed = folder.progress().passed if folder is not None else []
    chapter = ""
    for exercise in course():
        if exercise.chapter != chapter:
            chapter = exercise.chapter
            print(f"\n{exercise.about_chapter}" if exercise.number > 1 else exercise.about_chapter)
        print(f"  {'passed' if exercise.name in passed else '      '}  {exercise.number:2} {exercise.name:16} {exercise.title}")
    print(f"\n{len(passed)} of {len(course())} have passed.")
    return 0


def try_all(first_only: bool) -> int:
    """Tries every solution and planted mistake, and prints what was not marked as it should be."""
    done = []
    with tempfile.TemporaryDirectory(prefix="tinylm-") as name:
        for exercise in course()[: 1 if first_only else None]:
            done += trials(exercise, Path(name))
    for trial in done:
        if not trial.as_expected:
            print(f"{trial.exercise.name}: {trial.mistake or 'the solution'}: {trial.result or 'passes'}")
            print(f"  expected: {f'marked wrong, with the words {trial.says!r}' if trial.mistake else 'it passes'}")
    solutions, mistakes = ([t.as_expected for t in done if bool(t.mistake) is wrong] for wrong in (False, True))
    print(f"{sum(solutions)} of {len(solutions)} exercises pass, {sum(mistakes)} of {len(mistakes)} planted mistakes are marked wrong")
    return 0 if all(solutions) and all(mistakes) else 1


SUBCOMMANDS = {
    "start": ("[FOLDER]", f"writes the exercises into {USUAL}/, or a folder that you name", console.subcommand(Start, start)),
    "check": ("[EXERCISE]", "marks your file: by default that of the next exercise", console.subcommand(Check, check)),
    "hint": ("[EXERCISE]", "shows one more hint each time", console.subcommand(Hint, hint)),
    "solution": ("EXERCISE", "shows the solution", console.subcommand(Solution, solution)),
    "list": ("", "lists the exercises and which have passed", console.subcommand(List, listing)),
}


def main() -> int | None:
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if not first or (first.startswith("-") and first not in ("-h", "--help")):
        return overview(console.parse(Overview))
    about = f"{__doc__}\nWithout a command it says where you are and what comes next; --all-solutions tries the exercises themselves."
    return console.run_subcommand(about, SUBCOMMANDS)


if __name__ == "__main__":
    console.run(main)
