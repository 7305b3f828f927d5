"""Marks a file: executes it, runs the marker, and turns whatever happens into a message with the line."""

import contextlib
import signal
import sys
import threading
import types
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinylm.bindings.cpu.library import library
from tinylm.engine.random_keys import default_generator, drawing_from
from tinylm.errors import printable
from tinylm.learn.scene import learners
from tinylm.learn.slips import finding_and_cause
from tinylm.learn.work import Marker, Work, Wrong

LIMIT = 20.0  # seconds; a marker needs at most one or two


class _TooLong(BaseException):
    """Time is up. Not an Exception, so that a learner's `except Exception` does not catch it."""


@dataclass(frozen=True)
class Result:
    """How a file was marked: the steps that passed, and, unless all did, the one that failed, with its finding and line (0: none)."""

    passed: tuple[str, ...]
    failed: str = ""
    finding: str = ""
    cause: str = ""
    line: int = 0
    source: str = ""  # the text of that line
    unfinished: bool = False  # the gap has not been filled yet

    @property
    def ok(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        """Returns everything that it says about a failure, as one text."""
        return "; ".join(part for part in (self.failed, self.finding, self.cause) if part)


def mark(path: Path, marker: Marker, limit: float = LIMIT) -> Result:
    """Returns how the marker judges the file. Whatever the file does (an exception, an endless loop, `exit()`) is a finding."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        return Result((), "the file can be read", f"it is not UTF-8: {error}")
    library()  # compiles the CPU kernels, if this is the first time; that may take longer than a learner has
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    work = Work(path, module)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        with _quiet(), _within(limit), _seeded():
            exec(compile(text, str(path), "exec"), vars(module))
            marker(work)
        work.finish()
        return Result(tuple(work.passed))
    except Wrong as wrong:
        return _result(work, text, wrong.step, wrong.finding, wrong.cause, wrong.line)
    except SyntaxError as error:
        at = error.lineno or 0 if error.filename == str(path) else _line(error, path)
        return _result(work, text, "Python can read the file", f"{type(error).__name__}: {error.msg}", "", at)
    except _TooLong as error:
        where = _line(error, path)
        cause = "a loop that never ends, or far more steps than are needed"
        return _result(work, text, work.step, f"it did not end within {limit:g} seconds", cause, where)
    except NotImplementedError as error:
        return _result(work, text, work.step, "nothing is written here yet: fill the gap", "", _line(error, path), unfinished=True)
    except SystemExit as error:
        return _result(work, text, work.step, "it ends the program", "", _line(error, path))
    except RecursionError as error:
        return _result(work, text, work.step, "it calls itself without end (RecursionError)", "", _most_frequent_line(error, path))
    except Exception as error:
        finding, cause = finding_and_cause(error, path, text, work.slips)
        return _result(work, text, work.step, finding, cause, _line(error, path))
    finally:
        if before is None:
            sys.modules.pop(path.stem, None)
        else:
            sys.modules[path.stem] = before


def _result(work: Work, text: str, step: str, finding: str, cause: str, line: int, unfinished: bool = False) -> Result:
    lines = text.splitlines()
    while 0 < line < len(lines) and lines[line - 1].startswith("@"):
        line += 1  # a function begins with its decorators
    source = printable(lines[line - 1].strip(), 200) if 0 < line <= len(lines) else ""
    return Result(tuple(work.passed), step, printable(finding, 900), printable(cause, 900), line, source, unfinished)


def _lines(error: BaseException, path: Path) -> list[int]:
    """Returns the lines of the learner's file that the error passed through, the innermost last."""
    return [entry.tb_lineno for entry in learners(error, path)]


def _line(error: BaseException, path: Path) -> int:
    """Returns the innermost line of the learner's file that the error passed through; 0 if it passed through none."""
    return (_lines(error, path) or [0])[-1]


def _most_frequent_line(error: BaseException, path: Path) -> int:
    """Returns the line that the error passed through most often: of an endless recursion, the one that calls."""
    return Counter(_lines(error, path) or [0]).most_common(1)[0][0]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Within it, random numbers begin with seed 0; afterwards they go on as if nothing had been drawn."""
    before = default_generator.state
    default_generator.seed(0)
    try:
        with drawing_from(default_generator):
            yield
    finally:
        default_generator.state = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it, neither NumPy nor Python warns: what is not finite is for the marker to say."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises _TooLong after so many seconds, in the main thread of a system that has timers; elsewhere Ctrl-C ends an endless loop."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
