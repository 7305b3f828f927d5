"""A model as a folder that transformers opens, or its low-rank adapters as a folder that PEFT opens."""

import re
from pathlib import Path

from tinylm.data.tokenizers import Tokenizer
from tinylm.engine.devices import to_numpy
from tinylm.errors import AnomalyError, ConfigError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.files.safetensors_files import SINGLE, serialize
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.nn.finite_weights import first_not_finite
from tinylm.nn.lora import adapter_arrays
from tinylm.pretrained.hugging_face import METADATA, config_json, tensors_as_stored
from tinylm.pretrained.rotary_order import in_half_order
from tinylm.pretrained.tokenizer_export import as_pretrained, write_tokenizer


def save_pretrained(model: GPT | Llama, folder: Path, tokenizer: Tokenizer | None) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files.

    Raises CheckpointError if a file cannot be written; ConfigError for a tokenizer that cannot be expressed so, or a model
    with low-rank adapters; AnomalyError for a parameter that is not finite, before anything is written.
    """
    check_exportable(model)
    record = config_json(model)
    if tokenizer is not None:
        exported = as_pretrained(tokenizer)
        write_tokenizer(exported, folder, model.config.block_size)
        record["bos_token_id"] = next(iter(exported.start), None)
        record["eos_token_id"] = list(exported.ends) or None
    write_atomically(folder / SINGLE, serialize(tensors_as_stored(model), METADATA))
    write_json(folder / "config.json", record)


def save_adapters(model: GPT | Llama, folder: Path, rank: int, alpha: float, base: str) -> None:
    """Writes the model's low-rank adapters alone, as adapter_config.json and adapter_model.safetensors.

    base: the folder of the model that they correct.
    The target modules are the ends of the layers' paths: attn.c_proj is one, mlp.c_proj another. A tensor is lora_A
    (rank, in) or lora_B (out, rank); GPT-2's own layers store (in, out). Raises CheckpointError; AnomalyError as `save_pretrained`.
    """
    _check_finite(model)
    found = {name: to_numpy(a) for name, a in adapter_arrays(model).items()}
    paths = {name.rpartition(".")[0] for name in found}
    if isinstance(model, Llama):
        found = {name: in_half_order(name, a, model.config) if name.endswith("lora_B") else a for name, a in found.items()}
    tensors = {f"base_model.model.{name}.weight": a for name, a in found.items()}
    write_atomically(folder / "adapter_model.safetensors", serialize(tensors, METADATA))
    write_json(folder / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": rank, "lora_alpha": alpha,
        "lora_dropout": 0.0, "bias": "none", "target_modules": sorted({re.sub(r"^.*\.\d+\.", "", path) for path in paths}),
        "fan_in_fan_out": isinstance(model, GPT), "inference_mode": True,
    })  # fmt: skip


def check_exportable(model: GPT | Llama) -> None:
    """Raises ConfigError for a model with low-rank adapters, AnomalyError for a parameter that is not finite."""
    _check_finite(model)
    if adapter_arrays(model):
        raise ConfigError("the model has low-rank adapters: merge it first (nn.lora.merge)")


def _check_finite(model: GPT | Llama) -> None:
    if (found := first_not_finite(model.named_state())) is not None:
        raise AnomalyError(f"the model cannot be exported: its parameter {found}")
