"""The settings that nobody has to give: a default that changes changes what every run does that does not name it."""

import dataclasses
from typing import Any

import pytest

from tinylm.errors import ConfigError
from tinylm.models import GPTConfig, LlamaConfig
from tinylm.train.tasks import classifier_config, language_model_config, translation_config
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.fine_tuning import ADAPTERS, FINE_TUNING, PRETRAINED
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.presets import PRESETS, preset
from tinylm.train.tasks.settings import Settings, UpdateSettings
from tinylm.train.tasks.token_losses import VALIDATION_ROWS
from tinylm.train.tasks.translation_config import TranslationConfig

LOOP = {
    "device": "cpu", "warmup": 100, "clip": 1.0, "log_every": 10, "eval_every": 500, "save_every": 500, "save_minutes": 10.0, "keep": 3,
    "ema": 0.0, "patience": 0, "precision": "float32", "eval_tokens": 0, "sample_every": 0,
}  # fmt: skip
GPT = {
    "model": "gpt", "data": "tinyshakespeare", "encoding": "utf-8", "init": "", "lora_rank": 0, "lora_alpha": 16.0,
    "valid": "", "test": "", "extend_vocabulary": False, "weights": "stored", "tokenizer": "char", "min_count": 2,
    "bpe_size": 1024, "block_size": 64, "n_layer": 4, "n_head": 4, "n_kv_head": 2, "rope_theta": 10000.0, "n_embd": 128,
    "n_hidden": 512, "input_dropout": 0.0, "dropout_ramp": 0, "bias": False, "nonlinearity": "tanh", "members": 1, "order": 7,
    "batch_size": 12, "accumulate": 1, "checkpoint_activations": False, "beta1": 0.9, "beta2": 0.99, "seed": 0, "dropout": 0.0, "lr": 1e-3,
    "weight_decay": 0.1, **LOOP, "steps": 2000, "schedule_steps": 2000, "min_lr": 1e-4,
}  # fmt: skip
LSTM = {
    **GPT, "model": "lstm", "n_layer": 2, "n_embd": 256, "n_hidden": 256, "batch_size": 32, "dropout": 0.1, "lr": 3e-3,
    "weight_decay": 0.01, "steps": 1000, "schedule_steps": 1000,
}  # fmt: skip
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "gpt": GPT,
    "llama": {**GPT, "n_hidden": 344},
    "transformer": {**GPT, "dropout": 0.05},
    "rnn": {**LSTM, "lr": 1e-3, "steps": 3000, "schedule_steps": 3000},
    "lstm": LSTM,
    "gru": LSTM,
    "ngram": {**GPT, "steps": 1, "schedule_steps": 1, "warmup": 0},
}
TRANSFORMER = {
    **LOOP, "valid": "", "test": "", "data": "web-rv1909", "encoding": "utf-8", "bpe_size": 2048, "copy": 0.05, "lower": False,
    "block_size": 128,
    "n_layer": 2, "n_head": 4, "n_embd": 128, "n_hidden": 384, "batch_tokens": 1024, "label_smoothing": 0.1, "embedding": "latent",
    "optimizer": "muon", "matrix_lr": 0.02, "seed": 0, "dropout": 0.1, "lr": 2e-3, "min_lr": 1e-5, "weight_decay": 0.01, "steps": 7000,
    "schedule_steps": 7000, "warmup": 200, "eval_every": 1000, "save_every": 1000,
}  # fmt: skip
TRANSLATORS: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "lstm": {**TRANSFORMER, "n_embd": 192, "dropout": 0.2, "steps": 6600, "schedule_steps": 6600},
}
LINEAR = {
    "data": "uci-sentences", "encoding": "utf-8", "split": 0, "valid": "", "test": "", "folds": 10, "class_weights": "", "patience": 3,
    "members": 5, "min_count": 1, "width": 8, "buckets": 65536, "hidden": 64,
    "layers": 1, "heads": 4, "word_dropout": 0.3, "epochs": 12, "batch_size": 32, "seed": 0, "dropout": 0.0, "lr": 3e-2,
    "weight_decay": 0.0, "precision": "float32",
}  # fmt: skip
BAG = {**LINEAR, "members": 3, "dropout": 0.2, "lr": 1e-2, "weight_decay": 0.1}
SEQUENCE = {**BAG, "members": 5, "width": 32, "min_count": 2, "epochs": 8}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "linear": LINEAR,
    "bag": BAG,
    "lstm": {**SEQUENCE, "hidden": 32, "dropout": 0.5},
    "transformer": {**SEQUENCE, "dropout": 0.3, "lr": 4e-3},
}
TASKS = [
    (language_model_config, TrainConfig, LANGUAGE_MODELS),
    (translation_config, TranslationConfig, TRANSLATORS),
    (classifier_config, ClassifierConfig, CLASSIFIERS),
]


