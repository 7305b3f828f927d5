"""Finding and loading run folders."""

import dataclasses
from pathlib import Path
from typing import Any

from tinylm.data.tokenizers import Tokenizer, from_json
from tinylm.engine.devices import device_namespace
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.json_files import read_json
from tinylm.files.signed_arrays import read_arrays
from tinylm.models import GPT, LanguageModel, Llama, NgramLM
from tinylm.nn import Module
from tinylm.nn.lora import adapt, merge
from tinylm.pretrained.model_loading import architecture_of, find_pretrained, load_pretrained, load_tokenizer
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer
from tinylm.train.checkpoints import load_arrays, state_digest
from tinylm.train.run_folder import newest_whole
from tinylm.train.tasks.language_model_config import (
    ADAPTERS,
    FINE_TUNING,
    RECURRENT,
    TrainConfig,
    build_model,
    default_config,
    set_checkpointing,
)


def new_folder(kind: str, data: str, parent: Path = Path("runs")) -> Path:
    """runs/<kind>-<data>, with -2, -3, ... where that exists."""
    name = f"{kind}-{Path(data).stem or 'data'}"
    folder, n = parent / name, 2
    while folder.exists():
        folder, n = parent / f"{name}-{n}", n + 1
    return folder


def read_config(folder: Path, after: tuple[Path, ...] = ()) -> tuple[TrainConfig, Tokenizer]:
    """(config, tokenizer) of a run folder; after: the folders of the runs that begin with it. Errors: CheckpointError when it is none."""
    if folder.resolve() in after:
        raise CheckpointError(f"the run in {folder} begins with itself: its init leads back to it")
    if not folder.is_dir():
        raise CheckpointError(f"no run folder {str(folder)!r}")
    record: Any = read_json(folder / "config.json")
    if isinstance(record, dict) and "task" in record:
        raise CheckpointError(f"the run in {folder} is not a language model's: it was trained for {str(record['task'])[:40]}")
    if not isinstance(record, dict) or not {"train", "tokenizer"} <= set(record) <= {"train", "tokenizer", *_OF_INIT}:
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    try:
        config = TrainConfig.from_json(record["train"])
        if config.init and record["tokenizer"] is None:
            return config, tokenizer_of(Path(config.init), (*after, folder.resolve()))
        return config, from_json(record["tokenizer"])
    except DataError as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error


def tokenizer_of(path: Path, after: tuple[Path, ...] = ()) -> Tokenizer:
    """The tokenizer of a run or of a pretrained model."""
    place = find_pretrained(path)
    return read_config(path, after)[1] if place is None else load_tokenizer(place)


def load_weights(model: Module | NgramLM, folder: Path) -> None:
    """Fills the model from a finished or stopped run: from its model.safetensors, or from the newest whole
    checkpoint when it was stopped before writing one, the average of the weights before the weights.

    Errors: CheckpointError when the file is missing or damaged, or holds another model's weights.
    """
    path = folder / "model.safetensors"
    if path.exists():
        load_arrays(model, read_arrays(path)[0], path)
        return
    path, stored = newest_whole(folder, lambda path, arrays, _: (path, arrays))
    weights, averages = (
        {name.removeprefix(part): a for name, a in stored.items() if name.startswith(part)} for part in ("model.", "average.")
    )
    load_arrays(model, weights, path)
    if averages:
        load_arrays(model, averages, path, strict=False)  # tied weights and buffers have none of their own


def load_run(folder: Path, device: str = "cpu") -> tuple[LanguageModel | NgramLM, Tokenizer, TrainConfig | None]:
    """(model in evaluation mode, tokenizer, config) from a finished or stopped run, or from what
    `models.pretrained.find` takes: a Hugging Face folder, a GGUF file or `smollm2`, which have no config of ours.

    Errors: CheckpointError when the folder is no run, is damaged, or holds another model's weights;
    DeviceError for a device that is not to be had.
    """
    device_namespace(device)
    if (place := find_pretrained(folder)) is not None:
        loaded, its_tokenizer = load_pretrained(place)
        loaded.to(device)
        return loaded, its_tokenizer, None
    config, tokenizer = read_config(folder)
    model: LanguageModel | NgramLM
    if config.model == "ngram":
        model = NgramLM(tokenizer.vocab_size, config.order)
    else:
        model = model_of(folder, config, tokenizer.vocab_size)
    load_weights(model, folder)
    if isinstance(model, LanguageModel):
        model.to(device)
        model.eval()
    return model, tokenizer, config


# ---------------------------------------------------------------- what a run begins with


_OF_INIT = ("base", "context")  # what config.json has of a run with init


