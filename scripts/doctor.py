"""Says what works on this machine and how to repair what does not."""

import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from support import console

import tinylm
from tinylm.__main__ import scripts_folder
from tinylm.bindings.cpu.library import library, problem
from tinylm.bindings.cpu.processor import processor_name, product_instructions
from tinylm.engine.devices import device_namespace
from tinylm.engine.kernels import registry
from tinylm.errors import TinylmError, one_line
from tinylm.models import LanguageModel
from tinylm.pretrained.model_loading import smollm2_file
from tinylm.train import load_run

try:
    from tyro.conf import Positional
except ModuleNotFoundError:  # a finding
    Positional: Any = None  # type: ignore[no-redef]


@dataclass(frozen=True)
class Arguments:
    """Says what works on this machine and how to repair what does not. The exit status is 1 if something is broken that
    tinylm needs on a CPU; a missing GPU is not an error."""

    model: Annotated[Path | None, Positional] = None
    """also load this model: a run folder, a Hugging Face folder, a GGUF file, or smollm2"""
    dry_run: bool = False
    """accepted as by every command; the check takes a second, and a few more if it compiles the CPU kernels"""


def package(name: str) -> str:
    importlib.import_module(name)
    return f"{name} {importlib.metadata.version(name)}"


def arithmetic() -> str:
    x = tinylm.Tensor(np.arange(3.0), requires_grad=True)
    (x * x).backward(np.ones(3))
    assert x.grad is not None
    if x.grad.tolist() != [0.0, 2.0, 4.0]:
        raise TinylmError(f"the derivative of x² at 0, 1, 2 came out as {x.grad.tolist()}: reinstall NumPy")
    return f"{len(registry)} ops, a gradient computed"


def writable() -> str:
    with tempfile.TemporaryFile(dir=Path.cwd()):
        return f"{Path.cwd()} can be written"


def cpu_kernels() -> str:
    if os.environ.get("TINYLM_KERNELS") == "reference":
        return "switched off by TINYLM_KERNELS=reference"
    found = library()
    if found is None:
        raise TinylmError(f"{problem()}. Install a C compiler (gcc or clang)")
    return f"{found.compiler}, {found.place}, threads: {found.threads}, matrix products: {product_instructions()}"


def loaded(path: Path) -> str:
    model, tokenizer, _ = load_run(path)
    context = f", context {model.block_size}" if isinstance(model, LanguageModel) and model.block_size else ""
    chat = ", a chat template" if getattr(tokenizer, "template", None) is not None else ""
    return f"{type(model).__name__}, {model.num_parameters():,} parameters{context}, {tokenizer.vocab_size:,} tokens{chat}"


def cuda() -> str:
    space = device_namespace("cuda")
    properties = space.cuda.runtime.getDeviceProperties(0)
    name = properties["name"].decode()
    try:
        x = tinylm.Tensor(space.ones((2, 64), np.float32), requires_grad=True)
        tinylm.layer_norm(x @ x.swapaxes(0, 1)).sum().backward()  # cuBLAS, CuPy's own kernels and one of tinylm's
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TinylmError(
            f'{name} was found, but computing on it fails ({reason}): pip install "cupy-cuda12x[ctk]" brings all it needs'
        ) from error
    return f"CuPy {space.__version__} on {name}, compute capability {properties['major']}.{properties['minor']}, a gradient computed"


def how_to_install(extra: str) -> str:
    """Returns the command that installs the packages which tinylm needs: of a checkout, or of an installed tinylm."""
    target = "tinylm" if scripts_folder().parent == Path(tinylm.__file__).parent else "."
    quoted = f'"{target}{extra}"' if extra else target
    return f"pip install {'-e ' if target == '.' else ''}{quoted}"


CHECKS: list[tuple[str, Callable[[], str], bool]] = [
    ("python", lambda: f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores", True),
    ("processor", processor_name, True),
    *[
        (name, lambda name=name: package(name), True)
        for name in ("numpy", "scipy", "threadpoolctl", "safetensors", "tokenizers", "tyro", "rich", "matplotlib", "gguf", "jinja2")
    ],
    ("engine", arithmetic, True),
    ("folder", writable, True),
    ("cpu kernels", cpu_kernels, False),
    ("smollm2", lambda: f"{smollm2_file().name}, a model to try", False),
    ("torch", lambda: package("torch") + ", used by the tests only", False),
    ("cuda", cuda, False),
]


def command_line() -> Arguments:
    """Returns the arguments; without tyro, which reads them, the model alone."""
    if Positional is not None:
        return console.parse(Arguments)
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return Arguments(Path(words[0]) if words else None)


def show(rows: list[tuple[str, str, str]]) -> None:
    """Prints (state, check, finding) as a table; without rich, which draws it, as plain lines."""
    try:
        from rich.markup import escape
        from rich.table import Table
        from support.tables import screen
    except ModuleNotFoundError:
        for state, name, finding in rows:
            print(f"{state:7} {name:14} {finding}")
        return
    colors = {"ok": "green", "broken": "red", "absent": "yellow"}
    table = Table("", "check", "finding", box=None)
    for state, name, finding in rows:
        table.add_row(f"[{colors[state]}]{state}", escape(name), escape(finding))
    screen(200).print(table)


def main() -> int:
    rows = []
    checks = [*CHECKS]
    if (model := command_line().model) is not None:
        checks.append((one_line(str(model)), lambda: loaded(model), True))
    for name, check, needed in checks:
        try:
            rows.append(("ok", name, check()))
        except (ImportError, importlib.metadata.PackageNotFoundError) as error:
            remedy = how_to_install("" if needed else "[test]")
            rows.append(("broken" if needed else "absent", name, f"{error}: {remedy}"))
        except (TinylmError, OSError) as error:
            rows.append(("broken" if needed else "absent", name, str(error)))
    show(rows)
    return 1 if any(state == "broken" for state, _, _ in rows) else 0


if __name__ == "__main__":
    console.run(main)
