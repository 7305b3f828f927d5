"""A model and its tokenizer as one GGUF file, which llama.cpp and the programs built on it open."""

from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.tokenizers import Tokenizer
from tinylm.engine.devices import to_numpy
from tinylm.errors import ConfigError
from tinylm.files.gguf_writing import write_gguf
from tinylm.files.notices import warn_once
from tinylm.models.gpt import GPT
from tinylm.models.llama import Llama
from tinylm.pretrained.gguf_names import their_name
from tinylm.pretrained.gguf_rotary import rotary_entries
from tinylm.pretrained.gguf_tokenizer_export import tokenizer_entries
from tinylm.pretrained.model_export import check_exportable
from tinylm.pretrained.rotary_order import half_to_interleaved, heads_of

_EXACT = "the model computes the exact GELU, and llama.cpp an approximation of it in every GPT-2: there its logits differ a little"


def save_gguf(model: GPT | Llama, path: Path, tokenizer: Tokenizer | None) -> None:
    """Writes the file, its weights as F32; without a tokenizer it says that there is none.

    Raises CheckpointError if the file cannot be written; errors as `gguf_contents` before anything is.
    """
    write_gguf(path, *gguf_contents(model, tokenizer))


def gguf_contents(model: GPT | Llama, tokenizer: Tokenizer | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the file's metadata and arrays.

    A GPT without biases gets biases of zero, and the rows of a Llama's queries and keys the order of rope_pairing="interleaved".
    Raises ConfigError for a tokenizer or rotary positions that the format cannot hold, or a model with low-rank adapters; AnomalyError
    for a parameter that is not finite.
    """
    check_exportable(model)
    c = model.config
    kind, name = ("llama", "llama") if isinstance(model, Llama) else ("gpt", "gpt2")
    arrays = {their_name(path, kind): _as_stored(path, to_numpy(p.data), model) for path, p in model.named_parameters()}
    entries: dict[str, Any] = {
        "vocab_size": c.vocab_size, "context_length": c.block_size, "embedding_length": c.n_embd, "block_count": c.n_layer,
        "attention.head_count": c.n_head,
    }  # fmt: skip
    if isinstance(model, Llama):
        shape = model.config
        rotary, tensors = rotary_entries(shape)
        arrays |= tensors
        entries |= {
            "feed_forward_length": shape.n_hidden, "attention.head_count_kv": shape.n_kv_head, "attention.key_length": shape.head_width,
            "attention.value_length": shape.head_width, "attention.layer_norm_rms_epsilon": float(c.norm_eps), **rotary,
        }  # fmt: skip
    elif isinstance(model, GPT):
        entries |= {"feed_forward_length": 4 * c.n_embd, "attention.layer_norm_epsilon": float(c.norm_eps)}
        if model.config.activation == "gelu":
            entries["hidden_activation"] = "gelu"
            warn_once(_EXACT)
        if not model.config.bias:
            arrays = _with_biases(arrays)
    common = {"general.architecture": name, "general.type": "model", "general.file_type": 0}
    said = {"tokenizer.ggml.model": "no_vocab"} if tokenizer is None else tokenizer_entries(tokenizer, c.vocab_size)
    return {**common, **{f"{name}.{key}": value for key, value in entries.items()}, **said}, arrays


def _with_biases(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with a bias of zero after each weight of a layer or norm."""
    found = {}
    for path, a in arrays.items():
        found[path] = a
        if path.startswith(("blk.", "output_norm.")):
            found[path.removesuffix("weight") + "bias"] = np.zeros(a.shape[0], np.float32)
    return found


def _as_stored(path: str, a: np.ndarray, model: GPT | Llama) -> np.ndarray:
    """Returns a parameter as llama.cpp's files have it, float32."""
    with np.errstate(over="ignore"):
        stored = a.astype(np.float32)
    if not np.isfinite(stored).all():
        raise ConfigError(f"the parameter {path!r} has numbers that float32 cannot hold, and a GGUF file stores its weights so")
    heads = heads_of(path, model.config) if isinstance(model, Llama) else None
    if heads is None or (isinstance(model, Llama) and model.config.rope_pairing == "interleaved"):
        return stored
    return half_to_interleaved(stored, heads)
