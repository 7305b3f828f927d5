"""GGUF: models and tokenizers from files written by the `gguf` library."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants

from tinylm.engine.tensor import Tensor
from tinylm.files.gguf_files import read_gguf
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinylm.pretrained.gguf_tokenizers import gguf_tokenizer
from tinylm.pretrained.model_loading import load_pretrained


def close(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---------------------------------------------------------------- models

BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256)]]
BYTES += [chr(256 + n) for n in range(256 - len(BYTES))]  # the letters with which GPT-2 writes bytes
MERGES = ["t h", "th e", "Ġ the", "i n", "Ġ a", "1 2"]
PIECES = [*BYTES, *(m.replace(" ", "") for m in MERGES), "<|start|>", "<|end|>", "<tool>"]
TYPES = [1] * (len(PIECES) - 3) + [3, 3, 4]


def write_llama(path: Path, model: Llama, kind: str = "F32", **changes: Any) -> None:
    """Writes a file as llama.cpp's converter does: with its names, and with the rows of queries and keys as neighbouring pairs."""
    c = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(c.n_layer)
    writer.add_context_length(c.block_size)
    writer.add_embedding_length(c.n_embd)
    writer.add_feed_forward_length(c.n_hidden)
    writer.add_head_count(c.n_head)
    writer.add_head_count_kv(c.n_kv_head)
    writer.add_rope_dimension_count(c.head_width)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    add_tokenizer(writer, **changes)
    layer = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, p in model.named_parameters():
        module, _, ending = name.rpartition(".")
        a = p.numpy()
        if ".q_proj" in name or ".k_proj" in name:
            heads = c.n_head if ".q_proj" in name else c.n_kv_head
            a = a.reshape(heads, 2, -1, *a.shape[1:]).swapaxes(1, 2).reshape(a.shape)
        if module in top:
            theirs = top[module]
        else:
            _, _, number, part = module.split(".", 3)
            theirs = f"blk.{number}.{layer[part]}"
        number_of_kind = GGMLQuantizationType[kind if a.ndim == 2 else "F32"]
        writer.add_tensor(f"{theirs}.{ending}", quants.quantize(np.ascontiguousarray(a), number_of_kind), raw_dtype=number_of_kind)
    close(writer)


def add_tokenizer(writer: Any, pre: str = "smollm", bos: bool = False, merges: list[str] = MERGES, template: str | None = None) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(PIECES)
    writer.add_token_types(TYPES)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(PIECES) - 3)
    writer.add_eos_token_id(len(PIECES) - 2)
    writer.add_add_bos_token(bos)
    if template is not None:
        writer.add_chat_template(template)


def small_llama(**changes: Any) -> Llama:
    model = Llama(LlamaConfig(vocab_size=len(PIECES), block_size=16, n_layer=2, n_embd=32, n_hidden=64, **changes))
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] += 0.3 * rng.standard_normal(p.shape)
    model.eval()
    return model


IDS = Tensor(np.random.default_rng(1).integers(0, len(PIECES), (2, 9)))


