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

    def stamp(file: str, tree: Path) -> str:
        return hashlib.sha256((code + (tree / file).read_text(encoding="utf-8")).encode()).hexdigest()

    def is_kept(file: str) -> bool:
        path = lines_path(work, file)
        return path.exists() and json.loads(path.read_text(encoding="utf-8"))["stamp"] == stamp(file, root)

    def record(job: TestFile, copy: Path) -> int:
        recorder = running.Recorder(copy)
        code = running.run_pytest([job.path], recorder)
        text = json.dumps({"stamp": stamp(job.path, copy), "tests": recorder.results()})
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

    def __init__(self, work: Path, copy: Path):
        self.seconds: dict[str, float] = {}
        self.lines: defaultdict[str, dict[str, int]] = defaultdict(dict)  # file of tinylm -> test -> bits
        for path in sorted((work / "lines").glob("*.json")):
            for name, test in json.loads(path.read_text(encoding="utf-8"))["tests"].items():
                if test["passed"] and (copy / name.split("::")[0]).exists():
                    self.seconds[name] = test["seconds"]
                    for file, bits in test["lines"].items():
                        self.lines[file][name] = int(bits, 16)
        if not self.seconds:
            raise SystemExit(f"error: nothing was measured in {work}: run `measure` first")

    def tests_of(self, path: str, change: Change, budget: float, stage: int) -> list[str]:
        """Returns the tests to run for a change, at most budget seconds of them: of those that execute its lines the quickest.

        In stage 2, which is for survivors: some of these again, those that there was no time for, and others of the same files.
        """
        wanted = (1 << (change.last + 1)) - (1 << change.first)
        hits = {name for name, bits in self.lines[path].items() if bits & wanted}
        if not hits:  # outside functions, or in a process that a test starts
            hits = {*self.lines[path], *(name for name in self.seconds if distance(path, name) == 0)}
        first = self.quickest(path, hits, budget)
        if stage == 1:
            return first
        files = {name.split("::")[0] for name in hits}
        others = {name for name in self.seconds if name.split("::")[0] in files} - hits
        parts = (set(first), budget / 4), (hits - set(first), budget), (others, budget / 4)
        return list(dict.fromkeys(name for names, most in parts for name in self.quickest(path, names, most)))

    def quickest(self, path: str, names: set[str], budget: float) -> list[str]:
        """Returns tests for the budget, those of the module's package first, in the order of their files' distance."""
        found, total = [], 0.0
        for name in sorted(names, key=lambda name: (distance(path, name) == 2, self.seconds[name], name)):
            if total + self.seconds[name] <= budget:
                found.append(name)
                total += self.seconds[name]
        return sorted(found, key=lambda name: (distance(path, name), name.split("::")[0], self.seconds[name]))


def distance(path: str, test: str) -> int:
    """Returns 0 for the test file of a module's name, 1 for one of its package, 2 for another."""
    module, file = Path(path), Path(test.split("::")[0])
    if module.parts[1] != file.parts[1]:
        return 2
    return 0 if module.stem in file.stem or file.stem.removeprefix("test_") in module.stem else 1
