"""A model of our own as a folder that transformers opens."""

from pathlib import Path

from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import ConfigError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.files.safetensors_files import SINGLE, serialize
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.nn.lora import adapter_arrays
from tinylm.pretrained.hugging_face import METADATA, config_json, tensors_as_stored
from tinylm.pretrained.tokenizer_export import as_pretrained, write_tokenizer


def save_pretrained(model: GPT | Llama, folder: Path, tokenizer: Tokenizer | None) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files.

    Raises CheckpointError if a file cannot be written; ConfigError for a tokenizer that cannot be expressed so, or a model
    with low-rank adapters.
    """
    if adapter_arrays(model):
        raise ConfigError("the model has low-rank adapters: merge it first (nn.lora.merge)")
    record = config_json(model)
    if tokenizer is not None:
        exported = as_pretrained(tokenizer)
        write_tokenizer(exported, folder, model.config.block_size)
        record["bos_token_id"] = next(iter(exported.start), None)
        record["eos_token_id"] = list(exported.ends) or None
    write_atomically(folder / SINGLE, serialize(tensors_as_stored(model), METADATA))
    write_json(folder / "config.json", record)
