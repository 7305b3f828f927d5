"""GPT-2 and Llama in Hugging Face's folders: names and settings there and here.

https://huggingface.co/docs/transformers has the settings of GPT2Config and LlamaConfig; a setting that is missing in
config.json has the value that it has there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.stored_weights import Weights
from tinylm.errors import CheckpointError
from tinylm.files.json_files import Fields, read_fields
from tinylm.files.regular_files import exists
from tinylm.files.safetensors_files import INDEX, SINGLE, read_folder
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.gpt import GPT, GPTConfig
from tinylm.models.llama import WIDEST_HEAD, Llama, LlamaConfig
from tinylm.pretrained.hugging_face_rotary import read_rotary, rotary_record
from tinylm.pretrained.rotary_order import in_half_order
from tinylm.pretrained.weight_loading import WeightSource, architecture, build_model

METADATA = {"format": "pt"}  # of their safetensors files: transformers asks for it
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
# other names of GPT-2's settings, which transformers takes for the same
_ALIASES = {
    "hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
}  # fmt: skip
# Settings that change what a model computes, and the values with which they change nothing in ours.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,), "add_cross_attention": (False,), "chunk_size_feed_forward": (0,), "pruned_heads": (None, {}),
    "attn_logit_softcapping": (None, 0), "final_logit_softcapping": (None, 0), "use_sliding_window": (False,), "use_qk_norm": (None, False),
    "partial_rotary_factor": (None, 1), "rope_interleaved": (False,), "attention_multiplier": (None,), "logits_scaling": (None, 1),
    "residual_multiplier": (None, 1), "embedding_multiplier": (None, 1), "logit_scale": (None, 1), "num_local_experts": (None, 0),
    "num_experts": (None, 0), "auto_map": (None, {}),
}  # fmt: skip
_GPT_SERVED = {
    "n_embd", "n_positions", "n_layer", "n_head", "n_inner", "activation_function", "resid_pdrop", "embd_pdrop", "attn_pdrop",
    "layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "tie_word_embeddings",
    "n_ctx",
}  # fmt: skip
_LLAMA_SERVED = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
    "attention_bias", "attention_dropout", "mlp_bias", "tie_word_embeddings", "sliding_window", "pretraining_tp",
}  # fmt: skip
# what says nothing about the computation: where the model is from, how it was trained, how transformers is to generate
_SILENT = {
    "model_type", "vocab_size", "architectures", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "tokenizer_class",
    "prefix",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "cls_token_id", "mask_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id", "forced_eos_token_id", "use_cache", "initializer_range", "id2label", "label2id", "num_labels", "problem_type",
    "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores", "output_past", "torchscript",
    "task_specific_params", "finetuning_task", "gradient_checkpointing", "is_decoder", "cross_attention_hidden_size", "use_bfloat16",
    "tf_legacy_loss", "remove_invalid_values", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset",
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "model_max_length",
}  # fmt: skip
_CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # stored (in, out)
_MASKS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # constants that older files hold


def load_folder(folder: Path, weights: Weights = "float32") -> GPT | Llama:
    """Returns the model of a folder with config.json and safetensors files, float32, or matrices as the files have them.

    Raises CheckpointError for another architecture, unsupported settings, and tensors that do not fit.
    """
    fields = read_fields(folder / "config.json")
    kind = architecture(fields.record.get("model_type"), fields.where, "model_type")
    _check_safe_format(folder)
    if "quantization_config" in fields.record:
        raise CheckpointError(f"{fields.where}: the weights are quantised (quantization_config), expected floating ones")
    model: GPT | Llama
    if kind == "gpt":
        config = gpt_config(fields)
        model = build_model(GPT, config, _sources(read_folder(folder), "transformer.", config.tied, folder), folder, weights)
        fields.name_others({*_SILENT, *_NEUTRAL, *_GPT_SERVED, *_ALIASES})
    else:
        shape = llama_config(fields)
        model = build_model(Llama, shape, _sources(read_folder(folder), "model.", shape.tied, folder), folder, weights)
        fields.name_others({*_SILENT, *_NEUTRAL, *_LLAMA_SERVED})
    return model


def _check_safe_format(folder: Path) -> None:
    """Raises CheckpointError for a folder whose weights are only in a format that may execute anything when it is read."""
    unsafe = [name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json") if exists(folder / name)]
    if unsafe and not exists(folder / SINGLE) and not exists(folder / INDEX):
        raise CheckpointError(
            f"{folder} has only {unsafe[0]}, whose format may execute anything when it is read: it is not read. If you trust it, write "
            f"{SINGLE} from it, in that folder, by: python "
            "-c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('.')\""
        )


def _sources(tensors: Mapping[str, StoredTensor], trunk: str, tied: bool, where: Path) -> dict[str, WeightSource]:
    """Returns the tensors by our names. Files of the model without its head lack the trunk's prefix; a tied head may be stored again."""
    prefix = "" if any(name.startswith(trunk) for name in tensors) else trunk
    kept = {n if n == "lm_head.weight" else prefix + n: s for n, s in tensors.items() if not n.endswith(_MASKS)}
    head = kept.pop("lm_head.weight", None) if tied else None
    embedding = kept.get(trunk + ("wte.weight" if trunk == "transformer." else "embed_tokens.weight"))
    if head is not None and embedding is not None and not head.empty and not head.equals(embedding):
        raise CheckpointError(f"{where}: lm_head.weight differs from the embedding, but the config ties them (tie_word_embeddings)")
    return {name: WeightSource(stored, np.transpose if name.endswith(_CONV1D) else None) for name, stored in kept.items()}


