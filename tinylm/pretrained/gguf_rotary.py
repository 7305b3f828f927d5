"""The rotary positions of a Llama in GGUF files: metadata under llama.rope, and the tensor rope_freqs.weight.

llama.cpp turns pair i by f_i / factor_i, with the factors of rope_freqs.weight if there are any, and scales that by the type:
none, linear, or yarn (Peng et al. 2023, arXiv:2309.00071). Queries and keys are multiplied by rope.scaling.attn_factor and, with
yarn, by 0.1 ln factor + 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinylm.errors import ConfigError
from tinylm.files.json_files import Fields
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.llama import LlamaConfig
from tinylm.models.rotary_scaling import FrequencyFactors, LinearScaling, Scaling, YarnScaling, factors_of, yarn_attention

FACTORS = "rope_freqs.weight"
SERVED = {
    "rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor", "rope.scaling.attn_factor",
    "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
}  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "rope.scaling.yarn_ext_factor": (-1, 1), "rope.scaling.yarn_attn_factor": (-1, 1), "rope.scaling.yarn_log_multiplier": (0,),
    "rope.scaling.alpha": (0,),
}  # fmt: skip


def read_rotary(fields: Fields, tensors: Mapping[str, StoredTensor], context: int, pairs: int, problems: list[str]) -> Scaling | None:
    """Returns the scaling that a file's metadata (without the prefix) and tensors describe, for heads of so many pairs.

    What is not supported is added to problems. Raises CheckpointError for a number or a tensor that does not fit.
    """
    kind = fields.record.get("rope.scaling.type", "linear")  # as llama.cpp takes it
    if kind not in ("none", "linear", "yarn"):
        problems.append(f"rope.scaling.type {kind!r:.40} (expected none, linear or yarn)")
        return None
    neutral = _NEUTRAL if kind == "yarn" else {**_NEUTRAL, "rope.scaling.yarn_ext_factor": (-1, 0)}
    problems += [f"{name} {fields.record[name]!r:.40}" for name, usual in neutral.items() if fields.record.get(name, usual[0]) not in usual]
    name = "rope.scaling.factor" if "rope.scaling.factor" in fields.record else "rope.scale_linear"
    factor = 1.0 if kind == "none" or fields.record.get(name) == 0 else fields.number(name, 1.0)
    attention = fields.number("rope.scaling.attn_factor", 1.0)
    stored = tensors.get(FACTORS)
    factors = None if stored is None or stored.empty else _factors(stored, pairs, problems)
    if kind == "yarn":
        if factors is not None:
            problems.append(f"rope.scaling.type yarn together with {FACTORS}")
        original = fields.integer("rope.scaling.original_context_length", context)
        fast, slow = (fields.number(f"rope.scaling.yarn_beta_{name}", usual) for name, usual in (("fast", 32.0), ("slow", 1.0)))
        whole = None if attention == 1 or factor < 1 else attention * yarn_attention(factor)
        return YarnScaling(factor, original, fast, slow, whole)
    if factors is not None or attention != 1:
        return FrequencyFactors(tuple(factor * f for f in factors or (1.0,) * pairs), attention)
    return None if factor == 1 else LinearScaling(factor)


def _factors(stored: StoredTensor, pairs: int, problems: list[str]) -> tuple[float, ...] | None:
    """Returns the factors of the tensor."""
    if stored.shape != (pairs,):
        problems.append(f"{FACTORS} of shape {stored.shape!s:.40} (expected ({pairs},), half the width of a head)")
        return None
    values = stored.read()
    if not (values > 0).all():
        problems.append(f"{FACTORS} with {values.min():g} among its factors (expected more than 0)")
        return None
    return tuple(values.tolist())


def rotary_entries(c: LlamaConfig) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns (metadata without the prefix, tensors) that describe the rotary positions.

    YaRN with settings that llama.cpp does not read for a Llama, and any other rule, becomes factors. Raises ConfigError for frequencies
    that change with the length of a text, which the format cannot hold.
    """
    entries: dict[str, Any] = {"rope.dimension_count": c.head_width, "rope.freq_base": float(c.rope_theta)}
    if (scaling := c.rope_scaling) is None:
        return entries, {}
    if scaling.by_length:
        raise ConfigError("a GGUF file cannot hold rotary frequencies that change with the length of a text (dynamic NTK scaling)")
    if isinstance(scaling, LinearScaling):
        return {**entries, "rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}, {}
    if isinstance(scaling, YarnScaling) and (scaling.beta_fast, scaling.beta_slow, scaling.rounded) == (32, 1, True):
        entries |= {
            "rope.scaling.type": "yarn", "rope.scaling.factor": float(scaling.factor),
            "rope.scaling.original_context_length": scaling.original_block_size,
        }  # fmt: skip
        if scaling.attention_factor is not None:
            entries["rope.scaling.attn_factor"] = scaling.attention / yarn_attention(scaling.factor)
        return entries, {}
    if scaling.attention != 1:
        entries["rope.scaling.attn_factor"] = float(scaling.attention)
    return entries, {FACTORS: np.array(factors_of(c.frequencies, c.rope_theta, c.head_width), np.float32)}
