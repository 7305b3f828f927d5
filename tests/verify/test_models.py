"""Every registered layer and model equals its PyTorch twin, on the CPU and on a GPU or its emulation."""

import inspect
from typing import Any

import pytest

from tinylm import models, nn
from tinylm.models import classifier, translator
from tinylm.verify import compare, twins_of
from tinylm.verify.models import MODELS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_the_twins_are_equal(name: str, dtype: str) -> None:
    ours, theirs, batch = twins_of(name)
    report = compare(ours, theirs, batch, dtype=dtype)
    assert report.ok, report
    assert {row.name for row in report.rows} >= {f"gradient of {path}" for path, _ in ours.named_parameters()}


def test_every_neural_model_is_registered() -> None:
    """Only the ensemble of language models is left out, since it has no forward: tests/models/test_ensemble.py compares it."""
    kinds = {kind for module in (models, classifier, translator) for _, kind in inspect.getmembers(module, inspect.isclass)}
    neural = {k for k in kinds if issubclass(k, nn.Module) and k.forward is not nn.Module.forward and not k.__subclasses__()}
    registered = {type(builder(lambda kind: kind)[0]) for builder in MODELS.values()}
    assert {k.__qualname__ for k in neural - registered} == set()


@pytest.mark.parametrize("name", ["gpt", "lstm_classifier", "recurrent_translator"])
def test_on_a_gpu(cuda: Any, name: str) -> None:
    ours, theirs, batch = twins_of(name)
    report = compare(ours.to("cuda"), theirs, batch, dtype="float32")
    assert report.ok, report
