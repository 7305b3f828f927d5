"""Small model files of other programs, written byte by byte: GGUF from its metadata and arrays, Hugging Face folders."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, quants

from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig

# ---------------------------------------------------------------- GGUF


def _text(s: str) -> bytes:
    raw = s.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _number(value: Any) -> tuple[int, bytes]:
    """Returns (type, bytes) of a bool, an int (u32 where it fits, else i64) or a float."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if 0 <= value < 1 << 32 else (11, struct.pack("<q", value))
    return 6, struct.pack("<f", value)


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if not isinstance(value, list):
        kind, raw = _number(value)
        return struct.pack("<I", kind) + raw
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    numbers = [_number(x) for x in value]
    return struct.pack("<IIQ", 9, numbers[0][0] if numbers else 4, len(value)) + b"".join(raw for _, raw in numbers)


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray], types: Mapping[str, str] | None = None) -> bytes:
    """Returns a file of this metadata and these arrays as F32, or as the types given by name, such as "Q8_0"."""
    entries, data = b"", b""
    for name, a in tensors.items():
        kind = GGMLQuantizationType[(types or {}).get(name, "F32")]
        data += bytes(-len(data) % 32)
        entries += _text(name) + struct.pack(f"<I{a.ndim}QIQ", a.ndim, *reversed(a.shape), kind.value, len(data))
        data += quants.quantize(np.ascontiguousarray(a, "<f4"), kind).tobytes()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(name) + _value(value) for name, value in metadata.items()) + entries
    return head + bytes(-len(head) % 32) + data


BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]]
BYTES += [chr(256 + n) for n in range(256 - len(BYTES))]  # the letters with which GPT-2 writes bytes
MERGES = ["t h", "th e", "Ġ the", "i n", "Ġ a", "1 2"]
PIECES = [*BYTES, *(m.replace(" ", "") for m in MERGES), "<|start|>", "<|end|>", "<tool>"]
TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": PIECES, "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": [1] * (len(PIECES) - 3) + [3, 3, 4], "tokenizer.ggml.bos_token_id": len(PIECES) - 3,
    "tokenizer.ggml.eos_token_id": len(PIECES) - 2, "tokenizer.ggml.add_bos_token": False,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 16, "llama.embedding_length": 8,
    "llama.feed_forward_length": 12, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1, "llama.rope.dimension_count": 4,
    "llama.rope.freq_base": 10000.0, "llama.attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "general.architecture": "gpt2", "gpt2.block_count": 1, "gpt2.context_length": 16, "gpt2.embedding_length": 8,
    "gpt2.feed_forward_length": 32, "gpt2.attention.head_count": 2, "gpt2.attention.layer_norm_epsilon": 1e-5,
}  # fmt: skip
_NAMES = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "transformer.h": "blk",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down", "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk",
    "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def small_model(kind: str) -> GPT | Llama:
    """Returns the model, 'gpt2' or 'llama', that GPT2 and LLAMA describe, its weights far from zero."""
    if kind == "gpt2":
        gpt = GPTConfig(vocab_size=len(PIECES), block_size=16, n_layer=1, n_embd=8, n_head=2, bias=True, activation="gelu_tanh")
        model: GPT | Llama = GPT(gpt)
    else:
        model = Llama(LlamaConfig(vocab_size=len(PIECES), block_size=16, n_layer=1, n_embd=8, n_head=2, n_kv_head=1, n_hidden=12))
    rng = np.random.default_rng(0)
    for p in model.parameters():  # the same whatever was drawn before
        p.data[...] = 0.3 * rng.standard_normal(p.shape) + (p.ndim == 1)
    return model.eval()


def gguf_tensors(model: GPT | Llama) -> dict[str, np.ndarray]:
    """Returns its arrays with llama.cpp's names, and with the rows of queries and keys as neighbouring pairs."""
    found = {}
    for name, p in model.named_parameters():
        a = p.numpy()
        if ".q_proj" in name or ".k_proj" in name:
            assert isinstance(model, Llama)
            heads = model.config.n_head if ".q_proj" in name else model.config.n_kv_head
            a = a.reshape(heads, 2, -1, *a.shape[1:]).swapaxes(1, 2).reshape(a.shape)
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        found[name] = a
    return found


def write_gguf(path: Path, kind: str, **changes: Any) -> GPT | Llama:
    """Writes a small model with its tokenizer; changes: metadata by name, None to leave one out. Returns the model."""
    model = small_model(kind)
    metadata = {**(GPT2 if kind == "gpt2" else LLAMA), **TOKENIZER, **changes}
    path.write_bytes(gguf_bytes({name: value for name, value in metadata.items() if value is not None}, gguf_tensors(model)))
    return model


# ---------------------------------------------------------------- Hugging Face


def tokenizer_record() -> dict[str, Any]:
    """Returns a tokenizer.json: byte-level BPE of the same pieces."""
    cut = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": cut, "post_processor": None,
        "decoder": cut, "added_tokens": [{"id": len(PIECES) - n, "content": PIECES[-n], "special": True, **flags} for n in (3, 2)],
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {p: i for i, p in enumerate(PIECES)},
            "merges": [m.split(" ") for m in MERGES],
        },
    }  # fmt: skip


def write_folder(folder: Path, kind: str, **changes: Any) -> GPT | Llama:
    """Writes a small model with its tokenizer; changes: settings of config.json, None to leave one out. Returns the model."""
    model = small_model(kind)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_record()), encoding="utf-8")
    settings = {"eos_token": "<|end|>", "chat_template": "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    record = {**json.loads((folder / "config.json").read_text(encoding="utf-8")), **changes}
    record = {name: value for name, value in record.items() if name not in changes or value is not None}
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return model
