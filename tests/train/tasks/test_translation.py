"""Training runs of translators: learning, resuming, loading, and what is refused."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm import ops
from tinylm.data.pairs import Pairs
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError, ConfigError, DataError
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.train import Run, load_run
from tinylm.train.tasks.language_model_config import default_config as language_model_config
from tinylm.train.tasks.latent_semantics import latent_embedding
from tinylm.train.tasks.translation import TranslationRun, load_translator, read_translation
from tinylm.train.tasks.translation_config import TranslationConfig, default_config

ANIMALS = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
DOES = {"sleeps": "duerme", "eats": "come", "runs": "corre", "sings": "canta"}
TWENTY = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
PAIRS = Pairs(TWENTY, TWENTY[:7], TWENTY[7:9], 0, "")
MODELS = pytest.mark.parametrize("model", ["transformer", "lstm"])


def config(model: str, **changed: Any) -> TranslationConfig:
    small = {
        "bpe_size": 300, "block_size": 24, "n_layer": 1, "n_head": 2, "n_embd": 32, "n_hidden": 32, "batch_tokens": 64, "dropout": 0.1,
        "steps": 8, "schedule_steps": 8, "warmup": 2, "log_every": 3, "eval_every": 5, "save_every": 4,
    }  # fmt: skip
    return dataclasses.replace(default_config(model), **{**small, **changed})


@MODELS
def test_twenty_pairs_are_memorised(model: str, tmp_path: Path) -> None:
    steps = 300 if model == "transformer" else 1000
    settings = config(
        model, dropout=0.0, label_smoothing=0.0, n_embd=64, steps=steps, schedule_steps=steps, lr=5e-3, eval_every=steps, save_every=steps
    )  # fmt: skip
    summary = TranslationRun(settings, tmp_path / "run", PAIRS).train()
    assert summary is not None
    translator = load_translator(tmp_path / "run")
    for beams in (1, 4):
        assert [translator.translate(source, beams) for source, _ in TWENTY] == [target for _, target in TWENTY]
    assert summary["val_loss"] < 0.05
    assert summary["val_nats_per_byte"] < summary["val_loss"]


@MODELS
def test_a_resumed_run_is_the_same_run_bit_for_bit(model: str, tmp_path: Path) -> None:
    TranslationRun(config(model), tmp_path / "whole", PAIRS).train()
    first = TranslationRun(config(model, steps=3), tmp_path / "parts", PAIRS)
    first.train()  # and validates and saves where the whole run does not
    resumed = TranslationRun(config(model), tmp_path / "parts", PAIRS, resume=True)
    assert resumed.progress.step == 3
    resumed.train()
    for name in ("model.safetensors", "checkpoints/best.safetensors"):
        whole, parts = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
        assert whole == parts
    for run in ("whole", "parts"):
        assert {p.name for p in (tmp_path / run).iterdir()} == {
            "config.json", "data.json", "lock", "metrics.jsonl", "summary.json", "model.safetensors", "checkpoints",
        }  # fmt: skip
    losses = [
        [r["val_loss"] for r in map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines()) if "val_loss" in r]
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1][1:]
    assert len(losses[0]) == 2


def test_other_seeds_give_other_models(tmp_path: Path) -> None:
    for seed in (0, 1):
        TranslationRun(config("lstm", seed=seed), tmp_path / str(seed), PAIRS).train()
    assert (tmp_path / "0/model.safetensors").read_bytes() != (tmp_path / "1/model.safetensors").read_bytes()


@MODELS
def test_the_validation_loss_is_the_mean_over_all_tokens(model: str, tmp_path: Path) -> None:
    run = TranslationRun(config(model), tmp_path / "run", PAIRS)
    found = run.task.validation_loss()
    assert run.model.training
    run.model.eval()
    total = count = 0.0
    for source, target in PAIRS.validation:
        s, t = run.task.vocabulary.encode(source), run.task.vocabulary.encode(target)
        t_in = np.append(run.task.vocabulary.bos, t[:-1])
        logits = run.model(Tensor(s[None]), np.array([len(s)]), Tensor(t_in[None]))
        total += float(ops.nll_loss(ops.log_softmax(logits), Tensor(t[None]), reduction="sum").data)
        count += len(t)
    assert found == pytest.approx(total / count, rel=1e-5)


def test_the_training_loss_is_smoothed_and_ignores_padding(tmp_path: Path) -> None:
    run = TranslationRun(config("transformer", dropout=0.0, label_smoothing=0.3, batch_tokens=256), tmp_path / "run", PAIRS)
    batch = run.task.batches[0]
    assert (batch.target_out == run.task.vocabulary.pad).any()
    logits = run.model(Tensor(batch.source), batch.source_lengths, Tensor(batch.target_in.copy())).data.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    one_hot = np.eye(run.task.vocabulary.size)[batch.target_out]
    losses = -((0.7 * one_hot + 0.3 / run.task.vocabulary.size) * log_p).sum(-1)
    loss, _ = run.train_step(0)
    assert float(loss) == pytest.approx(losses[batch.target_out != run.task.vocabulary.pad].mean(), rel=1e-5)


def test_long_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    pairs = dataclasses.replace(PAIRS, train=[*TWENTY, ("x " * 30, "y"), ("x", "y " * 30)], validation=[*TWENTY[:3], ("z " * 30, "z")])
    run = TranslationRun(config("lstm", copy=0.0), tmp_path / "run", pairs)
    assert run.task.too_long == 3
    assert len(run.task.batches.pairs) == 20
    with pytest.raises(DataError, match="no pair of the training or validation part has at most block_size 2 tokens"):
        TranslationRun(config("lstm", block_size=2), tmp_path / "none", PAIRS)


def test_a_source_longer_than_the_block_is_refused(tmp_path: Path) -> None:
    TranslationRun(config("lstm", steps=1), tmp_path / "run", PAIRS).train()
    translator = load_translator(tmp_path / "run")
    fits = "u" * 23  # a letter of the sources; a word with an unknown one is copied, and one token
    assert translator.fits(fits)
    translator.translate(fits)
    assert not translator.fits(fits + "u")
    with pytest.raises(DataError, match=r"the source has 25 tokens, its end included: expected at most 24 \(block_size\)"):
        translator.translate(fits + "u")
    with pytest.raises(DataError, match="no text to translate"):
        translator.translate(" ")


def test_a_stopped_run_can_be_used(tmp_path: Path) -> None:
    run = TranslationRun(config("transformer"), tmp_path / "run", PAIRS)
    run.stop_requested = True
    assert run.train() is None
    assert isinstance(load_translator(tmp_path / "run").translate("The cat."), str)
    assert isinstance(load_translator(tmp_path / "run").model, Translator)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    run = TranslationRun(config("transformer", log_every=1), tmp_path / "run", PAIRS)
    run.model.embedding.weight.data[3] = np.nan
    with pytest.raises(AnomalyError, match=r"(loss|norm).*nan"):
        run.train()


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    TranslationRun(config("lstm", steps=1), tmp_path / "mt", PAIRS).train()
    with pytest.raises(CheckpointError, match="was trained for another task: translation, expected language modeling"):
        load_run(tmp_path / "mt")
    with pytest.raises(CheckpointError, match="holds a run already"):
        TranslationRun(config("lstm"), tmp_path / "mt", PAIRS)
    lm = dataclasses.replace(language_model_config("gpt"), n_layer=1, n_embd=8, block_size=4, steps=1)
    Run(lm, tmp_path / "lm", "a small text of some length. " * 20).train()
    for folder, message in ((tmp_path / "lm", "was trained for another task"), (tmp_path / "no", "no run folder")):
        with pytest.raises(CheckpointError, match=message):
            load_translator(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r["train"].update(n_layer="two"), "n_layer is 'two'"),
        (lambda r: r["train"].update(model="gpt"), "model is 'gpt'"),
        (lambda r: r["train"].pop("lr"), "does not fit"),
        (lambda r: r["train"].update(n_embd=64), "does not hold the model that config.json describes"),
        (lambda r: r.update(tokenizer={"kind": "char", "characters": "ab"}), "its tokenizer is 'char', expected 'bpe'"),
        (lambda r: r.update(tokenizer=None), "is damaged"),
    ],
)
def test_damaged_configs_are_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    TranslationRun(config("lstm", steps=1), tmp_path, PAIRS).train()
    record = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    spoil(record)
    (tmp_path / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_translator(tmp_path)


def test_settings_are_stored_and_checked(tmp_path: Path) -> None:
    run = TranslationRun(config("lstm"), tmp_path, PAIRS)
    assert isinstance(run.model, RecurrentTranslator)
    stored, vocabulary = read_translation(tmp_path)
    assert stored == config("lstm")
    np.testing.assert_array_equal(vocabulary.encode("El lobo."), run.task.vocabulary.encode("El lobo."))
    for bad in ({"batch_tokens": 0}, {"steps": -1}, {"lr": -1.0}, {"lr": math.nan}, {"label_smoothing": 1.0}, {"clip": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            config("lstm", **bad)
    with pytest.raises(ConfigError, match="model 'gru': expected one of transformer, lstm"):
        default_config("gru")


def test_what_the_embedding_starts_as(tmp_path: Path) -> None:
    """Tokens of the pairs start with their latent vectors, other tokens with random ones; a resume computes none."""
    latent, random = (TranslationRun(config("transformer", embedding=e), tmp_path / e, PAIRS) for e in ("latent", "random"))
    a, b = latent.model.embedding.weight.data, random.model.embedding.weight.data
    pairs = [np.concatenate([latent.task.vocabulary.encode(text) for text in pair]) for pair in TWENTY]
    expected = latent_embedding(pairs, *a.shape, seed=0)
    known = expected.any(axis=1)
    assert 10 < known.sum() < len(a)
    np.testing.assert_allclose(a[known], expected[known], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(a[~known], b[~known])
    for (name, p), (_, q) in zip(latent.model.named_parameters(), random.model.named_parameters(), strict=True):
        assert name == "embedding.weight" or np.array_equal(p.data, q.data)
