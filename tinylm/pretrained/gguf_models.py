"""GPT-2 and Llama in GGUF files: llama.cpp's names and settings there and ours here."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylm.engine.stored_weights import Weights
from tinylm.errors import CheckpointError
from tinylm.files.gguf_files import GgufFile
from tinylm.files.json_files import Fields
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.gpt import GPT, GPTConfig
from tinylm.models.llama import WIDEST_HEAD, Llama, LlamaConfig
from tinylm.pretrained import gguf_rotary
from tinylm.pretrained.gguf_names import our_name
from tinylm.pretrained.rotary_order import heads_of, interleaved_to_half
from tinylm.pretrained.weight_loading import WeightSource, architecture, build_model

# Settings that change what a model computes, and the values with which they change nothing in ours.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,), "attention.max_alibi_bias": (0,), "attention.clamp_kqv": (0,), "attention.shared_kv_layers": (0,),
    "attention.output_scale": (0, 1), "attention.temperature_scale": (0,), "attn_logit_softcapping": (0,), "final_logit_softcapping": (0,),
    "logit_scale": (0, 1), "residual_scale": (0, 1), "embedding_scale": (0, 1), "use_parallel_residual": (False,), "swin_norm": (False,),
    "expert_count": (0,), "expert_used_count": (0,), "expert_shared_count": (0,), "expert_group_count": (0,),
    "leading_dense_block_count": (0,), "nextn_predict_layers": (0,), "tensor_data_layout": ("Meta AI original pth",),
}  # fmt: skip
_SERVED = {
    "vocab_size", "context_length", "block_count", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.scale", "attention.sliding_window",
    "hidden_activation",
}  # fmt: skip
_SERVED_LLAMA = {
    "attention.layer_norm_rms_epsilon", "rope.dimension_count", *gguf_rotary.SERVED,
}  # fmt: skip
_SERVED_GPT = {"attention.layer_norm_epsilon"}
_SILENT = {"pooling_type", "rope.scaling.finetuned"}  # what says nothing about the computation
_SILENT_PREFIXES = ("general.", "tokenizer.", "quantize.", "imatrix.", "split.")


def load_gguf(file: GgufFile, weights: Weights = "float32") -> GPT | Llama:
    """Returns the model of such a file, its weights decoded to float32, or matrices as the file has them.

    llama.cpp pairs neighbours in rotary positions, and its files have the rows of queries and keys in that order. They are
    put into the order of Hugging Face's folders. Raises CheckpointError for another architecture, unsupported settings, and
    tensors that do not fit.
    """
    name = file.metadata.get("general.architecture")
    kind = architecture(name, file.path, "general.architecture")
    prefix = f"{name}."
    others = {k: v for k, v in file.metadata.items() if not k.startswith((prefix, *_SILENT_PREFIXES))}
    fields = Fields({k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}, f"{file.path}, {name}")
    Fields(file.metadata, file.path).refuse_others({"general.type": ("model",)})
    head, embedding = file.tensors.get("output.weight"), file.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{file.path}: the tensor token_embd.weight is missing")
    tensors = dict(file.tensors)
    if head is not None and (head.empty or head.equals(embedding)):  # the output projection repeats the embedding
        del tensors["output.weight"]
    model = (_gpt if kind == "gpt" else _llama)(tensors, fields, file.path, weights)
    Fields({**fields.record, **others}, fields.where).name_others({*_NEUTRAL, *_SERVED, *_SILENT, *_own_settings(kind)})
    return model


def _own_settings(kind: str) -> set[str]:
    return _SERVED_GPT if kind == "gpt" else _SERVED_LLAMA


def _refuse_others(fields: Fields, tensors: Mapping[str, StoredTensor], head_dim: int, problems: list[str]) -> None:
    """Raises CheckpointError for the settings, common to both architectures, with which the model would compute something else."""
    context = fields.integer("context_length")
    scale, window = fields.record.get("attention.scale"), fields.record.get("attention.sliding_window")
    usual = 1 / math.sqrt(head_dim)
    if scale not in (None, 0) and not (type(scale) is float and math.isclose(scale, usual, rel_tol=1e-6)):
        problems.append(f"attention.scale {scale!r:.40} (expected {usual:.6g}, 1 / sqrt(head width))")
    if window is not None and not (type(window) is int and (window == 0 or window >= context)):
        problems.append(f"attention.sliding_window {window!r:.40} (expected none, or at least context_length {context})")
    lengths = {f"attention.{name}_length": (head_dim,) for name in ("key", "value")}
    fields.refuse_others({**_NEUTRAL, **lengths, "vocab_size": (tensors["token_embd.weight"].shape[0],)}, problems)


def _gpt(tensors: Mapping[str, StoredTensor], fields: Fields, path: Path, weights: Weights) -> GPT:
    heads, width = fields.integer("attention.head_count"), fields.integer("embedding_length")
    many = fields.record.get("attention.head_count_kv", heads)
    problems = [] if many == heads else [f"attention.head_count_kv {many!r:.40} (expected {heads}, as attention.head_count)"]
    activation = fields.record.get("hidden_activation", "gelu_tanh")  # which llama.cpp computes whatever the file says
    if activation not in ("gelu", "gelu_tanh"):
        problems.append(f"hidden_activation {activation!r:.40} (expected 'gelu' or 'gelu_tanh')")
    _refuse_others(fields, tensors, max(1, width // heads), problems)
    config = GPTConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], block_size=fields.integer("context_length"),
        n_layer=fields.integer("block_count"), n_head=heads, n_embd=width, bias=True, activation=activation,
        norm_eps=fields.number("attention.layer_norm_epsilon"), tied="output.weight" not in tensors,
    )  # fmt: skip
    return build_model(GPT, config, {our_name(name, "gpt"): WeightSource(stored) for name, stored in tensors.items()}, path, weights)


def _llama(tensors: Mapping[str, StoredTensor], fields: Fields, path: Path, weights: Weights) -> Llama:
    problems: list[str] = []
    heads, width = fields.integer("attention.head_count"), fields.integer("embedding_length")
    usual = fields.integer("rope.dimension_count", max(1, width // heads), largest=WIDEST_HEAD)
    head_dim = fields.integer("attention.key_length", usual, largest=WIDEST_HEAD)
    if (rotated := fields.integer("rope.dimension_count", head_dim)) != head_dim:
        problems.append(f"rope.dimension_count {rotated} (expected {head_dim}, the width of a head)")
    if (activation := fields.record.get("hidden_activation", "silu")) != "silu":
        problems.append(f"hidden_activation {activation!r:.40} (expected 'silu')")
    context = fields.integer("context_length")
    scaling = gguf_rotary.read_rotary(fields, tensors, context, head_dim // 2, problems)
    _refuse_others(fields, tensors, head_dim, problems)
    config = LlamaConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], block_size=context,
        n_layer=fields.integer("block_count"), n_head=heads, n_kv_head=fields.integer("attention.head_count_kv", heads), n_embd=width,
        head_dim=head_dim, n_hidden=fields.integer("feed_forward_length"), rope_theta=fields.number("rope.freq_base", 10000.0),
        rope_scaling=scaling, norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        attention_bias="blk.0.attn_q.bias" in tensors, mlp_bias="blk.0.ffn_up.bias" in tensors, tied="output.weight" not in tensors,
    )  # fmt: skip
    sources = {}
    for name, stored in tensors.items():
        ours = our_name(name, "llama")
        number = heads_of(ours, config)
        sources[ours] = WeightSource(stored, None if number is None else functools.partial(interleaved_to_half, heads=number), of_rows=True)
    sources.pop(gguf_rotary.FACTORS, None)
    return build_model(Llama, config, sources, path, weights)
