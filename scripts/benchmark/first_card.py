"""The first minutes on a GPU, nine at most: correctness first, then speed.

    python scripts/benchmark/first_card.py OUT

Every part runs in processes of its own, which are ended when its time is up: what the machine has; every kernel file through the
card's NVRTC; the cases of each against float64, twice, in memory that held NaN; the tests of the kernels and of training steps, and
those that only a card can run; steps of tinylm and PyTorch, in float32 and with TF32; which calls wait and what they cost;
compute-sanitizer; the op suite in the time left. OUT gets at most 8 files, summary.txt first. Nothing is fetched, and no setting of
the card is touched.
"""

import dataclasses
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
ROOT = SCRIPTS.parent
if __name__ == "__main__":
    sys.path[0] = str(SCRIPTS)  # not this folder, whose profile.py is not Python's

from benchmark.card_report import report, wrong_files  # noqa: E402

SECONDS = 530
WORKLOADS = (
    "gpt-small", "gpt-medium", "gpt-medium-batch-64", "gpt-large", "lstm-lm", "gru-lm", "transformer-lm",
    "decode", "decode-smollm2",
)  # fmt: skip
TF32 = ("gpt-medium-batch-64", "gpt-large", "gpt-medium")
RACES = ("scaled_dot_product_attention_64", "layer_norm", "cross_entropy", "embedding", "column_sums", "squared_norm")
TESTS = (
    "tests/bindings/test_cuda_*.py", "tests/cuda_on_cpu/test_training_steps.py", "tests/engine/test_devices.py",
    "tests/train/test_devices.py",
)  # fmt: skip
CARD_TESTS = ("tests/gpu/test_large_shapes.py", "tests/gpu/test_nccl.py", "tests/gpu/test_memory.py", "tests/gpu/test_repeatability.py")
UNSET = ("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "TINYLM_KERNELS", "CUPY_ACCELERATORS", "CUDA_LAUNCH_BLOCKING")
MOST_WRONG = 9  # kernel files; with more, the sanitizer takes the place of the tests


@dataclasses.dataclass(frozen=True)
class Part:
    """Commands that run for at most so many seconds together, `width` at a time; what they print is added to a file of OUT."""

    name: str
    seconds: float
    file: str
    commands: Sequence[Sequence[str]]
    width: int = 1
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class FirstCard:
    """Runs the parts one after the other until the time is up, and keeps what they print."""

    def __init__(self, out: Path, work: Path, seconds: float = SECONDS, files: Sequence[str] = ()) -> None:
        self.out, self.began, self.until = out, time.monotonic(), time.monotonic() + seconds
        self.files = list(files) or sorted(path.stem for path in (ROOT / "kernels" / "cuda").glob("*.cu"))
        paths = [str(ROOT), str(SCRIPTS), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in UNSET},
            "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "TINYLM_REQUIRE_CUDA": "1",
            "OMP_NUM_THREADS": "2", "TINYLM_NUM_THREADS": "2",
            "CUPY_CACHE_DIR": os.environ.get("CUPY_CACHE_DIR", str(work / "cupy")), "HYPOTHESIS_STORAGE_DIRECTORY": str(work / "examples"),
        }  # fmt: skip
        self._writing = threading.Lock()

    def left(self) -> float:
        return self.until - time.monotonic()

    def say(self, line: str) -> None:
        print(line, flush=True)
        self._add("summary.txt", line + "\n")

    def run(self, part: Part) -> list[int]:
        """Returns the exit status of each command, -9 for one that was ended; none if there is no time for the part."""
        start, seconds = time.monotonic(), min(part.seconds, self.left())
        if seconds < min(5, part.seconds):
            self.say(f"{part.name}: left out, {max(self.left(), 0):.0f} s are left")
            return []
        with ThreadPoolExecutor(part.width) as pool:
            found = list(pool.map(lambda words: self._process(words, part, start + seconds), part.commands))
        failed = f"{sum(map(bool, found))} of {len(found)} failed" if any(found) else "well"
        self.say(f"{part.name}: ended {failed} after {time.monotonic() - start:.0f} of {seconds:.0f} s, at {start - self.began:.0f} s")
        return found

    def _process(self, words: Sequence[str], part: Part, until: float) -> int:
        environment = {**self.environment, **part.environment}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8", "errors": "replace"}
        process = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
        try:
            printed, complaints = process.communicate(timeout=max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
            printed, complaints = process.communicate()
        self._add(part.file, printed)
        if complaints.strip():
            last = "environment.txt" if part.file.endswith(".jsonl") else part.file
            self._add(last, f"---- {part.name}: {' '.join(words[-3:])}\n{complaints[-20_000:]}\n")
        return process.returncode

    def _add(self, file: str, text: str) -> None:
        with self._writing, open(self.out / file, "a", encoding="utf-8") as sink:
            sink.write(text)


# ---------------------------------------------------------------- the parts


def module(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", name, *words]


def machine() -> Part:
    return Part("machine", 30, "environment.txt", [module("benchmark.card", "cuda")])


def of_kernels(what: str, seconds: float, files: Sequence[str]) -> Part:
    """what: "compile" or "check"."""
    blocking = {"CUDA_LAUNCH_BLOCKING": "1"} if what == "check" else {}  # an error is then that of the launch that made it
    file = {"compile": "kernels.jsonl", "check": "cases.jsonl"}[what]
    return Part(what, seconds, file, [module("benchmark.card_kernels", what, name) for name in files], 8, blocking)


def of_steps(side: str, seconds: float, wrong: Sequence[str], works: Sequence[str]) -> Part:
    environment = {"CUPY_TF32": "1"} if side == "tinylm-tf32" else {}
    return Part(side, seconds, "steps.jsonl", [module("benchmark.card_steps", side, "cuda", " ".join(wrong), *works)], 1, environment)


def of_sanitizer(tool: str, seconds: float, files: Sequence[str]) -> Part | None:
    """Returns None without compute-sanitizer."""
    program = shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"]))
    if program is None:
        return None
    options = ["--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", "--print-limit", "5"]
    commands = [[program, *options, *module("benchmark.card_kernels", "check", name, "own")] for name in files]
    return Part(tool, seconds, "sanitizer.txt", commands, 8)


def of_tests(name: str, seconds: float, *words: str) -> Part:
    """Returns tests in which warnings are no errors: those of other versions of NumPy, CuPy and PyTorch than the project's are no fault of
    the kernels."""
    options = ["-o", "addopts=", "-o", "filterwarnings=default", "--import-mode=importlib", "-q", "-ra", "--tb=short"]
    several = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    limit = ["--timeout=60"] if importlib.util.find_spec("pytest_timeout") else []
    found = [str(p.relative_to(ROOT)) for w in words if "*" in w for p in sorted(ROOT.glob(w))]
    rest = [word for word in words if "*" not in word]
    options += ["-p", "no:cacheprovider", "--maxfail=60", *several, *limit]
    return Part(name, seconds, "tests.txt", [module("pytest", *options, *found, *rest)])


def sanitize(card: FirstCard, tool: str, seconds: float, files: Sequence[str]) -> None:
    if (part := of_sanitizer(tool, seconds, files)) is None:
        card.say("no compute-sanitizer")
    elif files:
        card.run(part)


def correctness(card: FirstCard) -> list[str]:
    """Runs the parts about correctness, and returns the kernel files that are wrong, or gave no answer."""
    card.run(of_kernels("compile", 45, card.files))
    card.run(of_kernels("check", 50, card.files))
    wrong = wrong_files(card.out / "cases.jsonl", card.files)
    card.say(f"kernel files that are wrong, or gave no answer: {' '.join(wrong) or 'none'}")
    sanitize(card, "memcheck", 95 if len(wrong) > MOST_WRONG else 30, wrong)
    if len(wrong) <= MOST_WRONG:
        card.run(of_tests("tests of kernels and steps", 95, *TESTS, "-m", "not slow"))
    card.run(of_tests("what only a card can run", 80, *CARD_TESTS, "-m", "cuda"))
    return wrong


def speed(card: FirstCard, wrong: Sequence[str], works: Sequence[str] = WORKLOADS, tf32: Sequence[str] = TF32) -> None:
    """Runs the parts about speed."""
    for side, seconds, chosen in (("tinylm", 45, works), ("torch", 45, works), ("tinylm-tf32", 20, tf32), ("torch-tf32", 20, tf32)):
        card.run(of_steps(side, seconds, wrong, chosen))
    card.run(Part("calls", 60, "calls.txt", [module("benchmark.card_calls", "cuda")]))


def main(out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tinylm-") as work:
        card = FirstCard(out, Path(work))
        computes = card.run(machine()) == [0]
        if computes:
            wrong = correctness(card)
            speed(card, wrong)
            sanitize(card, "memcheck", 35, card.files)
            sanitize(card, "racecheck", 25, RACES)
            card.run(of_tests("the op suite", max(card.left() - 8, 0), "tests/ops", "-k", "cuda", "-m", "not slow"))
        else:
            card.say("CuPy does not compute here (see environment.txt): PyTorch's times alone are taken, to compare with later")
            card.run(of_steps("torch", 120, (), WORKLOADS))
        card.say(report(out))
        tests = (out / "tests.txt").read_text(encoding="utf-8") if (out / "tests.txt").exists() else ""
        for line in re.findall(r"^(?:FAILED|ERROR) .*|^.*\b\d+ (?:passed|failed)\b.*", tests, re.MULTILINE)[-40:]:
            card.say(line[:180])
    return 0 if computes else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/benchmark/first_card.py OUT")
    sys.exit(main(Path(sys.argv[1])))
