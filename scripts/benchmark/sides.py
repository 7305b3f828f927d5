"""The sides of a comparison: which library runs a workload, and how."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from benchmark.workloads import Workload

PRECISIONS = ("float32", "bfloat16")
INSTALL_LLAMA_CPP = "pip install llama-cpp-python"


@dataclass(frozen=True)
class Way:
    """How a side runs. numbers: what its products are made of, "stored" being the weights as a GGUF file has them. A side is compared
    with those of the same numbers."""

    title: str
    library: Literal["tinylm", "torch", "llama_cpp"]
    numbers: Literal["float32", "bfloat16", "stored"] = "float32"
    compiled: bool = False  # PyTorch: through torch.compile


SIDES = {
    "tinylm": Way("tinylm", "tinylm"),
    "torch": Way("PyTorch", "torch"),
    "compiled": Way("PyTorch, compiled", "torch", compiled=True),
    "tinylm-bfloat16": Way("tinylm, bfloat16", "tinylm", "bfloat16"),
    "autocast": Way("PyTorch, autocast", "torch", "bfloat16"),
    "compiled-autocast": Way("PyTorch, compiled autocast", "torch", "bfloat16", compiled=True),
    "tinylm-stored": Way("tinylm, stored weights", "tinylm", "stored"),
    "llama.cpp": Way("llama.cpp", "llama_cpp", "stored"),
}


def sides_of(work: Workload, device: str, against: bool, precision: str | None) -> list[str]:
    """Returns the sides that measure a workload: in both precisions for training, or in the one given; in float32 for generation; from
    the file with the stored weights too, on a CPU. against: not tinylm alone."""
    numbers = {"float32"} if work.prompt else {precision} if precision else set(PRECISIONS)
    if work.stored and device == "cpu":
        numbers.add("stored")
    return [name for name, way in SIDES.items() if way.numbers in numbers and (against or way.library == "tinylm")]


def missing(side: str) -> str | None:
    """Returns why a side cannot run here, for want of a package that only it needs; None if it can."""
    if SIDES[side].numbers != "stored":
        return None
    if SIDES[side].library == "llama_cpp" and importlib.util.find_spec("llama_cpp") is None:
        return f"llama-cpp-python is not installed: {INSTALL_LLAMA_CPP}"
    from tinylm.errors import CheckpointError  # imported here: a process that measures a side also measures the import of tinylm
    from tinylm.pretrained.model_loading import smollm2_file

    try:
        smollm2_file()
    except CheckpointError as error:
        return str(error)
    return None
