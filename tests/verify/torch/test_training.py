"""Training with PyTorch gives what tinylm's training gives, and a difference would be noticed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.data.pairs import Pairs
from tinylm.errors import CheckpointError, ConfigError
from tinylm.models.translator import TranslationModel
from tinylm.train.tasks import translation
from tinylm.train.tasks.translation import TranslationRun, load_translator
from tinylm.train.tasks.translation_config import TranslationConfig, build_translator, default_config
from tinylm.verify.torch.training import TorchTranslationRun

ANIMALS = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
DOES = {"sleeps": "duerme", "eats": "come", "runs": "corre", "sings y no calla": "canta"}
TWENTY = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
PAIRS = Pairs(TWENTY, TWENTY[:7], TWENTY[7:9], 0, "")
TOLERANCES = {"float64": 1e-9, "float32": 2e-3}
CONFIG = dataclasses.replace(
    default_config("transformer"), bpe_size=300, block_size=32, n_layer=2, n_head=2, n_embd=16, n_hidden=24, batch_tokens=64,
    dropout=0.0, weight_decay=0.1, clip=2.2, steps=12, schedule_steps=14, warmup=3, log_every=1, eval_every=12, save_every=12,
)  # fmt: skip


def train(kind: type[TranslationRun], folder: Path, **changed: Any) -> tuple[TranslationRun, list[dict[str, Any]]]:
    """Returns (the run, its training records)."""
    records: list[dict[str, Any]] = []
    run = kind(dataclasses.replace(CONFIG, **changed), folder, PAIRS)
    run.train(records.append)
    return run, [record for record in records if "loss" in record]


def distance(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str) -> float:
    """Returns the largest relative difference between the two in one column."""
    a, b = ([record[name] for record in records] for records in (ours, theirs))
    assert len(a) == len(b) == CONFIG.steps
    return float(np.max(np.abs(np.subtract(a, b)) / np.abs(b)))


def build_in(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes models be built in this dtype from now on."""

    def build(config: TranslationConfig, size: int) -> TranslationModel:
        return build_translator(config, size).to(dtype=dtype)

    monkeypatch.setattr(translation, "build_translator", build)


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes models be built in this dtype, and returns it."""
    build_in(request.param, monkeypatch)
    return request.param


def test_the_runs_are_equal(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loss, gradient norm and learning rate, the validation loss and the final weights.

    The gradient of the keys' bias is zero but for rounding, and Adam's steps do not depend on a gradient's size: in float32 this bias
    follows the rounding errors of the processor. So the distance of each weight array from PyTorch's run in float64 may be ten times
    that of PyTorch's own run in float32, which is 0.002 for these biases and 0.000002 for the other arrays.
    """
    (ours, our_records), (theirs, their_records) = train(TranslationRun, tmp_path / "a"), train(TorchTranslationRun, tmp_path / "b")
    assert our_records[-1]["loss"] < 0.9 * our_records[0]["loss"]
    clipped = [record["grad_norm"] > CONFIG.clip for record in our_records]
    assert any(clipped)  # only sometimes: Adam would not notice a constant scale
    assert not all(clipped)
    for name in ("loss", "grad_norm"):
        assert distance(our_records, their_records, name) < TOLERANCES[dtype]
    assert [record["lr"] for record in our_records] == [record["lr"] for record in their_records]
    assert theirs.progress.val_loss == pytest.approx(ours.progress.val_loss, rel=TOLERANCES[dtype])
    build_in("float64", monkeypatch)
    exact, _ = train(TorchTranslationRun, tmp_path / "c")
    parameters = zip(*(run.model.named_parameters() for run in (ours, theirs, exact)), strict=True)
    for (name, a), (_, b), (_, e) in parameters:
        assert a.dtype == b.dtype == dtype
        drift = float(np.linalg.norm(b.data - e.data))
        assert np.linalg.norm(a.data - e.data) <= (1e-8 if dtype == "float64" else 10 * max(drift, 1e-7)), name


@pytest.mark.parametrize(
    "changed",
    [
        {"label_smoothing": 0.11},
        {"weight_decay": 0.2},
        {"clip": 2.1},
        {"lr": 1.01e-3},
        {"warmup": 4},
        {"seed": 1},
        {"dropout": 0.05},
        {"matrix_lr": 0.0201},
        {"optimizer": "adamw"},
    ],
)
@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_a_difference_is_noticed(changed: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    (_, ours), (_, theirs) = train(TranslationRun, tmp_path / "a"), train(TorchTranslationRun, tmp_path / "b", **changed)
    assert distance(ours, theirs, "loss") > 1000 * TOLERANCES[dtype]


def test_the_folder_is_that_of_a_translator(tmp_path: Path) -> None:
    run, _ = train(TorchTranslationRun, tmp_path / "run", dropout=0.1)
    translator = load_translator(tmp_path / "run")
    for name, p in translator.model.named_parameters():
        np.testing.assert_array_equal(p.data, run.torch_model.state_dict()[name].numpy())
    assert isinstance(translator.translate(TWENTY[0][0]), str)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["steps"] == CONFIG.steps
    assert summary["val_loss"] == run.task.validation_loss()
    with pytest.raises(CheckpointError, match=r"holds no checkpoint"):
        TranslationRun(run.config, tmp_path / "run", PAIRS, resume=True)


def test_the_same_seed_gives_the_same_dropout(tmp_path: Path) -> None:
    losses = [[r["loss"] for r in train(TorchTranslationRun, tmp_path / name, dropout=0.1)[1]] for name in ("a", "b")]
    assert losses[0] == losses[1]


def test_only_the_transformer_has_a_twin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model 'lstm': expected 'transformer'"):
        TorchTranslationRun(default_config("lstm"), tmp_path / "run", PAIRS)
    assert not (tmp_path / "run").exists()
