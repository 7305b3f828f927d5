"""The rotary positions of a Llama in config.json: `rope_parameters`, or `rope_scaling` with `rope_theta` in older files.

https://huggingface.co/docs/transformers/internal/rope_utils has the types and their settings.
"""

import dataclasses
import math
from typing import Any

from tinylm.files.json_files import Fields
from tinylm.models.llama import LlamaConfig
from tinylm.models.rotary_scaling import (
    DynamicScaling,
    FrequencyFactors,
    LinearScaling,
    RotaryScaling,
    Scaling,
    YarnScaling,
    yarn_attention,
)

_LONGEST = 1 << 24  # tokens
_ORIGINAL = "original_max_position_embeddings"
_SETTINGS: dict[str, set[str]] = {  # of each type, besides those of all
    "default": set(), "llama3": set(), "linear": set(), "dynamic": set(),
    "yarn": {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"attention_factor", "short_factor", "long_factor"},
}  # fmt: skip
_OF_ALL = {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", _ORIGINAL}


def read_rotary(fields: Fields, problems: list[str]) -> dict[str, Any]:
    """Returns the settings block_size, rope_theta and rope_scaling of LlamaConfig; what is not supported is added to problems.

    Raises CheckpointError for a number that does not fit.
    """
    longest = fields.integer("max_position_embeddings", 2048)
    given = [value for value in (fields.record.get(name) for name in ("rope_parameters", "rope_scaling")) if value]
    rope = Fields(given[0] if given else {}, f"{fields.where}, rotary positions")
    kind = rope.record.get("rope_type", rope.record.get("type", "default"))
    if not isinstance(kind, str) or kind not in _SETTINGS:
        problems.append(f"rope_type {kind!r:.60} (expected one of {', '.join(_SETTINGS)})")
        kind = "default"
    unknown = {**rope.record, **dict.fromkeys(_OF_ALL | _SETTINGS[kind])}
    if unknown.pop("partial_rotary_factor", 1) not in (None, 1):
        problems.append("rotary positions on a part of a head (partial_rotary_factor)")
    problems += [f"{name!r:.60} of the rotary positions" for name, value in unknown.items() if value is not None]
    if len(given) == 2 and given[0] != given[1]:
        problems.append("rope_parameters and rope_scaling that differ")
    before, inside = fields.record.get(_ORIGINAL), rope.record.get(_ORIGINAL)
    if before is not None and kind in ("llama3", "yarn", "longrope") and inside not in (None, before):
        problems.append(f"{_ORIGINAL} {before!r:.40}, and another one of the rotary positions")
    if kind == "dynamic" and inside not in (None, longest):
        problems.append(f"{_ORIGINAL} {inside!r:.40} (expected none, or max_position_embeddings {longest})")
    original = Fields({_ORIGINAL: inside if before is None or kind == "llama3" else before}, rope.where)
    scaling = None if problems else _scaling(kind, rope, original, longest, problems)
    return {
        "block_size": int(scaling.factor * longest) if isinstance(scaling, DynamicScaling) else longest,
        "rope_theta": rope.number("rope_theta", fields.record.get("rope_theta", 10000.0)),
        "rope_scaling": scaling,
    }


def _scaling(kind: str, rope: Fields, original: Fields, longest: int, problems: list[str]) -> Scaling | None:
    if kind == "linear":
        return LinearScaling(rope.number("factor"))
    if kind == "dynamic":
        factor = rope.number("factor")
        if factor * longest > _LONGEST:
            problems.append(f"rotary positions for {factor:g} times {longest} tokens (expected at most {_LONGEST} tokens)")
        return DynamicScaling(factor, longest)
    if kind == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        return RotaryScaling(rope.number("factor"), low, high, original.integer(_ORIGINAL))
    if kind == "yarn":
        return _yarn(rope, original.integer(_ORIGINAL, longest), longest)
    if kind == "longrope":
        return _longrope(rope, original.integer(_ORIGINAL, longest), longest, problems)
    if rope.record.get("factor") not in (None, 1):
        problems.append(f"rotary positions scaled by {rope.record['factor']!r:.40} without a type")
    return None


def _yarn(rope: Fields, original: int, longest: int) -> YarnScaling:
    factor = rope.number("factor", None if longest == original else longest / original)
    attention = None if rope.record.get("attention_factor") is None else rope.number("attention_factor")
    weights = [rope.number(name) for name in ("mscale", "mscale_all_dim") if rope.record.get(name)]
    if attention is None and len(weights) == 2 and factor > 1:
        attention = yarn_attention(factor, weights[0]) / yarn_attention(factor, weights[1])
    fast, slow = (rope.number(name) if rope.record.get(name) else default for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0)))
    return YarnScaling(factor, original, fast, slow, attention, rope.flag("truncate", True))


def _longrope(rope: Fields, original: int, longest: int, problems: list[str]) -> FrequencyFactors:
    """Returns the factors, if they are the same for short and long texts."""
    short, long = rope.record.get("short_factor"), rope.record.get("long_factor")
    if not isinstance(short, list) or not all(type(x) in (int, float) and 1e-30 < x < 1e30 for x in short) or short != long:
        problems.append("rope_type 'longrope' with factors that are missing, not above 0, or not the same for short and long texts")
        return FrequencyFactors()
    factor = rope.number("factor", longest / original)
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    return FrequencyFactors(tuple(float(x) for x in short), rope.number("attention_factor", usual))


def rotary_record(c: LlamaConfig) -> dict[str, Any]:
    """Returns what config.json says of the rotary positions: max_position_embeddings and rope_parameters."""
    scaling, rope, longest = c.rope_scaling, {"rope_type": "default", "rope_theta": c.rope_theta}, c.block_size
    if isinstance(scaling, LinearScaling):
        rope |= {"rope_type": "linear", "factor": scaling.factor}
    elif isinstance(scaling, DynamicScaling):
        rope |= {"rope_type": "dynamic", "factor": scaling.factor}
        longest = scaling.original_block_size  # transformers scales from there on
    elif isinstance(scaling, RotaryScaling):
        values = dataclasses.asdict(scaling)
        rope |= {"rope_type": "llama3", _ORIGINAL: values.pop("original_block_size"), **values}
    elif isinstance(scaling, YarnScaling):
        rope |= {
            "rope_type": "yarn", "factor": scaling.factor, _ORIGINAL: scaling.original_block_size, "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow, "truncate": scaling.rounded,
        }  # fmt: skip
        rope |= {} if scaling.attention_factor is None else {"attention_factor": scaling.attention_factor}
    elif isinstance(scaling, FrequencyFactors):
        factors = list(scaling.factors)
        rope |= {
            "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": scaling.attention_factor,
            "factor": 1.0, _ORIGINAL: c.block_size,
        }  # fmt: skip
    return {"max_position_embeddings": longest, "rope_parameters": rope}
