"""Reading run folders of any task: the settings, the tokenizer, and the model with its weights."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from tinylm.checks import check_choice
from tinylm.data.tokenizers import Tokenizer, from_json
from tinylm.engine.devices import device_namespace
from tinylm.engine.machine_memory import size_text
from tinylm.engine.stored_weights import Weights
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists, names_in
from tinylm.files.signed_arrays import read_arrays
from tinylm.models import GPT, LanguageModel, Llama, NgramLM
from tinylm.nn import Module
from tinylm.nn.finite_weights import first_not_finite
from tinylm.nn.lora import adapt, merge
from tinylm.pretrained.model_loading import find_pretrained, load_pretrained, load_tokenizer
from tinylm.train.checkpoints import load_arrays, state_digest
from tinylm.train.run_folder import newest_whole
from tinylm.train.tasks import classifier_config, language_model_config, translation_config
from tinylm.train.tasks.classifier_config import ClassifierConfig, build_classifier
from tinylm.train.tasks.language_model_config import TrainConfig, build_model, set_checkpointing
from tinylm.train.tasks.settings import Settings
from tinylm.train.tasks.translation_config import TranslationConfig, build_translator, vocabulary_of

S = TypeVar("S", bound=Settings)
Checkpoint = Literal["last", "best"]  # the newest weights of a run, or those of its best validation
_LARGE = 1 << 24  # bytes; a smaller model is soon built
_KEYS = {"train", "tokenizer", "task", "labels", "base", "context", "vocabulary"}  # what config.json may have


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what config.json holds of a run. Raises CheckpointError when the folder is no run."""
    if not exists(folder) or not folder.is_dir():
        raise CheckpointError(f"no run folder {str(folder)!r}")
    record: Any = read_json(folder / "config.json")
    if not isinstance(record, dict):
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    return record


def task_of(record: dict[str, Any]) -> str:
    """Returns the task of a run; a language model's config.json does not name it."""
    return str(record.get("task", TrainConfig.task))


def read_config(folder: str | Path, expected: type[S], after: tuple[Path, ...] = ()) -> tuple[S, Tokenizer]:
    """Returns (settings, tokenizer) of a run folder; after: the folders of the runs that begin with it.

    Raises CheckpointError when the folder is no run, is damaged, or is a run of another task than `expected` is for.
    """
    folder = Path(folder)
    if folder.resolve() in after:
        raise CheckpointError(f"the run in {folder} begins with itself: its init leads back to it")
    record = read_record(folder)
    if (task := task_of(record)) != expected.task:
        raise CheckpointError(f"the run in {folder} was trained for another task: {task:.40}, expected {expected.task}")
    if not {"train", "tokenizer"} <= set(record) <= _KEYS:
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    try:
        config = expected.from_json(record["train"])
        if isinstance(config, TrainConfig) and config.init and record["tokenizer"] is None:
            return config, tokenizer_of(Path(config.init), (*after, folder.resolve()))
        tokenizer = from_json(record["tokenizer"])
    except DataError as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error
    _compare_sizes(folder, config, tokenizer)
    return config, tokenizer


def labels_of(folder: Path) -> tuple[str, ...]:
    """Returns the labels of the classes of a classifier's run. Raises CheckpointError when config.json has no usable ones."""
    names: Any = read_record(folder).get("labels")
    usable = isinstance(names, list) and len(names) >= 2 and all(isinstance(name, str) for name in names)
    if not usable or len(set(names)) < len(names):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: labels are {names!r:.200}")
    return tuple(names)


