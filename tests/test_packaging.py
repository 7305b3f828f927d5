"""The wheel: built, installed outside the checkout, and able to train a step there."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

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


def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"tinylm/_kernels/README.md", "tinylm/_kernels/cpu/gru.c", "tinylm/_kernels/cpu/pool.h", "tinylm/explain/page.html"} <= names
    assert {"tinylm/py.typed", *(str(stub.relative_to(ROOT)) for stub in (ROOT / "tinylm").rglob("*.pyi"))} <= names
    assert {n for n in names if n.endswith((".txt", ".tsv")) and n.startswith("tinylm/data/")} == {
        "tinylm/data/lm/tinyshakespeare.txt",
        "tinylm/data/mt/web-rv1909.en-es.tsv",
        "tinylm/data/sentiment/uci_sentences.tsv",
    }
    assert not any(n.startswith(("tests/", "scripts/", "kernels/")) for n in names)
    # The dependencies come from this environment, so that nothing large is installed twice.
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    dependencies = next(p for p in sys.path if p.endswith("site-packages"))
    subprocess.run(
        [str(environment / "bin" / "python"), "-c", f"import sys; sys.path.append({dependencies!r})\n{PROGRAM}"], check=True, cwd=tmp_path
    )
