"""Low-rank adapters as PEFT has them: adapter_config.json and adapter_model.safetensors."""

import re
from pathlib import Path

import numpy as np

from tinylm.engine.devices import to_numpy
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.files.safetensors_files import serialize
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.nn.lora import adapter_arrays
from tinylm.pretrained.hugging_face import METADATA
from tinylm.pretrained.rotary_order import in_half_order


def save_adapters(model: GPT | Llama, folder: Path, rank: int, alpha: float, base: str) -> None:
    """Writes the model's low-rank adapters alone. base: the folder of the model that they correct.

    The target modules are the ends of the layers' paths: attn.c_proj is one, mlp.c_proj another. A tensor is lora_A
    (rank, in) or lora_B (out, rank); GPT-2's own layers store (in, out). Raises CheckpointError.
    """
    found = {name: to_numpy(a) for name, a in adapter_arrays(model).items()}
    paths = {name.rpartition(".")[0] for name in found}
    if isinstance(model, Llama):
        found = {name: in_half_order(name, a, model.config) if name.endswith("lora_B") else a for name, a in found.items()}
    tensors = {f"base_model.model.{name}.weight": np.ascontiguousarray(a) for name, a in found.items()}
    write_atomically(folder / "adapter_model.safetensors", serialize(tensors, METADATA))
    write_json(folder / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": rank, "lora_alpha": alpha,
        "lora_dropout": 0.0, "bias": "none", "target_modules": sorted({re.sub(r"^.*\.\d+\.", "", path) for path in paths}),
        "fan_in_fan_out": isinstance(model, GPT), "inference_mode": True,
    })  # fmt: skip
