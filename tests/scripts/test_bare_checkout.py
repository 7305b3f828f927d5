"""A checkout where tinylm is not installed, nor what reads command lines and GGUF files, as on a machine that only lends its GPU."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS, Result

TESTS = SCRIPTS.parent / "tests"

ABSENT = """
import runpy, sys
ABSENT = sys.argv[1].split()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError("No module named %r" % name, name=name)
sys.meta_path.insert(0, Absent())
sys.path += sys.argv[2].split(":")
sys.argv[:3] = ["-c"]
"""


def bare(program: str, *arguments: str, absent: str, cwd: Path) -> Result:
    """Runs a program without this environment's .pth files, by one of which tinylm is found, and without some packages."""
    packages = ":".join(p for p in sys.path if p.endswith(("site-packages", "dist-packages")))
    command = [sys.executable, "-S", "-P", "-c", ABSENT + program, absent, packages, *arguments]
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=cwd, env=environment)


@pytest.mark.parametrize("absent", ["tyro gguf", "tyro gguf rich"])
def test_the_doctor(absent: str, tmp_path: Path) -> None:
    """It says what is missing, and looks at the rest."""
    script = f"sys.path.insert(0, {str(SCRIPTS)!r}); runpy.run_path({str(SCRIPTS / 'doctor.py')!r}, run_name='__main__')"
    result = bare(script, absent=absent, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    found = {line.split()[1]: line.split(maxsplit=2) for line in result.stdout.splitlines() if line.strip()}
    for name in absent.split():
        assert found[name][0] == "broken"
        assert f"No module named '{name}': pip install -e ." in found[name][2]
    assert found["engine"][0] == found["numpy"][0] == "ok"


def test_a_command_without_tyro(tmp_path: Path) -> None:
    script = f"sys.path.insert(0, {str(SCRIPTS)!r}); runpy.run_path({str(SCRIPTS / 'benchmark.py')!r}, run_name='__main__')"
    result = bare(script, absent="tyro gguf", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: the command line needs tyro, which is not installed: pip install tyro\n"


@pytest.mark.parametrize("side", ["tinylm", "torch"])
def test_a_side_of_the_benchmark(side: str, tmp_path: Path) -> None:
    program = f"sys.path.insert(0, {str(SCRIPTS)!r}); runpy.run_module('benchmark.process', run_name='__main__', alter_sys=True)"
    work = json.dumps(dataclasses.asdict(TINY["gpt"]))
    result = bare(program, side, "cpu", work, absent="tyro gguf rich matplotlib", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["seconds"] > 0


def test_what_compute_sanitizer_watches(tmp_path: Path) -> None:
    """Its program imports the tests' modules, which find tinylm in the checkout."""
    program = f"sys.path[:0] = {[str(TESTS / 'gpu'), str(TESTS), str(SCRIPTS.parent)]!r}; import every_kernel; print(every_kernel.main)"
    result = bare(program, absent="tyro gguf rich matplotlib", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("<function main")


def test_the_tests_of_a_gpu() -> None:
    """`pytest -m cuda` looks in their folder alone, where what other tests import may be absent; and there are none elsewhere."""
    others = (p for p in TESTS.rglob("*.py") if TESTS / "gpu" not in p.parents)
    assert [str(p) for p in others if "pytest.mark." + "cuda" in p.read_text(encoding="utf-8")] == []
    program = "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    absent = "tyro gguf rich matplotlib safetensors tokenizers sacrebleu regex PIL torch"
    options = ["-m", "cuda or cuda_long", "--collect-only", "-p", "no:cacheprovider"]
    result = bare(program, *options, absent=absent, cwd=TESTS.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    files = {line.partition("::")[0] for line in result.stdout.splitlines() if "::" in line}
    assert files == {f"tests/gpu/{p.name}" for p in (TESTS / "gpu").glob("test_*.py")}