def _compare_sizes(folder: Path, config: Settings, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError if config.json describes a model that is much larger than any file of weights that lies beside it: building
    it would take minutes and gigabytes before its weights were found not to fit."""
    if isinstance(config, TranslationConfig):
        size = translation_config.footprint(config, tokenizer.vocab_size)
    elif isinstance(config, ClassifierConfig):
        size = classifier_config.footprint(config, tokenizer.vocab_size, len(labels_of(folder)))
    elif isinstance(config, TrainConfig) and config.model != "ngram":
        size = language_model_config.footprint(config, tokenizer.vocab_size)
    else:
        return
    places = [folder / "model.safetensors", *((folder / "checkpoints") / name for name in names_in(folder / "checkpoints"))]
    largest = max((path.stat().st_size for path in places if exists(path)), default=0)
    if largest and size.loaded() > max(_LARGE, 16 * largest):
        told, found = size_text(size.loaded()), size_text(largest)
        raise CheckpointError(f"{folder / 'config.json'} is damaged: its model would have {told}, the largest file of weights {found}")


def tokenizer_of(path: Path, after: tuple[Path, ...] = ()) -> Tokenizer:
    """Returns the tokenizer of a language model's run, or of a pretrained model."""
    place = find_pretrained(path)
    return read_config(path, TrainConfig, after)[1] if place is None else load_tokenizer(place)


def load(
    folder: str | Path, expected: type[S], device: str = "cpu", checkpoint: Checkpoint = "last", **changes: Any
) -> tuple[Any, Tokenizer, S]:
    """Returns (model in evaluation mode, tokenizer, settings) of a finished or stopped run. checkpoint: with its newest weights, or
    with those of its best validation. changes: of settings, for the model.

    Raises CheckpointError as `read_config` does, and when the folder holds another model's weights, a NaN or an infinity among
    them, or has no best weights; DeviceError for a device that is not to be had; ConfigError for another checkpoint.
    """
    folder = Path(folder)
    check_choice("checkpoint", checkpoint, get_args(Checkpoint))
    device_namespace(device)
    config, tokenizer = read_config(folder, expected)
    model = untrained_model(folder, dataclasses.replace(config, **changes), tokenizer)
    load_weights(model, folder, checkpoint)
    if isinstance(model, Module):
        if (found := first_not_finite(model.named_state())) is not None:
            raise CheckpointError(f"the model in {folder} cannot be used: its parameter {found}")
        model.to(device)
        model.eval()
    return model, tokenizer, config


def load_run(
    folder: str | Path, device: str = "cpu", weights: Weights = "float32", checkpoint: Checkpoint = "last"
) -> tuple[LanguageModel | NgramLM, Tokenizer, TrainConfig | None]:
    """Returns (model in evaluation mode, tokenizer, config) of a language model: of a finished or stopped run, or of what
    `tinylm.pretrained.model_loading.find_pretrained` takes: a Hugging Face folder, a GGUF file or `smollm2`, which have no config of ours.

    weights: "stored" for matrices of a pretrained model, also of one under adapters, as its file has them: they can only be read.
    checkpoint: "last", the weights of a run at its end or where it was stopped, or "best", those of its best validation, which it keeps
    in checkpoints/best.safetensors; n-grams and pretrained models have one set only, which is both.

    Raises CheckpointError, DeviceError and ConfigError as `load` does.
    """
    folder = Path(folder)
    if (place := find_pretrained(folder)) is None:
        return load(folder, TrainConfig, device, checkpoint, weights=weights)
    check_choice("checkpoint", checkpoint, get_args(Checkpoint))
    device_namespace(device)
    model, tokenizer = load_pretrained(place, weights)
    model.to(device)
    return model, tokenizer, None


def load_weights(model: Module | NgramLM, folder: Path, checkpoint: Checkpoint = "last") -> None:
    """Fills the model from a finished or stopped run: from its model.safetensors, or from the newest whole
    checkpoint when it was stopped before writing one, the average of the weights before the weights; or from its best checkpoint.

    Raises CheckpointError when the file is missing or damaged, or holds another model's weights.
    """
    if checkpoint == "best" and not isinstance(model, NgramLM):
        path = folder / "checkpoints" / "best.safetensors"
        if not exists(path):
            raise CheckpointError(f"there is no {path}: the run has not validated, and so has no best weights")
        load_arrays(model, read_arrays(path)[0], path)
        return
    path = folder / "model.safetensors"
    if exists(path):
        load_arrays(model, read_arrays(path)[0], path)
        return
    path, stored = newest_whole(folder, lambda path, arrays, _: (path, arrays))
    weights, averages = (
        {name.removeprefix(part): a for name, a in stored.items() if name.startswith(part)} for part in ("model.", "average.")
    )
    load_arrays(model, weights, path)
    if averages:
        load_arrays(model, averages, path, strict=False)  # tied weights and buffers have none of their own


# ---------------------------------------------------------------- the model before its weights are read


def untrained_model(folder: Path, config: Settings, tokenizer: Tokenizer) -> Any:
    """Returns the model of a run's folder, yet without what the run has trained.

    Raises CheckpointError when it corrects a model that is gone, or is no longer what it was.
    """
    if isinstance(config, TranslationConfig):
        return build_translator(config, vocabulary_of(folder, config, tokenizer).size)
    if isinstance(config, ClassifierConfig):
        return build_classifier(config, tokenizer.vocab_size, len(labels_of(folder)))
    assert isinstance(config, TrainConfig)
    if config.model == "ngram":
        return NgramLM(tokenizer.vocab_size, config.order)
    record = read_record(folder)
    if record["tokenizer"] is not None:
        context = record.get("context") or config.block_size
        if type(context) is not int or context < 1:
            raise CheckpointError(f"{folder / 'config.json'} is damaged: its context is {context!r:.40}, expected at least 1")
        return build_model(dataclasses.replace(config, block_size=context), tokenizer.vocab_size)
    model, base = initial_model(config)
    if "base" in record and base != record["base"]:  # the first runs with adapters did not keep it
        raise CheckpointError(
            f"the model of init {config.init} has changed since the run in {folder} was trained on it: its weights have the "
            f"SHA-256 {base}, expected {record['base']!s:.80}"
        )
    return model


def initial_model(config: TrainConfig) -> tuple[LanguageModel, str | None]:
    """Returns the model of config.init to go on with, and the digest of its weights if adapters are put into its attention,
    which they are when lora_rank is not 0.

    Raises CheckpointError when there is no such model; ConfigError when it cannot be trained so.
    """
    model, _, _ = load_run(Path(config.init), weights=config.weights if config.lora_rank else "float32")
    if isinstance(model, NgramLM):
        raise ConfigError(f"init {config.init}: n-grams are counted, there is nothing to go on with")
    base = state_digest(model) if config.lora_rank else None
    merge(model)  # adapters that the model has of an earlier training become part of it
    if config.lora_rank:
        if not isinstance(model, GPT | Llama):
            raise ConfigError(f"lora_rank is {config.lora_rank}: only a GPT or Llama can have adapters, not a {type(model).__name__}")
        adapt(model, config.lora_rank, config.lora_alpha, lambda path: ".attn." in path or ".self_attn." in path)
    return set_checkpointing(model, config), base
