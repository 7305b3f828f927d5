"""GGUF out: read back by the `gguf` library and by our own reader, the weights, the logits and the ids of texts are the same."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from model_files import TOKENIZER, write_folder

from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError, ConfigError
from tinylm.files.gguf_files import read_gguf
from tinylm.files.gguf_writing import write_gguf
from tinylm.models import (
    GPT,
    DynamicScaling,
    FrequencyFactors,
    GPTConfig,
    LinearScaling,
    Llama,
    LlamaConfig,
    RotaryScaling,
    YarnScaling,
)
from tinylm.nn.lora import adapt
from tinylm.pretrained.model_loading import load_model, load_pretrained
from tinylm.verify.reports import relative_error

GPT_SHAPE: dict[str, Any] = {"vocab_size": 23, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 12}
SHAPE: dict[str, Any] = {**GPT_SHAPE, "n_kv_head": 1, "n_hidden": 20, "rope_theta": 40.0}
CONFIGS: dict[str, GPTConfig | LlamaConfig] = {
    "gpt": GPTConfig(**GPT_SHAPE, bias=True, activation="gelu_tanh"),
    "gpt, exact gelu, no biases, a head of its own": GPTConfig(**GPT_SHAPE, tied=False, norm_eps=1e-3),
    "llama": LlamaConfig(**SHAPE),
    "llama, neighbouring pairs, biases": LlamaConfig(**SHAPE, rope_pairing="interleaved", attention_bias=True, mlp_bias=True),
    "llama, wide heads, not tied": LlamaConfig(**SHAPE, head_dim=10, tied=False),
    "linear": LlamaConfig(**SHAPE, rope_scaling=LinearScaling(4.0)),
    "llama 3.1": LlamaConfig(**SHAPE, rope_scaling=RotaryScaling(4.0, 1.0, 3.0, 12)),
    "yarn": LlamaConfig(**SHAPE, rope_scaling=YarnScaling(4.0, 12)),
    "yarn, another factor of attention": LlamaConfig(**SHAPE, rope_scaling=YarnScaling(4.0, 12, attention_factor=1.25)),
    "yarn, other limits": LlamaConfig(**SHAPE, rope_scaling=YarnScaling(4.0, 12, 2.0, 0.25, rounded=False)),
    "factors": LlamaConfig(**SHAPE, rope_scaling=FrequencyFactors((1.0, 2.0, 3.0), 1.1)),
}
IDS = Tensor(np.random.default_rng(1).integers(0, 23, (2, 16)))


def model_of(name: str) -> GPT | Llama:
    config, rng = CONFIGS[name], np.random.default_rng(0)
    model: GPT | Llama = GPT(config) if isinstance(config, GPTConfig) else Llama(config)
    for p in model.parameters():
        p.data[...] += 0.3 * rng.standard_normal(p.shape)
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_read_back(name: str, tmp_path: Path) -> None:
    model, path = model_of(name), tmp_path / "new" / "x.gguf"
    model.save_gguf(path)
    assert [p.name for p in path.parent.iterdir()] == ["x.gguf"]
    again = load_model(path)
    assert type(again) is type(model)
    logits = model(IDS).numpy()
    assert relative_error(again(IDS).numpy(), logits, 0.0) <= 1e-6  # settings are float32 in the file
    again.save_gguf(tmp_path / "y.gguf")
    assert (tmp_path / "y.gguf").read_bytes() == path.read_bytes()
    theirs, ours = GGUFReader(path), read_gguf(path)
    assert {t.name for t in theirs.tensors} == ours.tensors.keys()
    for t in theirs.tensors:
        np.testing.assert_array_equal(t.data, ours.tensors[t.name].read())
    metadata = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert metadata == ours.metadata


def test_logits_from_the_librarys_arrays(tmp_path: Path) -> None:
    """A Llama computed in float64 from what the `gguf` library reads, in llama.cpp's way: neighbouring pairs, factors of frequencies."""
    model = model_of("llama 3.1")
    model.save_gguf(tmp_path / "x.gguf")
    reader = GGUFReader(tmp_path / "x.gguf")
    w = {t.name: np.array(t.data, np.float64) for t in reader.tensors}
    said = {key: field.contents() for key, field in reader.fields.items()}
    ids, heads, width = IDS.numpy(), said["llama.attention.head_count"], said["llama.rope.dimension_count"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + said["llama.attention.layer_norm_rms_epsilon"]) * w[f"{name}.weight"]

    def turned(x: np.ndarray) -> np.ndarray:
        f = said["llama.rope.freq_base"] ** (-np.arange(0, width, 2) / width) / w["rope_freqs.weight"]
        z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * np.arange(x.shape[-2])[:, None] * f)
        return np.stack((z.real, z.imag), -1).reshape(x.shape)

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], -1, width).swapaxes(1, 2)

    x = w["token_embd.weight"][ids]
    for i in range(said["llama.block_count"]):
        h = norm(x, f"blk.{i}.attn_norm")
        q, k, v = (split(h @ w[f"blk.{i}.attn_{part}.weight"].T) for part in "qkv")
        k, v = (np.repeat(a, heads // a.shape[1], axis=1) for a in (turned(k), v))
        scores = np.where(np.tri(16, dtype=bool), turned(q) @ k.swapaxes(-1, -2) / np.sqrt(width), -np.inf)
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        y = (pattern / pattern.sum(-1, keepdims=True)) @ v
        x = x + y.swapaxes(1, 2).reshape(*ids.shape, -1) @ w[f"blk.{i}.attn_output.weight"].T
        h = norm(x, f"blk.{i}.ffn_norm")
        gate, up = (h @ w[f"blk.{i}.ffn_{part}.weight"].T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{i}.ffn_down.weight"].T
    logits = norm(x, "output_norm") @ w["token_embd.weight"].T
    assert relative_error(model(IDS).numpy(), logits, 0.0) <= 1e-5


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    dynamic = Llama(dataclasses.replace(LlamaConfig(**SHAPE), rope_scaling=DynamicScaling(2.0, 8)))
    with pytest.raises(ConfigError, match="cannot hold rotary frequencies that change with the length of a text"):
        dynamic.save_gguf(path)
    broken = model_of("llama")
    next(iter(broken.parameters())).data[0, 0] = np.nan
    with pytest.raises(AnomalyError, match="cannot be exported"):
        broken.save_gguf(path)
    large = model_of("gpt").to(dtype="float64")
    next(iter(large.parameters())).data[0, 0] = 1e300
    with pytest.raises(ConfigError, match=r"'transformer\.wte\.weight' has numbers that float32 cannot hold"):
        large.save_gguf(path)
    adapted = model_of("llama")
    adapt(adapted, 2, 4.0, lambda name: "q_proj" in name)
    with pytest.raises(ConfigError, match="merge it first"):
        adapted.save_gguf(path)
    for value in (-1, 1 << 32, None, [1, "a"], [None]):
        with pytest.raises(ConfigError, match=r"metadata 'a': .* cannot be stored in a GGUF file"):
            write_gguf(path, {"a": value}, {})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write"):
        model_of("llama").save_gguf(tmp_path / "file" / "x.gguf")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.gguf"
    model_of("llama").save_gguf(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match=r"cannot write .*x\.gguf: No space left on device"):
        model_of("gpt").save_gguf(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_from_a_folder_to_a_file(kind: str, tmp_path: Path) -> None:
    """With its chat template; and a file without a tokenizer says so."""
    write_folder(tmp_path / "folder", kind)
    model, tokenizer = load_pretrained(tmp_path / "folder")
    model.save_gguf(tmp_path / "x.gguf", tokenizer)
    again, read = load_pretrained(tmp_path / "x.gguf")
    ids = np.arange(12)[None]
    np.testing.assert_array_equal(again(ids).numpy(), model(ids).numpy())
    assert read.ends == tokenizer.ends == (TOKENIZER["tokenizer.ggml.eos_token_id"],)
    messages = [{"role": "user", "content": "the ant"}]
    assert read.chat_ids(messages) == tokenizer.chat_ids(messages)
    model.save_gguf(tmp_path / "y.gguf")
    assert type(load_model(tmp_path / "y.gguf")) is type(model)
    with pytest.raises(CheckpointError, match=r"y\.gguf has no tokenizer"):
        load_pretrained(tmp_path / "y.gguf")
