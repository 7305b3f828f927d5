"""The wheel: built, installed outside the checkout, and able to train there; its command finds the scripts, as in a checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, Result, ends_well

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
SHAPE = ["--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4]

PROGRAM = """
import tempfile
from pathlib import Path
import tinylm
from tinylm.bindings.cpu.library import library
from tinylm.engine.kernels import launches
from tinylm.data import load_text
from tinylm.train import Run, TrainConfig

assert "site-packages" in tinylm.__file__, tinylm.__file__
config = TrainConfig(steps=1, n_layer=1, n_embd=16, block_size=16)
with tempfile.TemporaryDirectory() as folder:
    summary = Run(config, Path(folder) / "run", load_text("tinyshakespeare")[:5000]).train()
assert summary["steps"] == 1
assert library() is None or launches["linear", "cpu"] > 0
"""


def called(*command: object, cwd: Path) -> Result:
    """Runs a command, warnings being errors."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, encoding="utf-8", check=False, cwd=cwd, env=environment)


# ---------------------------------------------------------------- installed from a wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder bin/ of an environment with the wheel; the dependencies are those of this environment, so that
    nothing large is installed twice."""
    environment = tmp_path_factory.mktemp("venv")
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(environment / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)], check=True)
    return environment / "bin"


def test_what_the_wheel_holds(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"tinylm/_kernels/README.md", "tinylm/_kernels/cpu/gru.c", "tinylm/_kernels/cpu/pool.h", "tinylm/explain/backward.js"} <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tinylm" / "learn").rglob("*.py")} <= names
    assert {"tinylm/py.typed", *(str(stub.relative_to(ROOT)) for stub in (ROOT / "tinylm").rglob("*.pyi"))} <= names
    pages = [path for path in (ROOT / "tinylm").rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert {str(path.relative_to(ROOT)) for path in pages} <= names
    commands = [*SCRIPTS.rglob("*.py"), SCRIPTS / "benchmark" / "limits.c"]
    assert {f"tinylm/_scripts/{path.relative_to(SCRIPTS)}" for path in commands} <= names
    assert {n for n in names if n.endswith((".txt", ".tsv")) and n.startswith("tinylm/data/")} == {
        "tinylm/data/lm/tinyshakespeare.txt",
        "tinylm/data/mt/web-rv1909.en-es.tsv",
        "tinylm/data/sentiment/uci_sentences.tsv",
    }
    assert not any(n.startswith(("tests/", "scripts/", "kernels/")) or n.endswith(".pyc") for n in names)


def test_the_wheel_works_outside_the_checkout(programs: Path, tmp_path: Path) -> None:
    ends_well(called(programs / "python", "-c", PROGRAM, cwd=tmp_path))


def test_its_command_trains_generates_and_scores(programs: Path, tmp_path: Path) -> None:
    out = ends_well(called(programs / "tinylm", "train", "--steps", 5, *SHAPE, "--out", "run", cwd=tmp_path))
    assert "step 5/5" in out
    assert ends_well(called(programs / "tinylm", "generate", "run", "--prompt", "The king", "--tokens", 9, cwd=tmp_path))[:8] == "The king"
    assert "perplexity" in ends_well(called(programs / "python", "-m", "tinylm", "score", "run", "The king is dead.", cwd=tmp_path))


def test_its_command_starts_further_processes(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "benchmark.py").write_text("raise AssertionError('not this one')", encoding="utf-8")
    result = called(programs / "tinylm", "benchmark", "--dry-run", "--workload", "rnn-lm", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "rnn-lm" in result.stdout


def test_its_command_names_itself(programs: Path, tmp_path: Path) -> None:
    assert ends_well(called(programs / "tinylm", "generate", "--help", cwd=tmp_path)).startswith("usage: tinylm generate ")
    assert "usage: tinylm explain backward " in ends_well(called(programs / "tinylm", "explain", cwd=tmp_path))
    assert ends_well(called(programs / "tinylm", cwd=tmp_path)).startswith("usage: tinylm COMMAND ")


# ---------------------------------------------------------------- from the checkout


def test_the_command_lists_every_script_with_one_line(tmp_path: Path) -> None:
    listed = [ends_well(called(sys.executable, "-m", "tinylm", *arguments, cwd=tmp_path)) for arguments in ([], ["--help"])]
    assert listed[0] == listed[1]
    lines = [line.split(maxsplit=1) for line in listed[0].splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == COMMANDS
    assert all(line.endswith(".") and len(line) <= 105 for _, line in lines), "a docstring's first line is one sentence"


@pytest.mark.parametrize(("typed", "hint"), [("trian", "did you mean 'train'?"), ("xyzzy", "'python -m tinylm --help' lists them")])
def test_an_unknown_command(typed: str, hint: str, tmp_path: Path) -> None:
    result = called(sys.executable, "-m", "tinylm", typed, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: there is no command {typed!r}: {hint}\n"


def test_both_ways_in_a_checkout_give_the_same(tmp_path: Path) -> None:
    """The outputs differ only in the command's name in the usage line."""
    by_path = ends_well(called(sys.executable, SCRIPTS / "score.py", "--help", cwd=tmp_path))
    by_name = ends_well(called(sys.executable, "-m", "tinylm", "score", "--help", cwd=tmp_path))
    assert by_path.startswith("usage: python scripts/score.py ")
    assert by_path.replace("python scripts/score.py", "python -m tinylm score") == by_name


def test_no_script_imports_another_command() -> None:
    for path in SCRIPTS.rglob("*.py"):
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        imported = {words[1].partition(".")[0] for words in lines if len(words) > 1 and words[0] in ("from", "import")}
        assert not imported & (set(COMMANDS) - {"benchmark"}), path  # scripts/benchmark/ goes before the module of that name
