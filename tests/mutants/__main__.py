"""Makes small random changes of tinylm (mutants) and says which of them no test notices.

    python tests/mutants measure                       which lines each test executes, once per tree: about ten minutes
    python tests/mutants run --seed 1 --count 300      300 changes, spread over the packages by their lines, at least 20 each
    python tests/mutants run --files tinylm/decode/stepping.py tinylm/optim/schedules.py          every change of these files
    python tests/mutants again                         the survivors once more, after new tests were written and measured
    python tests/mutants report                        the survivors so far: file:line, the old line, the new line

A change is tried on the tests that execute its line, the quickest for --budget seconds, until one fails; a survivor is tried on
more of them, in a new process. --work names the folder for the copies of the tree, the measurement and the results (results.jsonl,
or --out): a run that was stopped goes on where it was, and tries nothing twice. Of 300 changes about 30 survive the first tests
and take half a minute each; the others take a second. What survives is to be read: it may change nothing that can be observed.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutants import running
from mutants.changes import Change, changes, is_new
from mutants.measuring import Measured, measure

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ops", "nn", "optim", "decode", "data", "models", "train", "verify", "engine")
NOT_CODE = ("tinylm/verify/samples/", "tinylm/verify/models.py")  # inputs of tests
AT_LEAST = 20  # changes per package
CANNOT_TELL = 77  # a child's status


@dataclasses.dataclass
class Job:
    path: str
    change: Change
    tests: list[str]
    stage: int
    limit: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "run", "again", "report"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/tinylm-mutants"))
    parser.add_argument("--out", type=Path, help="the results; results.jsonl in the work folder if not given")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of tests per change")
    options = parser.parse_args()
    out = options.out or options.work / "results.jsonl"
    if options.action == "report":
        return report(out)
    copies = [fresh_copy(options.work / f"copy{i}") for i in range(options.workers + 1)]
    running.import_heavy()
    if options.action == "measure":
        measure(ROOT, PACKAGES, options.work, copies)
        return 0
    listed = take_back_survivors(out) if options.action == "again" else chosen(options)
    Trials(listed, Measured(options.work, copies[0]), copies, out, options.budget).run()
    return report(out)


def fresh_copy(folder: Path) -> Path:
    """Returns the folder, which then holds the files of the working tree. Compiled Python files that still fit are kept."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    names = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (ROOT / name).read_bytes():
            shutil.copy2(ROOT / name, target)
    for path in [*(folder / "tinylm").rglob("*.py"), *(folder / "tests").rglob("*.py")]:
        if str(path.relative_to(folder)) not in names:
            path.unlink()
    return folder


def chosen(options: argparse.Namespace) -> list[tuple[str, Change]]:
    """Returns the changes to try: all of the named files, else a random choice from the packages."""
    if options.files:
        return [(path, c) for path in options.files for c in changes((ROOT / path).read_bytes())]
    draw, found = random.Random(options.seed), []
    sources = {p: p.read_bytes() for name in PACKAGES for p in sorted((ROOT / "tinylm" / name).rglob("*.py"))}
    kept = {str(p.relative_to(ROOT)): s for p, s in sources.items() if not str(p.relative_to(ROOT)).startswith(NOT_CODE)}
    lengths = {name: sum(s.count(b"\n") for path, s in kept.items() if path.split("/")[1] == name) for name in PACKAGES}
    for name in PACKAGES:
        count = max(AT_LEAST, round(options.count * lengths[name] / sum(lengths.values())))
        every = [(path, c) for path, s in kept.items() if path.split("/")[1] == name for c in changes(s)]
        draw.shuffle(every)
        found += [next((p, c) for p, c in iter(every.pop, None) if is_new(kept[p], c)) for _ in range(min(count, len(every)))]
    draw.shuffle(found)
    return found


