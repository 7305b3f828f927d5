"""Checks of gradients: with finite differences, with PyTorch where it is installed, and with gradients from files."""

import importlib
from typing import Any

from tinylm.errors import ConfigError
from tinylm.verify.finite_differences import gradcheck
from tinylm.verify.gradient_files import compare_gradients, save_gradients
from tinylm.verify.module_checks import check_module
from tinylm.verify.reports import Report
from tinylm.verify.samples import Sample, samples_of

_NEED_TORCH = {  # name -> the module of verify/torch/ that has it, imported when it is first used
    "compare": "parity",
    "compare_op": "op_parity",
    "drift": "training_drift",
    "twins_of": "twins",
    "twins_of_pretrained": "hugging_face_twins",
}

__all__ = ["Report", "Sample", "check_module", "compare_gradients", "gradcheck", "samples_of", "save_gradients", *_NEED_TORCH]


def __getattr__(name: str) -> Any:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'tinylm.verify' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"tinylm.verify.torch.{_NEED_TORCH[name]}"), name)
    except ModuleNotFoundError as error:
        missing = {"torch": "PyTorch", "transformers": "transformers"}.get(error.name or "")
        if missing is None:
            raise
        raise ConfigError(f"{missing} is not installed: pip install 'tinylm[test]'") from error


def __dir__() -> list[str]:
    return sorted(__all__)