def record_of(config: TrainConfig, tokenizer: Tokenizer, model: LanguageModel, base: str | None) -> dict[str, Any]:
    """What config.json holds of a run.

    With `init` and no adapters all weights are the run's own: it keeps the other model's tokenizer and context, and needs
    that model no more. Adapters correct weights that are not stored with them: it keeps the digest of these, `base`. The
    tokenizer of a pretrained model stays with that model.
    """
    record: dict[str, Any] = {"train": config.to_json(), "tokenizer": tokenizer.to_json()}
    if base is not None:
        return record | {"tokenizer": None, "base": base}
    if config.init and isinstance(tokenizer, PretrainedTokenizer):
        return record | {"tokenizer": None}
    return record | {"context": model.block_size} if config.init else record


def model_of(folder: Path, config: TrainConfig, vocab_size: int) -> LanguageModel:
    """The model of a run's folder, yet without what the run has trained.

    Errors: CheckpointError when it corrects a model that is gone, or is no longer what it was.
    """
    record: Any = read_json(folder / "config.json")
    if record["tokenizer"] is not None:
        context = record.get("context") or config.block_size
        if type(context) is not int or context < 1:
            raise CheckpointError(f"{folder / 'config.json'} is damaged: its context is {context!r:.40}, expected at least 1")
        return build_model(dataclasses.replace(config, block_size=context), vocab_size)
    model, base = first_model(config)
    if base != record.get("base"):
        raise CheckpointError(
            f"the model of init {config.init} has changed since the run in {folder} was trained on it: its weights have the "
            f"SHA-256 {base}, expected {record.get('base')!s:.80}"
        )
    return model


def first_model(config: TrainConfig) -> tuple[LanguageModel, str | None]:
    """The model of config.init to go on with, and the digest of its weights if adapters are put into its attention,
    which they are when lora_rank is not 0.

    Errors: CheckpointError when there is no such model; ConfigError when it cannot be trained so.
    """
    model, _, _ = load_run(Path(config.init))
    if isinstance(model, NgramLM):
        raise ConfigError(f"init {config.init}: n-grams are counted, there is nothing to go on with")
    base = state_digest(model) if config.lora_rank else None
    merge(model)  # adapters that the model has of an earlier training become part of it
    if config.lora_rank:
        if not isinstance(model, GPT | Llama):
            raise ConfigError(f"lora_rank is {config.lora_rank}: only a GPT or Llama can have adapters, not a {type(model).__name__}")
        adapt(model, config.lora_rank, config.lora_alpha, lambda path: ".attn." in path or ".self_attn." in path)
    return set_checkpointing(model, config), base


def settled(config: TrainConfig, model: LanguageModel) -> TrainConfig:
    """The config of a run with `init`, with the shape of the model from there, and the path absolute.

    Errors: ConfigError for a setting of the shape that is neither the model's nor the default, and for blocks
    longer than the model can look at.
    """
    path = Path(config.init)
    source = model.config if isinstance(model, GPT | Llama) else read_config(path)[0]
    shape = {name: getattr(source, name) for name in _SHAPE if hasattr(source, name)}
    plain = default_config(config.model)
    for name, value in shape.items():
        if getattr(config, name) not in (value, getattr(plain, name)):
            raise ConfigError(f"{name} is {getattr(config, name)}: the model of init {config.init} has {value}")
    if model.block_size is not None and config.block_size > model.block_size:
        raise ConfigError(f"block_size is {config.block_size}: the model of init {config.init} looks at {model.block_size} tokens at most")
    return dataclasses.replace(config, **shape, init=str(path.resolve()) if path.exists() else config.init)


_SHAPE = (
    "n_layer",
    "n_head",
    "n_kv_head",
    "n_embd",
    "n_hidden",
    "rope_theta",
    "dropout",
    "bias",
    "nonlinearity",
    "members",
    "input_dropout",
)


def fine_tuning_config(init: str, adapters: bool) -> TrainConfig:
    """The settings that `--init` brings. Errors: CheckpointError when there is no such model."""
    place = find_pretrained(Path(init))
    model = read_config(Path(init))[0].model if place is None else architecture_of(place)
    changes: dict[str, Any] = {**FINE_TUNING, **(ADAPTERS if adapters else {})}
    longest = None if place is not None else context_of(Path(init))
    changes["block_size"] = min(changes["block_size"], longest or changes["block_size"])
    return dataclasses.replace(default_config(model), init=init, **changes)


def context_of(folder: Path) -> int | None:
    """How many tokens the model of a run looks at; None for a recurrent one, and where a pretrained model's folder says it."""
    config, _ = read_config(folder)
    if config.model in RECURRENT:
        return None
    record: Any = read_json(folder / "config.json")
    if not config.init or record["tokenizer"] is not None:
        return record.get("context") or config.block_size
    return None if find_pretrained(Path(config.init)) is not None else context_of(Path(config.init))