@dataclasses.dataclass
class Trials:
    """Tries the changes that are not among the results yet."""

    listed: list[tuple[str, Change]]
    measured: Measured
    copies: list[Path]
    out: Path
    budget: float

    def run(self) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.sources = {path: (ROOT / path).read_bytes() for path, _ in self.listed}
        self.again: list[Job] = []
        self.log = os.fdopen(os.dup(1), "w", buffering=1)  # which is not a child's standard output
        base, *copies = self.copies
        files = sorted({name.split("::")[0] for name in self.measured.seconds})
        if pid := os.fork():
            os.waitpid(pid, 0)
        else:  # the children of a session in which everything is collected, and then, for the rest, new processes
            running.child(lambda job, copy: running.run_pytest(files, running.Session(base, self.within)), None, base)
        first = {identity(result) for result in results(survived_path(self.out))}
        jobs = (self.job(path, c, 2 if identity(record_of(path, c)) in first else 1) for path, c in self.left())
        running.forked(lambda: self.again.pop() if self.again else next(jobs, None), self.attempt, self.done, copies)
        noticed = [r["by"] for r in results(self.out) if r["by"] in self.measured.seconds]
        if noticed:
            nothing = Change(1, 0, 0, "", "nothing", 1, 1)
            control = [Job(self.listed[0][0], nothing, sorted(set(noticed)), 2, 1200.0)]
            running.forked(lambda: control.pop() if control else None, self.attempt, self.check_control, copies[:1])

    def check_control(self, job: Job, outcome: str, seconds: float, copy: Path) -> None:
        """Takes back what was noticed by tests that fail without a change, too."""
        failing = failed_path(copy).read_text(encoding="utf-8").split("\n") if failed_path(copy).exists() else []
        print(f"without a change: {outcome}, {len(job.tests)} tests, {' '.join(failing)}", file=self.log)
        found = [r for r in results(self.out) if not r["by"] or r["by"] not in failing]
        self.out.write_text("".join(json.dumps(r) + "\n" for r in found), encoding="utf-8")

    def left(self) -> Iterator[tuple[str, Change]]:
        tried = {identity(result) for result in results(self.out)}
        for path, change in self.listed:
            if identity(record_of(path, change)) not in tried and is_new(self.sources[path], change):
                yield path, change

    def job(self, path: str, change: Change, stage: int) -> Job:
        tests = self.measured.tests_of(path, change, self.budget, stage)
        return Job(path, change, tests, stage, 30 + 4 * sum(self.measured.seconds[name] for name in tests))

    def within(self, session: running.Session) -> None:
        """Tries in forks of the session what can be tried there, and notes the survivors."""
        known = {identity(result) for result in results(survived_path(self.out))}

        def attempt(job: Job, copy: Path) -> int:
            changed = self.write(job, copy)
            if not job.tests or not session.replace(job.path, self.sources[job.path], changed):
                return CANNOT_TELL
            return session.run(job.tests, failed_path(copy))

        def done(job: Job, outcome: str, seconds: float, copy: Path) -> None:
            if outcome == "passed":
                append(survived_path(self.out), record_of(job.path, job.change))
            elif outcome != f"status {CANNOT_TELL}":
                self.done(job, outcome, seconds, copy)
            self.restore(job, copy)

        jobs = (self.job(path, c, 1) for path, c in self.left() if identity(record_of(path, c)) not in known)
        running.forked(lambda: next(jobs, None), attempt, done, self.copies[1:])

    def write(self, job: Job, copy: Path) -> bytes:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        failed_path(copy).unlink(missing_ok=True)
        changed = job.change.apply(self.sources[job.path])
        (copy / job.path).write_bytes(changed)
        return changed

    def restore(self, job: Job, copy: Path) -> None:
        shutil.copy2(ROOT / job.path, copy / job.path)  # with its time, so that its compiled file is right again

    def attempt(self, job: Job, copy: Path) -> int:
        self.write(job, copy)
        stop = ["-x"] if job.change.new or job.change.end else []
        files = list(dict.fromkeys(name.split("::")[0] for name in job.tests))
        return running.run_pytest(files, running.Chosen(job.tests, failed_path(copy)), *stop) if files else 0

    def done(self, job: Job, outcome: str, seconds: float, copy: Path) -> None:
        self.restore(job, copy)
        if outcome == "passed" and job.stage == 1:
            self.again.append(self.job(job.path, job.change, 2))
            return
        by = failed_path(copy).read_text(encoding="utf-8").split("\n")[0] if failed_path(copy).exists() else ""
        result = record_of(job.path, job.change) | {"outcome": outcome, "by": by, "stage": job.stage, "seconds": round(seconds, 1)}
        result |= {"tests": len(job.tests), **before_and_after(self.sources[job.path], job.change)}
        append(self.out, result)
        print(f"{outcome:7} {seconds:5.1f} s  {job.path}:{job.change.line} {job.change.kind} {by}", file=self.log)


def survived_path(out: Path) -> Path:
    """Returns the file of the changes that survived within the session, and are to be tried on whole files."""
    return out.with_suffix(".survived.jsonl")


def failed_path(copy: Path) -> Path:
    return copy.parent / f"{copy.name}.failed"


def record_of(path: str, change: Change) -> dict[str, Any]:
    return {"path": path, **dataclasses.asdict(change)}


def identity(result: dict[str, Any]) -> tuple[object, ...]:
    return tuple(result[key] for key in ("path", "start", "end", "new"))


def before_and_after(source: bytes, change: Change) -> dict[str, str]:
    """Returns the lines that the change touches, before and after it, each as one line."""
    first = source.rfind(b"\n", 0, change.start) + 1
    last = (source + b"\n").find(b"\n", change.end)
    old = source[first:last].decode()
    new = source[first : change.start].decode() + change.new + source[change.end : last].decode()
    return {"old": " ".join(old.split()), "after": " ".join(new.split())}


# What was found


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []


def append(path: Path, result: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def take_back_survivors(out: Path) -> list[tuple[str, Change]]:
    """Returns the survivors, which are then no results any more."""
    found = results(out)
    out.write_text("".join(json.dumps(r) + "\n" for r in found if r["outcome"] != "passed"), encoding="utf-8")
    survived_path(out).unlink(missing_ok=True)
    names = [field.name for field in dataclasses.fields(Change)]
    return [(r["path"], Change(**{name: r[name] for name in names})) for r in found if r["outcome"] == "passed"]


def report(out: Path) -> int:
    """Prints the survivors and the totals per package. Returns 1 if something survived, for the shell."""
    found = results(out)
    survivors = [r for r in found if r["outcome"] == "passed"]
    for r in sorted(survivors, key=lambda r: (r["path"], r["start"])):
        print(f"{r['path']}:{r['line']}  {r['kind']}, {r['tests']} tests\n  - {r['old']}\n  + {r['after']}")
    for name in PACKAGES:
        of = [r for r in found if r["path"].split("/")[1] == name]
        if of:
            print(f"{name}: {len(of)} changes, {sum(r in survivors for r in of)} survive")
    print(f"{len(found)} changes, {len(survivors)} survive, {sum(r['seconds'] for r in found):.0f} s")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
