"""Measures a run folder: its arrays, losses, texts and scores, in a form that JSON keeps exactly."""

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

RUNS = Path(__file__).parent
MEASURED = ("step", "member", "epoch", "loss", "val_loss", "lr", "grad_norm")  # the rest are times and memory


def machine() -> dict[str, str]:
    """Returns what the rounding of the numbers depends on: the processor, NumPy, and the kernels' compiler with its target."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        info = ""
    found = [re.search(rf"^{name}\s*: (.*)$", info, re.MULTILINE) for name in ("model name", "cpu family", "model")]
    processor = ", ".join(match[1] for match in found if match) or platform.processor()
    kernels = [os.environ.get(name, "") for name in ("TINYLM_KERNELS", "TINYLM_CPU_TARGET", "OPENBLAS_CORETYPE")]
    compiler = shlex.split(os.environ.get("CC") or "cc")
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        version = ""
    return {"processor": processor, "numpy": np.__version__, "compiler": version, "kernels": " ".join(kernels).strip()}


def newest(folder: Path) -> Path:
    """Returns the checkpoint that a resume continues from."""
    found = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    return found[-1] if found else folder / "checkpoints" / "last.safetensors"  # the latter in format 1


def arrays_of(path: Path) -> dict[str, str]:
    """Returns SHA-256, norm and two projections of each array in a checkpoint.

    A projection is the product with random signs. The projection of a difference is about as large as its norm,
    so that two arrays can be compared within a tolerance though only one of them is available.
    """
    measured = {}
    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            array = file.get_tensor(name)
            digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
            values = array.astype(np.float64).ravel()
            signs = np.random.Generator(np.random.Philox(key=values.size)).choice([-1.0, 1.0], (2, values.size))
            measured[name] = " ".join([digest, *(f"{x:.10g}" for x in (np.sqrt(values @ values), *(signs @ values)))])
    return measured


def losses_of(folder: Path) -> list[dict[str, float]]:
    """Returns the lines of metrics.jsonl without times and memory."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: record[name] for name in MEASURED if name in record} for record in map(json.loads, lines)]


def summary_of(folder: Path) -> dict[str, Any]:
    """Returns summary.json without times."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {name: value for name, value in summary.items() if name not in ("train_seconds", "tokens_per_second")}


def scores_of(folder: Path, texts: list[str]) -> list[float]:
    """Returns the log-probability of each text under a language model, or its logit from a classifier."""
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("task") == "classification":
        from tinylm.data.labelled import encode_words

        # in the commits that make.py and make_format_1.py run, from before the move, it is elsewhere
        place = "tinylm.train.tasks" if find_spec("tinylm.train.tasks") else "tinylm.train"
        classification = import_module(f"{place}.classification")
        model, tokenizer, _ = classification.load_classifier(folder)
        return [float(classification.logits_of(model, [encode_words(tokenizer, text)])[0]) for text in texts]
    from tinylm.decode import score_text
    from tinylm.train import load_run

    language_model, its_tokenizer, _ = load_run(folder)
    return [float(score_text(language_model, its_tokenizer, text).log_probability) for text in texts]