def gpt_config(fields: Fields) -> GPTConfig:
    """Returns the shape that a GPT-2's config.json describes. Raises CheckpointError naming what is not supported."""
    record = dict(fields.record)
    for alias, name in _ALIASES.items():
        if record.get(alias) is not None and record.setdefault(name, record[alias]) != record[alias]:
            raise CheckpointError(f"{fields.where}: {name} is {record[name]!r:.40}, and {alias}, the same setting, {record[alias]!r:.40}")
    fields = Fields(record, fields.where)
    width = fields.integer("n_embd", 768)
    drops = [fields.fraction(name, 0.1) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")]
    one_drop = [] if len(set(drops)) == 1 else [f"resid_pdrop, embd_pdrop, attn_pdrop {drops} (expected one value)"]
    fields.refuse_others({
        "activation_function": _ACTIVATIONS, "n_inner": (None, 4 * width), "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,), "reorder_and_upcast_attn": (False,), **_NEUTRAL,
    }, one_drop)  # fmt: skip
    return GPTConfig(
        vocab_size=fields.integer("vocab_size", 50257), block_size=fields.integer("n_positions", 1024),
        n_layer=fields.integer("n_layer", 12), n_head=fields.integer("n_head", 12), n_embd=width, dropout=drops[0], bias=True,
        activation=_ACTIVATIONS[fields.record.get("activation_function", "gelu_new")],  # type: ignore[arg-type]
        norm_eps=fields.number("layer_norm_epsilon", 1e-5), tied=fields.flag("tie_word_embeddings", True),
    )  # fmt: skip


def llama_config(fields: Fields) -> LlamaConfig:
    """Returns the shape that a Llama's config.json describes. Raises CheckpointError naming what is not supported."""
    heads = fields.integer("num_attention_heads", 32)
    longest = fields.integer("max_position_embeddings", 2048)
    problems: list[str] = []
    rotary = read_rotary(fields, problems)
    window = fields.record.get("sliding_window")
    if window is not None and fields.record.get("use_sliding_window") is not False and not (type(window) is int and window >= longest):
        problems.append(f"sliding_window {window!r:.40} (expected none, or at least max_position_embeddings {longest})")
    fields.refuse_others({"hidden_act": ("silu",), "attention_dropout": (0.0,), **_NEUTRAL}, problems)
    width = None if fields.record.get("head_dim") is None else fields.integer("head_dim", largest=WIDEST_HEAD)
    return LlamaConfig(
        vocab_size=fields.integer("vocab_size", 32000),
        n_layer=fields.integer("num_hidden_layers", 32), n_head=heads, n_kv_head=fields.integer("num_key_value_heads", heads),
        n_embd=fields.integer("hidden_size", 4096), head_dim=width,
        n_hidden=fields.integer("intermediate_size", 11008), norm_eps=fields.number("rms_norm_eps", 1e-6),
        attention_bias=fields.flag("attention_bias", False), mlp_bias=fields.flag("mlp_bias", False),
        tied=fields.flag("tie_word_embeddings", False), **rotary,
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
            "layer_norm_epsilon": c.norm_eps, "tie_word_embeddings": c.tied, **drops, **common,
        }  # fmt: skip
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer, "num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head, "head_dim": c.head_width,
        "intermediate_size": c.n_hidden, "hidden_act": "silu", "rms_norm_eps": c.norm_eps,
        "attention_bias": c.attention_bias, "mlp_bias": c.mlp_bias, "attention_dropout": 0.0, "tie_word_embeddings": c.tied,
        **rotary_record(c), **common,
    }  # fmt: skip


def tensors_as_stored(model: GPT | Llama) -> dict[str, np.ndarray]:
    """Returns the model's weights as the files have them, without a tied head."""
    found = {name: p.numpy() for name, p in model.named_parameters()}
    c = model.config
    if isinstance(c, LlamaConfig):
        return {name: in_half_order(name, a, c) for name, a in found.items()}
    found = {name: a.T if name.endswith(_CONV1D) else a for name, a in found.items()}
    for name in [
        n for n in found if n.endswith(".weight") and not c.bias and not n.endswith(("wte.weight", "wpe.weight", "lm_head.weight"))
    ]:
        found[name.removesuffix("weight") + "bias"] = np.zeros(found[name].shape[-1], found[name].dtype)
    return found
