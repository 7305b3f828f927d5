"""Training a language model with PyTorch gives what tinylm's training gives, and a difference would be noticed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.errors import ConfigError
from tinylm.models import LanguageModel
from tinylm.nn import PositionalEncoding
from tinylm.train import Run, TrainConfig, default_config, load_run
from tinylm.train.metrics import read_metrics
from tinylm.train.tasks import language_modeling
from tinylm.train.tasks.language_model_config import build_model
from tinylm.verify.torch.models import TorchPositionalEncoding
from tinylm.verify.torch.training import TorchRun

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
SMALL: dict[str, Any] = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 16, "block_size": 12, "batch_size": 4, "steps": 12, "schedule_steps": 14,
    "warmup": 3, "lr": 1e-2, "clip": 0.4, "dropout": 0.0, "log_every": 1, "eval_every": 6,
}  # fmt: skip
TOLERANCES = {"float64": 1e-9, "float32": 2e-3}  # twelve steps of Adam amplify the rounding of float32
KINDS: dict[str, dict[str, Any]] = {
    "gpt": {"bias": True}, "llama": {}, "transformer": {}, "rnn": {"nonlinearity": "relu"}, "lstm": {}, "gru": {},
}  # fmt: skip


def configured(model: str, **changed: Any) -> TrainConfig:
    return dataclasses.replace(default_config(model), **SMALL | KINDS.get(model, {}) | changed)


def train(kind: type[Run], config: TrainConfig, folder: Path) -> tuple[Run, list[dict[str, Any]]]:
    """Returns (the run, its training records)."""
    records: list[dict[str, Any]] = []
    run = kind(config, folder, TEXT)
    run.train(records.append)
    return run, [record for record in records if "loss" in record]


def distance(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str) -> float:
    """Returns the largest relative difference between the two in one column."""
    a, b = ([record[name] for record in records] for records in (ours, theirs))
    assert len(a) == len(b) == SMALL["steps"]
    return float(np.max(np.abs(np.subtract(a, b)) / np.abs(b)))


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes models be built in this dtype, and returns it."""

    def build(config: TrainConfig, size: int) -> LanguageModel:
        return build_model(config, size).to(dtype=request.param)

    monkeypatch.setattr(language_modeling, "build_model", build)
    return request.param


@pytest.mark.parametrize("model", KINDS)
def test_the_runs_are_equal(model: str, dtype: str, tmp_path: Path) -> None:
    """Compares every loss, gradient norm and learning rate, the validation loss and the final weights; a recurrent
    model's state is carried from batch to batch."""
    config = configured(model)
    (ours, our_records), (theirs, their_records) = train(Run, config, tmp_path / "a"), train(TorchRun, config, tmp_path / "b")
    assert our_records[-1]["loss"] < 0.95 * our_records[0]["loss"]
    for name in ("loss", "grad_norm"):
        assert distance(our_records, their_records, name) < TOLERANCES[dtype], name
    assert [record["lr"] for record in our_records] == [record["lr"] for record in their_records]
    assert theirs.progress.val_loss == pytest.approx(ours.progress.val_loss, rel=TOLERANCES[dtype])
    for (name, a), (_, b) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-8 if dtype == "float64" else 5e-3, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_samples_are_those_of_the_weights_that_pytorch_has_reached(dtype: str, tmp_path: Path) -> None:
    """Between validations, too."""
    said = []
    for kind, folder in ((Run, tmp_path / "a"), (TorchRun, tmp_path / "b")):
        kind(configured("gpt", sample_every=4), folder, TEXT).train()
        said.append([record["sample"] for record in read_metrics(folder / "metrics.jsonl") if "sample" in record])
    assert said[0] == said[1]
    assert len(set(said[0])) == 3


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
@pytest.mark.parametrize(
    "changed", [{"weight_decay": 0.2}, {"clip": 0.38}, {"lr": 1.01e-2}, {"warmup": 4}, {"seed": 1}, {"dropout": 0.05}, {"beta2": 0.98}],
    ids=str,
)  # fmt: skip
def test_a_difference_is_noticed(changed: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    (_, ours) = train(Run, configured("gru"), tmp_path / "a")
    (_, theirs) = train(TorchRun, configured("gru", **changed), tmp_path / "b")
    assert distance(ours, theirs, "loss") > 1000 * TOLERANCES[dtype]


def test_the_folder_is_that_of_a_language_model(tmp_path: Path) -> None:
    run, _ = train(TorchRun, configured("lstm", dropout=0.1, input_dropout=0.2), tmp_path / "run")
    model, _, config = load_run(tmp_path / "run")
    assert config == run.config
    for name, p in model.named_parameters():  # type: ignore[union-attr]
        np.testing.assert_array_equal(p.data, run.torch_model.state_dict()[name].numpy())  # type: ignore[attr-defined]


def test_what_pytorch_does_not_train(tmp_path: Path) -> None:
    for model, changed, message in (
        ("ngram", {}, "model 'ngram': PyTorch has none"),
        ("rnn", {"nonlinearity": "sigmoid"}, "nonlinearity 'sigmoid': PyTorch has none"),
        ("gru", {"members": 2}, "members is 2: expected 1"),
        ("gru", {"dropout_ramp": 10}, "dropout_ramp is 10: expected 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            TorchRun(configured(model, **changed), tmp_path / "run", TEXT)
    assert not (tmp_path / "run").exists()


def test_the_positions_of_the_twins() -> None:
    """From the formula, not from tinylm's weights: sines and cosines as `nn.PositionalEncoding` has them."""
    for width in (6, 7):
        ours, theirs = PositionalEncoding(width, 0.1, 50), TorchPositionalEncoding(width, 0.1, 50)
        np.testing.assert_allclose(theirs.pe.numpy().reshape(50, width), ours.pe.data.reshape(50, width), rtol=1e-5, atol=1e-5)
