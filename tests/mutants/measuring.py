"""What each test executes, and which tests a change concerns."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mutants import running
from mutants.changes import Change

LIMIT = 1200.0  # seconds per test file


@dataclass
class TestFile:
    path: str
    limit: float = LIMIT


def measure(root: Path, packages: tuple[str, ...], work: Path, copies: list[Path]) -> None:
    """Runs every test file of the packages once, and writes what its tests execute into work/lines/; files that are unchanged are kept."""
    files = sorted(str(p.relative_to(root)) for name in packages for p in (root / "tests" / name).rglob("test_*.py"))
    code = "".join(p.read_text(encoding="utf-8") for p in sorted((root / "tinylm").rglob("*.py")))
    (work / "lines").mkdir(parents=True, exist_ok=True)

    def stamp(file: str) -> str:
        return hashlib.sha256((code + (root / file).read_text(encoding="utf-8")).encode()).hexdigest()

    def is_kept(file: str) -> bool:
        path = lines_path(work, file)
        return path.exists() and json.loads(path.read_text(encoding="utf-8"))["stamp"] == stamp(file)

    def record(job: TestFile, copy: Path) -> int:
        recorder = running.Recorder(copy)
        code = running.run_pytest([job.path], recorder)
        text = json.dumps({"stamp": stamp(job.path), "tests": recorder.results()})
        lines_path(work, job.path).write_text(text, encoding="utf-8")
        return code

    def done(job: TestFile, outcome: str, seconds: float, copy: Path) -> None:
        print(f"{job.path}: {outcome}, {seconds:.1f} s", flush=True)

    jobs = (TestFile(file) for file in files if not is_kept(file))
    running.forked(lambda: next(jobs, None), record, done, copies[1:])


def lines_path(work: Path, file: str) -> Path:
    return work / "lines" / (file.replace("/", ".") + ".json")


class Measured:
    """Every test that passes: its seconds, and the lines that it executes."""

    def __init__(self, work: Path):
        self.seconds: dict[str, float] = {}
        self.lines: defaultdict[str, dict[str, int]] = defaultdict(dict)  # file of tinylm -> test -> bits
        for path in sorted((work / "lines").glob("*.json")):
            for name, test in json.loads(path.read_text(encoding="utf-8"))["tests"].items():
                if test["passed"]:
                    self.seconds[name] = test["seconds"]
                    for file, bits in test["lines"].items():
                        self.lines[file][name] = int(bits, 16)
        if not self.seconds:
            raise SystemExit(f"error: nothing was measured in {work}: run `measure` first")

    def tests_of(self, path: str, change: Change, budget: float, stage: int) -> list[str]:
        """Returns the tests that execute the change's lines, the nearest and quickest first; in stage 2, all tests of their files."""
        wanted = (1 << (change.last + 1)) - (1 << change.first)
        hits = {name for name, bits in self.lines[path].items() if bits & wanted}
        if not hits:  # outside functions, or in a process that a test starts
            hits = {*self.lines[path], *(name for name in self.seconds if distance(path, name.split("::")[0]) == 0)}
        if stage == 2:
            files = {name.split("::")[0] for name in hits}
            hits = {name for name in self.seconds if name.split("::")[0] in files}
        files_of = defaultdict(list)
        for name in sorted(hits, key=lambda name: self.seconds[name]):
            files_of[name.split("::")[0]].append(name)
        found, total = [], 0.0
        for file in sorted(files_of, key=lambda file: (distance(path, file), sum(self.seconds[n] for n in files_of[file]))):
            for name in files_of[file]:
                if total + self.seconds[name] <= budget:
                    found.append(name)
                    total += self.seconds[name]
        return found


def distance(path: str, test: str) -> int:
    """Returns 0 for the test file of a module's name, 1 for one of its package, 2 for another."""
    module, file = Path(path), Path(test)
    if module.parts[1] != file.parts[1]:
        return 2
    return 0 if module.stem in file.stem or file.stem.removeprefix("test_") in module.stem else 1
