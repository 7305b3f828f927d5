"""Settings of other people's models: each that changes the numbers is served or refused, and one that is not known is named, once."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import PIECES, tokenizer_record, write_folder, write_gguf

from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.pretrained.model_loading import load_model, load_pretrained
from tinylm.pretrained.tokenizer_files import read_tokenizer

IDS = Tensor(np.random.default_rng(1).integers(0, len(PIECES), (2, 9)))

GGUF_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("both", {"attention.causal": False}, "attention.causal False (expected True)"),
    ("both", {"attention.scale": 0.25}, "attention.scale 0.25 (expected 0.5, 1 / sqrt(head width))"),
    ("both", {"attention.scale": "0.5"}, "attention.scale '0.5'"),
    ("both", {"attention.scale": math.nan}, "attention.scale nan"),
    ("both", {"attention.sliding_window": 8}, "attention.sliding_window 8 (expected none, or at least context_length 16)"),
    ("both", {"attention.max_alibi_bias": 8.0}, "attention.max_alibi_bias"),
    ("both", {"attention.clamp_kqv": 30.0}, "attention.clamp_kqv"),
    ("both", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("both", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("both", {"logit_scale": 0.25}, "logit_scale"),
    ("both", {"residual_scale": 0.5}, "residual_scale"),
    ("both", {"embedding_scale": 12.0}, "embedding_scale"),
    ("both", {"use_parallel_residual": True}, "use_parallel_residual"),
    ("both", {"expert_count": 8}, "expert_count 8"),
    ("both", {"expert_used_count": 2}, "expert_used_count 2"),
    ("both", {"tensor_data_layout": "reversed"}, "tensor_data_layout"),
    ("gpt2", {"attention.key_length": 8}, "attention.key_length 8 (expected 4)"),
    ("llama", {"attention.key_length": 8}, "rope.dimension_count 4 (expected 8, the width of a head)"),
    ("both", {"attention.value_length": 8}, "attention.value_length 8 (expected 4)"),
    ("both", {"vocab_size": 100}, f"vocab_size 100 (expected {len(PIECES)})"),
    ("gpt2", {"attention.head_count_kv": 1}, "attention.head_count_kv 1 (expected 2"),
    ("llama", {"rope.scaling.type": "longrope"}, "rope.scaling.type 'longrope' (expected none, linear or yarn)"),
    ("llama", {"rope.scaling.type": ["yarn"]}, "rope.scaling.type ['yarn']"),
    ("llama", {"rope.scaling.factor": math.nan}, "rope.scaling.factor is nan, expected a number"),
    ("llama", {"rope.scaling.factor": [4.0, 2.0]}, "rope.scaling.factor is [4.0, 2.0], expected a number"),
    ("llama", {"rope.scaling.attn_factor": -1.0}, "rope.scaling.attn_factor is -1.0, expected a number"),
    ("llama", {"rope.scaling.type": "yarn", "rope.scaling.original_context_length": 0}, "original_context_length is 0"),
    ("llama", {"rope.scaling.yarn_ext_factor": 1.0}, "rope.scaling.yarn_ext_factor"),
    ("llama", {"rope.scaling.type": "yarn", "rope.scaling.yarn_ext_factor": 0.5}, "rope.scaling.yarn_ext_factor 0.5"),
    ("llama", {"rope.scaling.yarn_log_multiplier": 0.1}, "rope.scaling.yarn_log_multiplier 0.1"),
    ("gpt2", {"hidden_activation": "relu"}, "hidden_activation 'relu' (expected 'gelu' or 'gelu_tanh')"),
    ("llama", {"hidden_activation": "gelu"}, "hidden_activation 'gelu' (expected 'silu')"),
    ("llama", {"rope.dimension_count": 2, "attention.key_length": 4}, "rope.dimension_count 2 (expected 4, the width of a head)"),
    ("llama", {"attention.layer_norm_rms_epsilon": None}, "attention.layer_norm_rms_epsilon is None"),
    ("gpt2", {"attention.layer_norm_epsilon": None}, "attention.layer_norm_epsilon is None"),
]


@pytest.mark.parametrize(
    ("kind", "changes", "message"), [(k, c, m) for which, c, m in GGUF_REFUSED for k in ("gpt2", "llama") if which in (k, "both")], ids=str
)
def test_gguf_settings_that_change_the_numbers(kind: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", kind, **{f"{kind}.{name}": value for name, value in changes.items()})
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "x.gguf")
    assert message in str(caught.value)


GGUF_SERVED: list[dict[str, Any]] = [
    {},
    {"attention.causal": True, "attention.scale": 0.5, "attention.sliding_window": 16, "logit_scale": 1.0, "attn_logit_softcapping": 0.0},
    {"attention.scale": 0.0, "attention.sliding_window": 0, "expert_count": 0, "expert_used_count": 0, "residual_scale": 0.0},
    {"attention.key_length": 4, "attention.value_length": 4, "vocab_size": len(PIECES), "pooling_type": 0},
    {"tensor_data_layout": "Meta AI original pth", "use_parallel_residual": False},
]
LLAMA_SERVED: list[dict[str, Any]] = [
    {"rope.scaling.type": "none", "rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 4, "rope.scaling.finetuned": True},
    {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0},
    {"rope.scale_linear": 1.0},
    {"rope.scaling.factor": 0.0, "rope.scaling.attn_factor": 1.0},
    {"rope.dimension_count": None},
    {"rope.scaling.type": "yarn", "rope.scaling.factor": 1.0, "hidden_activation": "silu"},
]


@pytest.mark.parametrize(
    ("kind", "changes"), [(k, c) for k in ("gpt2", "llama") for c in GGUF_SERVED + LLAMA_SERVED * (k == "llama")], ids=str
)
def test_gguf_settings_that_change_nothing(kind: str, changes: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    said = {
        "general.name": "x",
        "general.author": "y",
        "general.file_type": 0,
        "quantize.imatrix.file": "z",
        "split.count": 1,
        "split.no": 0,
    }
    named = {f"{kind}.{name}": value for name, value in changes.items()}
    model = write_gguf(tmp_path / "x.gguf", kind, **said, **named, **{"tokenizer.ggml.padding_token_id": 1, "general.type": "model"})
    loaded, _ = load_pretrained(tmp_path / "x.gguf")
    assert np.array_equal(loaded(IDS).numpy(), model(IDS).numpy())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_gguf_settings_that_are_not_known(kind: str, tmp_path: Path, capsys: Any) -> None:
    unknown = {
        f"{kind}.attention.qk_norm": True,
        f"{kind}.rope.dimension_sections": [1, 2],
        "qwen2.rope.freq_base": 1e6,
        "adapter.type": "lora",
    }
    write_gguf(tmp_path / "x.gguf", kind, **unknown)
    for _ in range(3):
        load_pretrained(tmp_path / "x.gguf")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: {tmp_path / 'x.gguf'}, {kind}: settings that tinylm does not know, and ignores: ")
    assert all(repr(name.removeprefix(f"{kind}.")) in lines[0] for name in unknown)


def test_gguf_files_that_are_not_whole_models(tmp_path: Path) -> None:
    for name, value in (("general.type", "adapter"), ("general.type", "mmproj")):
        write_gguf(tmp_path / "x.gguf", "llama", **{name: value})
        with pytest.raises(CheckpointError, match=f"{name} {value!r}"):
            load_model(tmp_path / "x.gguf")


def test_gguf_tokenizers(tmp_path: Path, capsys: Any) -> None:
    write_gguf(tmp_path / "x.gguf", "llama", **{"tokenizer.ggml.pre": None})
    _, tokenizer = load_pretrained(tmp_path / "x.gguf")
    assert [PIECES[i] for i in tokenizer.encode("the 12")] == ["the", "Ġ", "12"]  # as gpt-2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "tokenizer.ggml.pre is missing: text is cut as for gpt-2" in said
    write_gguf(tmp_path / "y.gguf", "llama", **{"tokenizer.ggml.add_eos_token": True, "tokenizer.ggml.eom_token_id": 3})
    _, tokenizer = load_pretrained(tmp_path / "y.gguf")
    assert "tokenizer.ggml.add_eos_token is true: it is ignored" in capsys.readouterr().err
    assert tokenizer.ends == (len(PIECES) - 2, 3)


FOLDER_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights False"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
    ("gpt2", {"n_inner": 64}, "n_inner 64 (expected None or 32)"),
    ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
    ("gpt2", {"tie_word_embeddings": False}, "missing 'lm_head.weight'"),
    ("gpt2", {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', expected true or false"),
    ("gpt2", {"num_attention_heads": 4}, "n_head is 2, and num_attention_heads, the same setting, 4"),
    ("gpt2", {"attn_pdrop": 0.5}, "attn_pdrop"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ("llama", {"sliding_window": 8}, "sliding_window 8"),
    ("llama", {"sliding_window": "8"}, "sliding_window '8'"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ("llama", {"rope_interleaved": True}, "rope_interleaved"),
    ("llama", {"rope_parameters": {"rope_type": "proportional"}}, "rope_type 'proportional' (expected one of default, llama3, linear"),
    ("llama", {"rope_parameters": {"rope_type": ["yarn"]}}, "rope_type ['yarn']"),
    ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor is None, expected a number"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": "2"}}, "factor is '2', expected a number"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 16}}, "'beta_fast' of the rotary positions"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8}},
        "original_max_position_embeddings 8 (expected none, or max_position_embeddings 16)",
    ),
    (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 1e30}},
        "for 1e+30 times 16 tokens (expected at most 16777216 tokens)",
    ),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": 1}}, "truncate is 1, expected true or false"),
    (
        "llama",
        {
            "rope_parameters": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8},
            "original_max_position_embeddings": 9,
        },
        "original_max_position_embeddings 9, and another one",
    ),
    (
        "llama",
        {"rope_parameters": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1, 2], "long_factor": [1, 3]}},
        "not the same for short and long texts",
    ),
    ("llama", {"rope_parameters": {"factor": 2.0}}, "scaled by 2.0 without a type"),
    ("llama", {"rope_parameters": {"rope_type": "default", "attention_factor": 1.2}}, "'attention_factor' of the rotary positions"),
    ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "on a part of a head"),
    ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "'full_attention' of the rotary positions"),
    ("llama", {"rope_scaling": {"rope_type": "default", "rope_theta": 7.0}}, "rope_parameters and rope_scaling that differ"),
    ("both", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("both", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("both", {"logits_scaling": 8.0}, "logits_scaling"),
    ("both", {"attention_multiplier": 0.1}, "attention_multiplier"),
    ("both", {"residual_multiplier": 0.2}, "residual_multiplier"),
    ("both", {"embedding_multiplier": 12.0}, "embedding_multiplier"),
    ("both", {"num_local_experts": 8}, "num_local_experts"),
    ("both", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
    ("both", {"is_encoder_decoder": True}, "is_encoder_decoder"),
    ("both", {"auto_map": {"AutoModel": "own.Model"}}, "auto_map"),
    ("both", {"quantization_config": {"bits": 4}}, "quantised"),
]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [(k, c, m) for which, c, m in FOLDER_REFUSED for k in ("gpt2", "llama") if which in (k, "both")],
    ids=str,
)
def test_folders_with_settings_that_change_the_numbers(kind: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_folder(tmp_path, kind, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path)
    assert message in str(caught.value)


FOLDER_SERVED: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_inner": 32, "scale_attn_weights": True, "n_ctx": 16, "summary_type": "cls_index", "num_attention_heads": 2}),
    ("gpt2", {"n_embd": None, "hidden_size": 8, "n_head": None, "num_attention_heads": 2, "n_layer": None, "num_hidden_layers": 1}),
    ("llama", {"sliding_window": 16, "pretraining_tp": 2, "partial_rotary_factor": 1.0, "attention_dropout": 0.0}),
    ("llama", {"sliding_window": 4, "use_sliding_window": False}),
    ("llama", {"rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": None}),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "factor": 1.0, "attention_factor": None}}),
    ("both", {"torch_dtype": "float16", "_name_or_path": "x", "use_cache": False, "temperature": 0.5, "attn_logit_softcapping": None}),
]


@pytest.mark.parametrize(
    ("kind", "changes"), [(k, c) for which, c in FOLDER_SERVED for k in ("gpt2", "llama") if which in (k, "both")], ids=str
)
def test_folders_with_settings_that_change_nothing(kind: str, changes: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    model = write_folder(tmp_path, kind, **changes)
    loaded, _ = load_pretrained(tmp_path)
    assert np.array_equal(loaded(IDS).numpy(), model(IDS).numpy())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_folders_with_settings_that_are_not_known(kind: str, tmp_path: Path, capsys: Any) -> None:
    write_folder(tmp_path, kind, use_post_norm=True, qk_norm_eps=1e-6, layer_types=["sliding_attention"])
    for _ in range(2):
        load_model(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "settings that tinylm does not know, and ignores: 'use_post_norm'; 'qk_norm_eps'; 'layer_types'" in lines[0]


def test_tokenizers_with_settings_that_disagree(tmp_path: Path, capsys: Any) -> None:
    """tokenizer.json counts; tokenizer_config.json would change it in transformers."""
    record = tokenizer_record()
    start, end = len(PIECES) - 3, len(PIECES) - 2
    single = [{"SpecialToken": {"id": PIECES[start], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": PIECES[end], "type_id": 0}}]  # fmt: skip
    named = {PIECES[i]: {"id": PIECES[i], "ids": [i], "tokens": [PIECES[i]]} for i in (start, end)}
    record["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": named}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false, "add_prefix_space": true}', encoding="utf-8")
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.start == (start,)  # although an end of text follows
    behind, disagree = capsys.readouterr().err.splitlines()
    assert f"the tokens [{end}], which its tokenizer puts behind every text, are left out" in behind
    assert "disagree with tokenizer.json, and are ignored: add_bos_token False; add_prefix_space True" in disagree
    write_folder(tmp_path / "sound", "gpt2")
    (tmp_path / "sound" / "tokenizer_config.json").write_text('{"add_prefix_space": false, "add_bos_token": false}', encoding="utf-8")
    read_tokenizer(tmp_path / "sound")
    assert capsys.readouterr().err == ""