@pytest.mark.parametrize("changes", [{}, {"tied": False, "attention_bias": True, "mlp_bias": True, "rope_theta": 50.0, "head_dim": 6}])
def test_a_llama(changes: dict[str, Any], tmp_path: Path) -> None:
    """The weights are unchanged; and in the file's own order of rows, interleaved pairs give the same logits."""
    model = small_llama(**changes)
    write_llama(tmp_path / "x.gguf", model)
    loaded = Llama.from_pretrained(tmp_path / "x.gguf")
    state = model.state_dict()
    assert all(np.array_equal(a, state[name]) for name, a in loaded.state_dict().items())
    logits = loaded(IDS).numpy()
    assert np.array_equal(logits, model(IDS).numpy())
    stored = read_gguf(tmp_path / "x.gguf").tensors
    for (name, part), i in itertools.product({"q_proj": "attn_q", "k_proj": "attn_k"}.items(), range(2)):
        for ending in ("weight", "bias") if model.config.attention_bias else ("weight",):
            state[f"model.layers.{i}.self_attn.{name}.{ending}"] = stored[f"blk.{i}.{part}.{ending}"].read()
    interleaved = small_llama(**changes, rope_pairing="interleaved")
    interleaved.load_state_dict(state)
    assert np.allclose(interleaved(IDS).numpy(), logits, rtol=0, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_a_quantised_llama(kind: str, tmp_path: Path) -> None:
    model = small_llama()
    write_llama(tmp_path / "x.gguf", model, kind)
    expected = small_llama()
    expected.load_state_dict(model.state_dict())
    for p in expected.parameters():
        if p.ndim == 2:  # each row is quantised separately, so that the order of rows does not matter
            p.data[...] = quants.dequantize(quants.quantize(p.numpy(), GGMLQuantizationType[kind]), GGMLQuantizationType[kind])
    logits = Llama.from_pretrained(tmp_path / "x.gguf")(IDS).numpy()
    assert np.array_equal(logits, expected(IDS).numpy())
    assert not np.array_equal(logits, model(IDS).numpy())


def test_a_gpt(tmp_path: Path) -> None:
    model = GPT(GPTConfig(vocab_size=len(PIECES), block_size=16, n_layer=2, n_embd=32, n_head=2, bias=True, activation="gelu_tanh"))
    writer = GGUFWriter(tmp_path / "x.gguf", "gpt2")
    writer.add_block_count(2)
    writer.add_context_length(16)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(128)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-5)
    add_tokenizer(writer, "gpt-2")
    renamed = {
        "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "transformer.h": "blk",
        "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    for name, p in model.named_parameters():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, p.numpy())
    writer.add_tensor("output.weight", model.lm_head.weight.numpy())
    close(writer)
    loaded, tokenizer = load_pretrained(tmp_path / "x.gguf")
    assert isinstance(loaded, GPT)
    assert np.array_equal(loaded(IDS).numpy(), model(IDS).numpy())
    assert tokenizer.vocab_size == loaded.vocab_size


# ---------------------------------------------------------------- tokenizers

TEXTS = ["the thin ant", " the\n\n  in a 1212", "naïve Ünïcödé 😀 \t", "<|start|>the<|end|> <tool>", "it's 3.14159\r\n", ""]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe"])
def test_the_byte_level_tokenizer(pre: str, tmp_path: Path) -> None:
    """Its pieces are those of the same tokenizer written as a tokenizer.json by hand; decoding gives the text back."""
    write_llama(tmp_path / "x.gguf", small_llama(), pre=pre)
    ours = gguf_tokenizer(read_gguf(tmp_path / "x.gguf"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pre != "llama-bpe"}
    llama_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    before = {
        "gpt-2": [],
        "smollm": [{"type": "Digits", "individual_digits": True}],
        "llama-bpe": [{"type": "Split", "pattern": {"Regex": llama_3}, "behavior": "Isolated", "invert": False}],
    }[pre]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    record = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None, "decoder": byte_level,
        "added_tokens": [{"id": i, "content": PIECES[i], "special": t == 3, **flags} for i, t in enumerate(TYPES) if t > 1],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, byte_level]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": pre == "llama-bpe", "vocab": {p: i for i, p in enumerate(PIECES)},
            "merges": [m.split(" ") for m in MERGES],
        },
    }  # fmt: skip
    import tokenizers

    theirs = tokenizers.Tokenizer.from_str(json.dumps(record))
    for text in TEXTS:
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode(text).ids, text
        assert ours.decode(ids) == text
    assert PIECES[ours.encode("1212")[0]] == ("1" if pre == "smollm" else "12")
    assert (ours.start, ours.ends) == ((), (len(PIECES) - 2,))
    write_llama(tmp_path / "y.gguf", small_llama(), pre=pre, bos=True)
    with_bos = gguf_tokenizer(read_gguf(tmp_path / "y.gguf"))
    assert with_bos.start == (len(PIECES) - 3,)
    assert with_bos.library.encode("the").ids[0] == len(PIECES) - 3


def test_sentence_pieces(tmp_path: Path) -> None:
    """Pieces are merged by score, unknown characters become bytes, and the space before the text is added and removed."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "c", "ab", "bc", "▁a", "cc"]
    scores = [0.0] * 259 + [-10.0, -11.0, -12.0, -13.0, -2.0, -1.0, -3.0, -4.0]
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * 8])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    close(writer)
    tokenizer = gguf_tokenizer(read_gguf(tmp_path / "x.gguf"))

    def split(text: str) -> list[str]:
        return [pieces[i] for i in tokenizer.encode(text)]

    assert split("abc") == ["▁a", "bc"]  # bc has the highest score; then ▁a
    assert split("babc") == ["▁", "b", "a", "bc"]
    assert split("bab") == ["▁", "b", "ab"]
    assert split("aé") == ["▁a", "<0xC3>", "<0xA9>"]
    for text in ("abc ab", "é😀 a", "b"):
        assert tokenizer.decode(tokenizer.encode(text).tolist()) == text
    assert (tokenizer.start, tokenizer.ends) == ((1,), (2,))
