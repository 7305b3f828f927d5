"""GPT-2 and Llama in Hugging Face's folders: names and settings there and here.

https://huggingface.co/docs/transformers has the settings of GPT2Config and LlamaConfig; a setting that is missing in
config.json has the value that it has there.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import CheckpointError
from tinylm.files.json_files import Fields, read_fields
from tinylm.files.safetensors_files import read_folder
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.gpt import GPT, GPTConfig
from tinylm.models.llama import WIDEST_HEAD, Llama, LlamaConfig, RotaryScaling
from tinylm.pretrained.rotary_order import in_half_order
from tinylm.pretrained.weight_loading import WeightSource, architecture, build_model

METADATA = {"format": "pt"}  # of their safetensors files: transformers asks for it
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
_CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # stored (in, out)
_MASKS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # constants that older files hold


def load_folder(folder: Path) -> GPT | Llama:
    """Returns the model of a folder with config.json and safetensors files.

    Raises CheckpointError for another architecture, unsupported settings, and tensors that do not fit.
    """
    fields = read_fields(folder / "config.json")
    kind = architecture(fields.record.get("model_type"), fields.where, "model_type")
    if "quantization_config" in fields.record:
        raise CheckpointError(f"{fields.where}: the weights are quantised (quantization_config), expected floating ones")
    if kind == "gpt":
        config = gpt_config(fields)
        return build_model(GPT, config, _sources(read_folder(folder), "transformer.", True, folder), folder)
    shape = llama_config(fields)
    return build_model(Llama, shape, _sources(read_folder(folder), "model.", shape.tied, folder), folder)


def _sources(tensors: Mapping[str, StoredTensor], trunk: str, tied: bool, where: Path) -> dict[str, WeightSource]:
    """Returns the tensors by our names. Files of the model without its head lack the trunk's prefix; a tied head may be stored again."""
    prefix = "" if any(name.startswith(trunk) for name in tensors) else trunk
    kept = {n if n == "lm_head.weight" else prefix + n: s for n, s in tensors.items() if not n.endswith(_MASKS)}
    head = kept.pop("lm_head.weight", None) if tied else None
    embedding = kept.get(trunk + ("wte.weight" if trunk == "transformer." else "embed_tokens.weight"))
    if head is not None and embedding is not None and not head.equals(embedding):
        raise CheckpointError(f"{where}: lm_head.weight differs from the embedding, but the config ties them (tie_word_embeddings)")
    return {name: WeightSource(stored, np.transpose if name.endswith(_CONV1D) else None) for name, stored in kept.items()}


def gpt_config(fields: Fields) -> GPTConfig:
    """Returns the shape that a GPT-2's config.json describes. Raises CheckpointError naming what is not supported."""
    width = fields.integer("n_embd", 768)
    drops = [fields.fraction(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")]
    one_drop = [] if len(set(drops)) == 1 else [f"resid_pdrop, embd_pdrop, attn_pdrop {drops} (expected one value)"]
    fields.refuse_others({
        "activation_function": _ACTIVATIONS, "n_inner": (None, 4 * width), "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,), "reorder_and_upcast_attn": (False,), "add_cross_attention": (False,),
        "tie_word_embeddings": (True,), "is_encoder_decoder": (False,),
    }, one_drop)  # fmt: skip
    return GPTConfig(
        vocab_size=fields.integer("vocab_size", 50257), block_size=fields.integer("n_positions", 1024),
        n_layer=fields.integer("n_layer", 12), n_head=fields.integer("n_head", 12), n_embd=width, dropout=drops[0], bias=True,
        activation=_ACTIVATIONS[fields.record.get("activation_function", "gelu_new")],  # type: ignore[arg-type]
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
    )  # fmt: skip


def llama_config(fields: Fields) -> LlamaConfig:
    """Returns the shape that a Llama's config.json describes. Raises CheckpointError naming what is not supported."""
    heads = fields.integer("num_attention_heads", 32)
    rope = fields.record.get("rope_parameters") or fields.record.get("rope_scaling") or {}
    rope = Fields(rope, f"{fields.where}, rotary positions")
    kind = rope.record.get("rope_type", rope.record.get("type", "default"))
    known = [] if kind in ("default", "llama3") else [f"rope_type {kind!r:.60} (expected 'default' or 'llama3')"]
    fields.refuse_others({"hidden_act": ("silu",), "attention_dropout": (0.0,), "is_encoder_decoder": (False,)}, known)
    scaling = None
    if kind == "llama3":
        scaling = RotaryScaling(
            rope.number("factor"), rope.number("low_freq_factor"), rope.number("high_freq_factor"),
            rope.integer("original_max_position_embeddings"),
        )  # fmt: skip
    width = None if fields.record.get("head_dim") is None else fields.integer("head_dim", largest=WIDEST_HEAD)
    return LlamaConfig(
        vocab_size=fields.integer("vocab_size", 32000), block_size=fields.integer("max_position_embeddings", 2048),
        n_layer=fields.integer("num_hidden_layers", 32), n_head=heads, n_kv_head=fields.integer("num_key_value_heads", heads),
        n_embd=fields.integer("hidden_size", 4096), head_dim=width,
        n_hidden=fields.integer("intermediate_size", 11008), rope_theta=rope.number("rope_theta", fields.record.get("rope_theta", 10000.0)),
        rope_scaling=scaling, norm_eps=fields.number("rms_norm_eps", 1e-6), attention_bias=fields.flag("attention_bias", False),
        mlp_bias=fields.flag("mlp_bias", False), tied=fields.flag("tie_word_embeddings", False),
    )  # fmt: skip


def config_json(model: GPT | Llama) -> dict[str, Any]:
    """Returns what config.json says of the model."""
    c = model.config
    dtype = str(next(iter(model.parameters())).dtype)
    common = {"vocab_size": c.vocab_size, "dtype": dtype, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if isinstance(c, GPTConfig):
        activation = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}[c.activation]
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), c.dropout)
        return {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": c.block_size, "n_embd": c.n_embd,
            "n_layer": c.n_layer, "n_head": c.n_head, "n_inner": None, "activation_function": activation,
            "layer_norm_epsilon": c.norm_eps, "tie_word_embeddings": True, **drops, **common,
        }  # fmt: skip
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling is not None:
        scaling = dataclasses.asdict(c.rope_scaling)
        rope |= {"rope_type": "llama3", "original_max_position_embeddings": scaling.pop("original_block_size"), **scaling}
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": c.block_size, "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer, "num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head, "head_dim": c.head_width,
        "intermediate_size": c.n_hidden, "hidden_act": "silu", "rms_norm_eps": c.norm_eps, "rope_parameters": rope,
        "attention_bias": c.attention_bias, "mlp_bias": c.mlp_bias, "attention_dropout": 0.0, "tie_word_embeddings": c.tied, **common,
    }  # fmt: skip


def tensors_as_stored(model: GPT | Llama) -> dict[str, np.ndarray]:
    """Returns the model's weights as the files have them, without a tied head."""
    found = {name: p.numpy() for name, p in model.named_parameters()}
    c = model.config
    if isinstance(c, LlamaConfig):
        return {name: in_half_order(name, a, c) for name, a in found.items()}
    found = {name: a.T if name.endswith(_CONV1D) else a for name, a in found.items()}
    for name in [n for n in found if n.endswith(".weight") and not c.bias and "wte" not in n and "wpe" not in n]:
        found[name.removesuffix("weight") + "bias"] = np.zeros(found[name].shape[-1], found[name].dtype)
    return found
