"""Runs tests in forked processes, in copies of the source tree: what each test executes, and whether it notices a change.

The process that forks has imported what takes long (PyTorch, SciPy, pytest), but not tinylm: each child imports it from its copy, in
which a file may be changed. Faster still is a session in which pytest has collected all tests: each of its children puts the changed
code into the functions that are there already.
"""

import contextlib
import gc
import importlib
import inspect
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

HEAVY = ("numpy", "scipy.sparse.linalg", "scipy.special", "scipy.stats", "hypothesis", "safetensors.numpy", "sklearn.linear_model", "torch",
         "transformers", "transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama")  # fmt: skip
EVENTS = 1_000  # of one function in one test; the lines that it executes later are not recorded
BYTES = 6 << 30

Lines = dict[str, int]  # file -> a number whose bit n stands for line n


def import_heavy() -> None:
    """Imports what the tests need and what does not import tinylm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in HEAVY:
            try:
                importlib.import_module(name)
            except ImportError:
                print(f"not installed: {name}")


def forked(next_job: Callable[[], Any], work: Callable[[Any, Path], int], done: Callable[..., None], copies: list[Path]) -> None:
    """Calls work(job, copy) in a child for each job, one at a time per copy, then done(job, what became of the child, seconds, copy).

    A child and all that it started are killed after job.limit seconds: "hang". Ends when there is neither a job nor a child.
    """
    running: dict[int, tuple[Any, Path, float]] = {}
    free = list(copies)
    while True:
        while free and (job := next_job()) is not None:
            copy = free.pop()
            sys.stdout.flush()
            pid = os.fork() or child(work, job, copy)
            running[pid] = job, copy, time.monotonic()
        if not running:
            return
        time.sleep(0.02)
        for pid, (job, copy, since) in list(running.items()):
            seconds = time.monotonic() - since
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and seconds < job.limit:
                continue
            kill_group(pid)
            if not ended:
                os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            del running[pid]
            free.append(copy)
            done(job, "hang" if not ended else {0: "passed", 1: "failed"}.get(code, f"status {code}"), seconds, copy)


def child(work: Callable[[Any, Path], int], job: Any, copy: Path) -> Any:
    """Never returns: does the work in the copy, alone in its process group, and leaves the process."""
    code = 9
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        output = os.open(copy.parent / f"{copy.name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        temporary = copy.parent / f"{copy.name}.temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        tempfile.tempdir = None
        os.environ.update(PYTHONPATH=str(copy), OMP_NUM_THREADS="1", CI="1", TMPDIR=str(temporary), PYTHONUTF8="1")
        code = work(job, copy)
    except BaseException as error:
        print("the child failed:", repr(error), flush=True)
    finally:
        sys.stdout.flush()
        os._exit(code)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def run_pytest(files: list[str], plugin: object, *options: str) -> int:
    quiet = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")  # of a plugin that is imported already
    return int(pytest.main([*quiet, "--tb=short", *options, *files], plugins=[plugin]))


class Recorder:
    """A pytest plugin that records what each test executes of the copy's tinylm, and its seconds.

    What a fixture of several tests executes counts for each of them. Tests on the emulated GPU are left out: they are slow, and the
    same tests run on the CPU.
    """

    def __init__(self, copy: Path):
        self.prefix = f"{copy}{os.sep}"
        self.ours = f"{self.prefix}tinylm{os.sep}"
        self.traced: dict[CodeType, list[Any]] = {}
        self.fixtures: dict[str, Lines] = {}
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if not item.nodeid.endswith("emulated]")]

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self.ours):
            return None
        entry = self.traced.get(code)
        if entry is None:
            self.traced[code] = [0, {frame.f_lineno}]
        elif entry[0] > EVENTS:
            return None
        return self.trace_line

    def trace_line(self, frame: FrameType, event: str, argument: object) -> Any:
        entry = self.traced.setdefault(frame.f_code, [0, set()])
        entry[0] += 1
        entry[1].add(frame.f_lineno)
        return self.trace_line if entry[0] <= EVENTS else None

    def lines(self) -> Lines:
        """Returns what was executed since the last call."""
        found: Lines = {}
        for code, (_, numbers) in self.traced.items():
            path = code.co_filename.removeprefix(self.prefix)
            found[path] = found.get(path, 0) | sum(1 << number for number in numbers)
        self.traced = {}
        return found

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            yield
        else:
            before = self.lines()
            yield
            during = self.lines()
            self.fixtures[fixturedef.argname] = joined(self.fixtures.get(fixturedef.argname, {}), during)
            self.fixtures["the test's own"] = joined(self.fixtures.get("the test's own", {}), joined(before, during))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        self.lines()
        self.tests[item.nodeid] = {"passed": True, "seconds": 0.0, "fixtures": list(item.fixturenames)}
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        since = time.perf_counter()
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
        found = self.tests[item.nodeid]
        found["seconds"] = time.perf_counter() - since
        found["lines"] = joined(self.lines(), self.fixtures.pop("the test's own", {}))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if not report.passed:
            self.tests[report.nodeid]["passed"] = False

    def results(self) -> dict[str, Any]:
        """Returns test -> whether it passed, its seconds, and its lines as hexadecimal numbers."""
        for test in self.tests.values():
            for name in test.pop("fixtures"):
                test["lines"] = joined(test.get("lines", {}), self.fixtures.get(name, {}))
            test["lines"] = {file: f"{bits:x}" for file, bits in test["lines"].items()}
        return self.tests


def joined(a: Lines, b: Lines) -> Lines:
    return {file: a.get(file, 0) | b.get(file, 0) for file in {*a, *b}}


class Chosen:
    """A pytest plugin that runs the chosen tests in their order, and writes the names of those that fail."""

    def __init__(self, names: list[str], failed: Path):
        self.places, self.failed = {name: i for i, name in enumerate(names)}, failed

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.places), key=lambda item: self.places[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with self.failed.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")


class Session:
    """A pytest plugin that collects all tests and then calls `work(session)` instead of running them."""

    def __init__(self, copy: Path, work: Callable[["Session"], None]):
        self.copy, self.work = copy, work
        self.items: dict[str, Any] = {}
        self.functions: dict[tuple[str, str, int], list[FunctionType]] = {}

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.find_functions()
        self.work(self)
        return True

    def find_functions(self) -> None:
        for found in gc.get_objects():
            if type(found) is FunctionType and found.__code__.co_filename.startswith(str(self.copy / "tinylm")):
                self.functions.setdefault(key(found.__code__), []).append(found)

    def run(self, names: list[str], failed: Path) -> int:
        """Runs the tests up to the first that fails, in this process."""
        plugin = Chosen(names, failed)
        items = [self.items[name] for name in names if name in self.items]
        for item, following in zip(items, [*items[1:], None], strict=True):
            if item is items[0]:
                item.config.pluginmanager.register(plugin)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if failed.exists():
                return 1
        return 0

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        """Puts the changed code into the functions of a file, in this process. Returns False if what differs is not in functions."""
        codes = [compile(text, str(self.copy / path), "exec", dont_inherit=True) for text in (old, new)]
        try:
            return self.replace_within(*codes)
        except ValueError:  # another number of free variables
            return False

    def replace_within(self, old: CodeType, new: CodeType) -> bool:
        inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (old, new)]
        a_function, alike = bool(old.co_flags & inspect.CO_OPTIMIZED), len(inner[0]) == len(inner[1])
        if a_function:
            for function in self.functions.get(key(old), []):
                function.__code__ = new
        elif not alike or without_inner(old) != without_inner(new):
            return False
        known = [self.replace_within(a, b) for a, b in zip(*inner, strict=False) if a != b] if alike else []
        return a_function or (bool(known) and all(known))


def key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def without_inner(code: CodeType) -> CodeType:
    """Returns the code without that of its functions, and without columns: those of a definition end where its body does."""
    return code.replace(co_consts=tuple(None if isinstance(c, CodeType) else c for c in code.co_consts), co_linetable=b"")
