"""Plants mistakes in the CUDA kernels, and says which check finds which.

python tests/cuda_on_cpu/mutations.py [WORD...] prints the table of README.md, or its rows whose name contains
one of the words. The exit status is 1 if no check finds one of the mistakes. It takes some minutes.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cuda_on_cpu.emulator import BuildError, LaunchError
from cuda_on_cpu.emulator import launching as emulator
from cuda_on_cpu.emulator.recording import Recorder, SanitizerError, replay
from cuda_on_cpu.fixtures import forget_compiled
from cuda_on_cpu.planted_mistakes import MUTATIONS, Mutation
from cuda_on_cpu.stand_in import installed
from cuda_on_cpu.workloads import WORKLOADS
from tinylm.bindings.cuda import launching

KINDS = [  # a part of a message -> the word in the table
    (r"data race", "race"),
    (r"depends on the order", "order"),
    (r"undefined behaviour", "undefined"),
    (r"out of bounds|buffer-overflow|use-after-free|SEGV|DEADLYSIGNAL", "bounds"),
    (r"diverges|has exited|deadlock|its own mask|exited or does not exist|outside mask", "barrier"),
    (r"relative error|other bytes", "value"),
]
CHECKS = ("one order", "three orders", "ASan", "TSan")


def verdict(check: Callable[[], object]) -> str:
    """Returns what a check says about a kernel file: "-" if it finds nothing."""
    try:
        check()
    except BuildError:
        return "build"
    except (LaunchError, SanitizerError, AssertionError) as error:
        for pattern, kind in KINDS:
            if re.search(pattern, str(error)):
                return kind
        raise
    return "-"


@contextlib.contextmanager
def mutated(file: str, code: str) -> Iterator[None]:
    """Within it, the kernels of a file are compiled from this text."""
    original = launching.source
    launching.source = lambda name: code if name == file else original(name)  # type: ignore[assignment]
    forget_compiled()
    try:
        yield
    finally:
        launching.source = original
        forget_compiled()


def planted(mutation: Mutation) -> tuple[str, str]:
    """Returns the text of the kernel file, and the text with the mistake. Raises ValueError if nothing would change."""
    code = launching.source(mutation.file)
    changed = code.replace(mutation.old, mutation.new, 1)
    if re.sub("//.*", "", changed) == re.sub("//.*", "", code):
        raise ValueError(f"{mutation.file}: {mutation.mistake}: the kernel has no {mutation.old!r} outside comments")
    return code, changed


def check(mutation: Mutation) -> list[str]:
    """Returns the verdict of each of CHECKS. Under the sanitizers the launches of the correct kernels are repeated."""
    code, changed = planted(mutation)
    workload, orders = WORKLOADS[mutation.file], emulator.ORDERS
    with installed():
        forget_compiled()
        with Recorder() as sound:
            workload()
        verdicts = []
        with mutated(mutation.file, changed):
            for chosen in (orders[:1], orders):
                emulator.ORDERS = chosen
                try:
                    verdicts.append(verdict(workload))
                finally:
                    emulator.ORDERS = orders
    sound.launches = {(changed, options): found for (text, options), found in sound.launches.items() if text == code}
    return [*verdicts, *(verdict(lambda mode=mode: replay(sound, mode)) for mode in ("asan", "tsan"))]  # type: ignore[misc]


def main(words: Sequence[str]) -> int:
    chosen = [m for m in MUTATIONS if not words or any(w in f"{m.file}: {m.mistake}" for w in words)]
    print(f"| kernel file | planted mistake | {' | '.join(CHECKS)} |\n| --- | --- |{' --- |' * len(CHECKS)}", flush=True)
    survivors, caught = [], [0] * len(CHECKS)
    for m in chosen:
        verdicts = check(m)
        print(f"| {m.file} | {m.mistake} | {' | '.join(verdicts)} |", flush=True)
        caught = [n + (v != "-") for n, v in zip(caught, verdicts, strict=True)]
        if set(verdicts) == {"-"}:
            survivors.append(m)
    counts = ", ".join(f"{name} {n}" for name, n in zip(CHECKS, caught, strict=True))
    print(f"\n{len(chosen)} planted; caught by {counts}; survivors: {', '.join(m.mistake for m in survivors) or 'none'}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
