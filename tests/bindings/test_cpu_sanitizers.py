"""The CPU kernels and their pool in a C program, under the compiler's sanitizers; and the sanitizers find planted mistakes."""

import os
import subprocess
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling

FOLDER = Path(__file__).parent / "cpu_drivers"
DRIVER = [FOLDER / "driver.c", FOLDER / "every_kernel.c"]
MODES = {
    "address,undefined": ["-fno-sanitize-recover=all"],
    "thread": ["-DNO_FORK"],  # its runtime does not follow a process that forks with threads
}


@pytest.fixture(scope="module", params=MODES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Returns the sanitizer and the driver built with it."""
    workspace = tmp_path_factory.mktemp("driver")
    flags = [f for f in compiling.flags() if f != "-fvisibility=hidden"]
    flags += ["-O1", "-g", "-DWORTH_WAKING=0", f"-fsanitize={request.param}", *MODES[request.param]]
    try:
        command = compiling.compiler()
        trial = workspace / "trial.c"
        trial.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        subprocess.run([*command, *flags, str(trial), "-o", str(workspace / "trial")], check=True, capture_output=True)
    except (compiling.BuildError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler with the sanitizer {request.param}: {error}")
    files = [*DRIVER, *sorted(compiling.folder().glob("*.c"))]
    running = [
        subprocess.Popen([*command, *flags, f"-I{compiling.folder()}", "-c", str(f), "-o", str(workspace / f"{f.name}.o")]) for f in files
    ]
    assert [p.wait() for p in running] == [0] * len(files)
    subprocess.run([*command, *flags, *(str(workspace / f"{f.name}.o") for f in files), "-o", str(workspace / "driver"), "-lm"], check=True)
    return request.param, workspace / "driver"


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *words], capture_output=True, text=True, env={**os.environ, "TSAN_OPTIONS": "exitcode=66"})


def test_nothing_is_found(program: tuple[str, Path]) -> None:
    done = run(program[1])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_planted_mistake_is_found(program: tuple[str, Path]) -> None:
    sanitizer, path = program
    mistake, words = ("race", "data race") if sanitizer == "thread" else ("overflow", "heap-buffer-overflow")
    done = run(path, mistake)
    assert done.returncode != 0
    assert words in done.stderr
    done = run(path, "difference")
    assert done.returncode == 1
    assert "other results with 2 parts" in done.stderr
