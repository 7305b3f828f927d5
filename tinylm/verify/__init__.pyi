"""What tinylm.verify gives, for editors and type checkers: also what needs PyTorch, which is imported when first used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylm.models import GPT, Llama
from tinylm.nn import Module
from tinylm.verify.finite_differences import gradcheck as gradcheck
from tinylm.verify.gradient_files import compare_gradients as compare_gradients
from tinylm.verify.gradient_files import save_gradients as save_gradients
from tinylm.verify.module_checks import check_module as check_module
from tinylm.verify.reports import Drift
from tinylm.verify.reports import Report as Report
from tinylm.verify.samples import Sample as Sample
from tinylm.verify.samples import samples_of as samples_of

def compare(
    model: Module,
    torch_model: Any,
    batch: Sequence[Any] | Mapping[str, Any],
    *,
    dtype: str = "float64",
    tolerance: float | None = None,
    seed: int = 0,
) -> Report: ...
def compare_op(name: str, sample: Sample, *, order: int = 1, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report: ...
def drift(model: Module, torch_model: Any, batch: Any, steps: int, *, dtype: str = "float32", seed: int = 0) -> Drift: ...
def twins_of(name: str) -> tuple[Module, Any, Any]: ...
def twins_of_pretrained(path: Path) -> tuple[GPT | Llama, Any, list[Any]]: ...
