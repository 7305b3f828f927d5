"""The CPU kernels and their pool in a C program, under the compiler's sanitizers; and the sanitizers find planted mistakes."""

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling
from tinylm.files.atomic import atomic_file
from tinylm.files.cache import private_folder, trusted

FOLDER = Path(__file__).parent / "cpu_drivers"
DRIVER = [FOLDER / name for name in ("driver.c", "every_kernel.c", "stored_kernels.c")]
MODES = {  # without optimisation for memory, which compiles three times as fast; with it for threads, where the program is faster
    "address,undefined": ["-O0", "-fno-sanitize-recover=all"],
    "thread": ["-O1", "-DNO_FORK"],  # its runtime does not follow a process that forks with threads
}


@pytest.fixture(scope="module", params=MODES)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Returns the sanitizer and the driver built with it, which is kept in the user's cache as the kernels are."""
    flags = [f for f in compiling.flags() if f != "-fvisibility=hidden"]
    flags += ["-g", "-DWORTH_WAKING=0", f"-fsanitize={request.param}", *MODES[request.param]]
    workspace = tmp_path_factory.mktemp("driver")
    try:
        command = compiling.compiler()
        trial = workspace / "trial.c"
        trial.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        subprocess.run([*command, *flags, str(trial), "-o", str(workspace / "trial")], check=True, capture_output=True)
    except (compiling.BuildError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler with the sanitizer {request.param}: {error}")
    texts = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())]
    name = hashlib.sha256("\0".join([compiling.key(command), *flags, *texts]).encode()).hexdigest()
    kept = private_folder("cpu_drivers", "*") / name
    if not trusted(kept, stat.S_ISREG):
        build([*command, *flags], workspace, kept)
    return request.param, kept


def build(command: list[str], workspace: Path, target: Path) -> None:
    files = [*DRIVER, *sorted(compiling.folder().glob("*.c"))]
    objects = [str(workspace / f"{file.name}.o") for file in files]
    include = f"-I{compiling.folder()}"
    running = [subprocess.Popen([*command, include, "-c", str(f), "-o", o]) for f, o in zip(files, objects, strict=True)]
    assert [p.wait() for p in running] == [0] * len(files)
    subprocess.run([*command, *objects, "-o", str(workspace / "driver"), "-lm"], check=True)
    with atomic_file(target) as file:
        file.write((workspace / "driver").read_bytes())
        os.fchmod(file.fileno(), 0o700)


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
