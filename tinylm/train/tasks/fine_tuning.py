"""Runs that go on from a trained model: the settings that `--init` brings."""

import dataclasses
from pathlib import Path
from typing import Any

from tinylm.errors import ConfigError
from tinylm.models import GPT, LanguageModel, Llama
from tinylm.pretrained.model_loading import architecture_of, find_pretrained
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, default_config
from tinylm.train.tasks.loading import read_config, read_record

FINE_TUNING = {"block_size": 256, "batch_size": 4, "lr": 5e-5, "min_lr": 5e-6, "warmup": 20, "weight_decay": 0.01,
               "steps": 200, "schedule_steps": 200, "eval_every": 50, "save_every": 50, "log_every": 5}  # fmt: skip
ADAPTERS = {"lr": 1e-3, "min_lr": 1e-4}  # small and new, they take larger steps
PRETRAINED = {"eval_tokens": 16_384}  # a model of another's is large: a whole validation part takes it longer than a short training
SHAPE = (
    "n_layer", "n_head", "n_kv_head", "n_embd", "n_hidden", "rope_theta", "dropout", "bias", "nonlinearity", "members", "input_dropout",
)  # fmt: skip


def fine_tuning_config(init: str, adapters: bool) -> TrainConfig:
    """Returns the settings that `--init` brings. Raises CheckpointError when there is no such model."""
    place = find_pretrained(Path(init))
    model = read_config(Path(init), TrainConfig)[0].model if place is None else architecture_of(place)
    changes: dict[str, Any] = {**FINE_TUNING, **(ADAPTERS if adapters else {}), **(PRETRAINED if place is not None else {})}
    longest = None if place is not None else context_of(Path(init))
    changes["block_size"] = min(changes["block_size"], longest or changes["block_size"])
    return dataclasses.replace(default_config(model), init=init, **changes)


def context_of(folder: Path) -> int | None:
    """Returns how many tokens the model of a run looks at; None for a recurrent one, and where a pretrained model's folder says it."""
    config, _ = read_config(folder, TrainConfig)
    if config.model in RECURRENT:
        return None
    record = read_record(folder)
    if not config.init or record["tokenizer"] is not None:
        return record.get("context") or config.block_size
    return None if find_pretrained(Path(config.init)) is not None else context_of(Path(config.init))


def with_shape_of(model: LanguageModel, config: TrainConfig) -> TrainConfig:
    """Returns the config of a run with `init`, with the shape of the model from there, and the path absolute.

    Raises ConfigError for a setting of the shape that is neither the model's nor the default, and for blocks
    longer than the model can look at.
    """
    path = Path(config.init)
    source = vars(model.config if isinstance(model, GPT | Llama) else read_config(path, TrainConfig)[0])
    shape = {name: source[name] for name in SHAPE if name in source}
    given, plain = config.to_json(), default_config(config.model).to_json()
    for name, value in shape.items():
        if given[name] not in (value, plain[name]):
            raise ConfigError(f"{name} is {given[name]}: the model of init {config.init} has {value}")
    if model.block_size is not None and config.block_size > model.block_size:
        raise ConfigError(f"block_size is {config.block_size}: the model of init {config.init} looks at {model.block_size} tokens at most")
    return dataclasses.replace(config, **shape, init=absolute(config.init))


def absolute(init: str) -> str:
    """Returns the path of `init` as config.json keeps it; a name such as smollm2, and "" for none, stay."""
    return str(Path(init).resolve()) if init and Path(init).exists() else init