@pytest.mark.parametrize(("module", "of", "models"), TASKS)
def test_the_settings_of_every_model(module: Any, of: type[Settings], models: dict[str, dict[str, Any]]) -> None:
    """As --help and the READMEs tell them."""
    assert of.model_defaults.keys() == models.keys()
    for model, settings in models.items():
        assert module.default_config(model).to_json() == {**settings, "model": model}
    assert of() == module.default_config(next(iter(models)))
    with pytest.raises(ConfigError, match="model 'none': expected one of"):
        module.default_config("none")


def test_the_settings_of_any_training_by_gradients() -> None:
    assert UpdateSettings().to_json() == {"seed": 0, "dropout": 0.0, "lr": 1e-3, "weight_decay": 0.1, "precision": "float32"}


OLD_LOOP = {"precision": "float32", "save_minutes": 0.0, "keep": 1, "ema": 0.0, "patience": 0}


OLD = [
    (TrainConfig, {
        **OLD_LOOP, "min_count": 2, "bpe_size": 1024, "n_hidden": 512, "nonlinearity": "tanh", "order": 7, "dropout_ramp": 0,
        "members": 1, "encoding": "utf-8", "accumulate": 1, "checkpoint_activations": False, "n_kv_head": 2, "rope_theta": 10000.0,
        "init": "", "lora_rank": 0, "lora_alpha": 16.0, "weights": "float32", "input_dropout": 0.0,
    }),
    (TranslationConfig, {**OLD_LOOP, "optimizer": "adamw", "matrix_lr": 0.02, "embedding": "random", "encoding": "utf-8"}),
    (ClassifierConfig, {
        "precision": "float32", "encoding": "utf-8", "valid": "", "test": "", "folds": 0, "class_weights": "", "patience": 0,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("of", "old"), OLD)
def test_a_setting_that_an_old_run_does_not_name_is_what_such_runs_did(of: type[Settings], old: dict[str, Any]) -> None:
    """Not the default of today, which may be another."""
    record = of().to_json()
    assert of.from_json({name: value for name, value in record.items() if name not in old}).to_json() == {**record, **old}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("best-10min", {"members": 2}),
        ("best-20min", {"members": 4}),
    ],
)
def test_the_presets_are_those_of_presets_md(name: str, changes: dict[str, Any]) -> None:
    recipe = {
        **LSTM, "model": "gru", "n_embd": 64, "n_hidden": 384, "block_size": 50, "batch_size": 32, "lr": 3e-3, "min_lr": 0.0, "warmup": 100,
        "dropout": 0.35, "weight_decay": 0.15, "eval_every": 500, "save_every": 500, "precision": "bfloat16", "steps": 6500,
        "schedule_steps": 6800, "dropout_ramp": 6800,
    }  # fmt: skip
    assert preset(name).to_json() == {**recipe, **changes}
    assert list(PRESETS) == ["best-10min", "best-20min"]


def test_the_settings_of_fine_tuning() -> None:
    assert FINE_TUNING == {
        "block_size": 256, "batch_size": 4, "lr": 5e-5, "min_lr": 5e-6, "warmup": 20, "weight_decay": 0.01, "steps": 200,
        "schedule_steps": 200, "eval_every": 50, "save_every": 50, "log_every": 5,
    }  # fmt: skip
    assert ADAPTERS == {"lr": 1e-3, "min_lr": 1e-4}
    assert PRETRAINED == {"eval_tokens": 16_384}


def test_the_shapes_of_pretrained_models() -> None:
    shape = {"vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "norm_eps": 1e-5}
    assert dataclasses.asdict(GPTConfig()) == {**shape, "bias": False, "activation": "gelu", "tied": True}
    assert dataclasses.asdict(LlamaConfig()) == {
        **shape, "n_kv_head": 2, "head_dim": None, "n_hidden": 384, "rope_theta": 10000.0, "rope_pairing": "half", "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tied": True,
    }  # fmt: skip


def test_how_many_rows_a_validation_reads_at_once() -> None:
    """Of a recurrent model it decides where a long text is cut into streams, and so the last digits of every loss."""
    assert VALIDATION_ROWS == 32
