"""llama.cpp's names of a model's tensors, and ours."""

from collections.abc import Mapping

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
_NAMES = {"gpt": (_GPT, "transformer.h", _GPT_LAYER), "llama": (_LLAMA, "model.layers", _LLAMA_LAYER)}


def our_name(name: str, kind: str) -> str:
    """Returns our name of a tensor of a 'gpt' or 'llama'; an unknown one keeps its own."""
    top, layers, layer = _NAMES[kind]
    return _renamed(name, "blk", layers, top, layer)


def their_name(name: str, kind: str) -> str:
    """Returns llama.cpp's name of a parameter of a 'gpt' or 'llama'."""
    top, layers, layer = _NAMES[kind]
    return _renamed(name, layers, "blk", {ours: theirs for theirs, ours in top.items()}, {ours: theirs for theirs, ours in layer.items()})


def _renamed(name: str, layers: str, new_layers: str, top: Mapping[str, str], layer: Mapping[str, str]) -> str:
    path, _, ending = name.rpartition(".")
    if path in top:
        return f"{top[path]}.{ending}"
    number, _, part = path.removeprefix(f"{layers}.").partition(".")
    if path.startswith(f"{layers}.") and part in layer:
        return f"{new_layers}.{number}.{layer[part]}.{ending}"
    return name
