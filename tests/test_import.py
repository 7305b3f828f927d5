"""`import tinylm` is light: the heavy dependencies wait until they are used."""

import subprocess
import sys

HEAVY = ("scipy", "torch", "safetensors", "tokenizers", "tyro", "rich", "matplotlib", "cupy")


def test_import_is_light() -> None:
    program = f"import sys, tinylm; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_face() -> None:
    import tinylm

    for name in tinylm.__all__:
        assert getattr(tinylm, name) is not None
