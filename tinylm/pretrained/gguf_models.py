"""GPT-2 and Llama in GGUF files: llama.cpp's names and settings there and ours here."""

import functools
from collections.abc import Mapping
from pathlib import Path

from tinylm.errors import CheckpointError
from tinylm.files.gguf_files import GgufFile
from tinylm.files.json_files import Fields
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.gpt import GPT, GPTConfig
from tinylm.models.llama import WIDEST_HEAD, Llama, LlamaConfig
from tinylm.pretrained.rotary_order import heads_of, interleaved_to_half
from tinylm.pretrained.weight_loading import WeightSource, architecture, build_model

_GPT_LAYER = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip
_GPT = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}
_LLAMA_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def load_gguf(file: GgufFile) -> GPT | Llama:
    """Returns the model of such a file, its weights decoded to float32.

    llama.cpp pairs neighbours in rotary positions, and its files have the rows of queries and keys in that order. They are
    put into the order of Hugging Face's folders. Raises CheckpointError for another architecture, unsupported settings, and
    tensors that do not fit.
    """
    name = file.metadata.get("general.architecture")
    kind = architecture(name, file.path, "general.architecture")
    prefix = f"{name}."
    fields = Fields({k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}, f"{file.path}, {name}")
    head, embedding = file.tensors.get("output.weight"), file.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{file.path}: the tensor token_embd.weight is missing")
    tensors = dict(file.tensors)
    if head is not None and head.equals(embedding):  # the output projection repeats the embedding
        del tensors["output.weight"]
    return (_gpt if kind == "gpt" else _llama)(tensors, fields, file.path)


def _gpt(tensors: Mapping[str, StoredTensor], fields: Fields, path: Path) -> GPT:
    config = GPTConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], block_size=fields.integer("context_length"),
        n_layer=fields.integer("block_count"), n_head=fields.integer("attention.head_count"), n_embd=fields.integer("embedding_length"),
        bias=True, activation="gelu_tanh", norm_eps=fields.number("attention.layer_norm_epsilon"),
    )  # fmt: skip
    return build_model(GPT, config, _sources(tensors, _GPT, _GPT_LAYER, "transformer.h"), path)


def _llama(tensors: Mapping[str, StoredTensor], fields: Fields, path: Path) -> Llama:
    problems = []
    if "rope_freqs.weight" in tensors:
        problems.append("scaled rotary positions (rope_freqs.weight)")
    heads, width = fields.integer("attention.head_count"), fields.integer("embedding_length")
    head_dim = fields.integer("rope.dimension_count", max(1, width // heads), largest=WIDEST_HEAD)
    if fields.record.get("attention.key_length", head_dim) != head_dim or fields.record.get("attention.value_length", head_dim) != head_dim:
        problems.append("rotary positions on a part of a head")
    fields.refuse_others({"rope.scaling.type": ("none",), "expert_count": (0,)}, problems)
    groups = fields.integer("attention.head_count_kv", heads)
    config = LlamaConfig(
        vocab_size=tensors["token_embd.weight"].shape[0], block_size=fields.integer("context_length"),
        n_layer=fields.integer("block_count"), n_head=heads, n_kv_head=groups, n_embd=width, head_dim=head_dim,
        n_hidden=fields.integer("feed_forward_length"), rope_theta=fields.number("rope.freq_base", 10000.0),
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        attention_bias="blk.0.attn_q.bias" in tensors, mlp_bias="blk.0.ffn_up.bias" in tensors, tied="output.weight" not in tensors,
    )  # fmt: skip
    sources = _sources(tensors, _LLAMA, _LLAMA_LAYER, "model.layers")
    for name, source in sources.items():
        if (rotated := heads_of(name, config)) is not None:
            sources[name] = WeightSource(source.stored, functools.partial(interleaved_to_half, heads=rotated))
    return build_model(Llama, config, sources, path)


def _sources(
    tensors: Mapping[str, StoredTensor], names: Mapping[str, str], layer: Mapping[str, str], layers: str,
) -> dict[str, WeightSource]:  # fmt: skip
    """Returns the tensors by our names; one that is unknown keeps its own, and is reported as unexpected."""
    found = {}
    for name, stored in tensors.items():
        path, _, ending = name.rpartition(".")
        ours = name
        if path in names:
            ours = f"{names[path]}.{ending}"
        elif path.startswith("blk.") and path.count(".") == 2 and path.split(".")[2] in layer:
            _, number, part = path.split(".")
            ours = f"{layers}.{number}.{layer[part]}.{ending}"
        found[ours] = WeightSource(stored)
    return found
