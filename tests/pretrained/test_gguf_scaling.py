"""Scaled rotary positions in GGUF files: frequencies by llama.cpp's formula, logits as transformers computes them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from model_files import LLAMA, PIECES, TOKENIZER, gguf_bytes, gguf_tensors, small_model, write_gguf

from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.models import FrequencyFactors, LinearScaling, Llama, RotaryScaling, YarnScaling
from tinylm.verify.reports import relative_error

IDS = np.random.default_rng(0).integers(0, len(PIECES), (2, 16))
WIDTH, THETA = 4, 100.0


def their_frequencies(settings: dict[str, Any], factors: list[float] | None) -> tuple[list[float], float]:
    """Returns (angles at position 1, what queries and keys are multiplied by), float64, as ggml computes them."""
    kind = settings.get("rope.scaling.type", "linear")
    given = settings.get("rope.scaling.factor", settings.get("rope.scale_linear", 0.0))
    scale = 1.0 if given == 0 or kind == "none" else 1 / given
    original, mscale = settings.get("rope.scaling.original_context_length", 16), settings.get("rope.scaling.attn_factor", 1.0)
    found = []

    def dimension(rotations: float) -> float:
        return WIDTH * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(THETA))

    for i0 in range(0, WIDTH, 2):
        extrapolated = THETA ** (-i0 / WIDTH) / (1.0 if factors is None else factors[i0 // 2])
        angle = scale * extrapolated
        if kind == "yarn":
            low = max(0.0, math.floor(dimension(settings.get("rope.scaling.yarn_beta_fast", 32.0))))
            high = min(WIDTH - 1.0, math.ceil(dimension(settings.get("rope.scaling.yarn_beta_slow", 1.0))))
            ramp = 1 - min(1.0, max(0.0, (i0 / 2 - low) / max(0.001, high - low)))
            angle = angle * (1 - ramp) + extrapolated * ramp
        found.append(angle)
    return found, mscale * (1 + 0.1 * math.log(1 / scale) if kind == "yarn" else 1.0)


CASES: list[tuple[dict[str, Any], list[float] | None]] = [
    ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, None),
    ({"rope.scaling.factor": 2.0}, None),  # linear is the default
    ({"rope.scale_linear": 8.0}, None),  # its older name
    ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0, "rope.scaling.attn_factor": 1.25}, None),
    ({}, [1.5, 8.0]),
    ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.0, "rope.scaling.attn_factor": 0.75}, [1.0, 4.0]),
    ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 12}, None),
    ({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.attn_factor": 1.5}, None),
    ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 2.0,
      "rope.scaling.yarn_beta_slow": 0.25}, None),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "factors"), CASES, ids=str)
def test_frequencies_are_those_of_llama_cpp(settings: dict[str, Any], factors: list[float] | None, tmp_path: Path) -> None:
    metadata = {**LLAMA, **TOKENIZER, "llama.rope.freq_base": THETA, **{f"llama.{name}": value for name, value in settings.items()}}
    tensors = gguf_tensors(small_model("llama"))
    if factors is not None:
        tensors["rope_freqs.weight"] = np.array(factors)
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(metadata, tensors))
    config = Llama.from_pretrained(tmp_path / "x.gguf").config
    expected, attention = their_frequencies(settings, factors)
    np.testing.assert_allclose(config.frequencies, expected, rtol=1e-10)
    assert math.isclose(config.rope_attention, attention, rel_tol=1e-10)
    assert config.frequencies != dataclasses.replace(config, rope_scaling=None).frequencies or attention != 1


THEIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({"factor": 4.0}, {"type": "linear", "factor": 4.0}),
    "yarn": ({"factor": 4.0, "original_max_position_embeddings": 8}, {"type": "yarn", "factor": 4.0, "original": 8}),
    "yarn, another factor of attention": (
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8, "attention_factor": 1.5},
        {"type": "yarn", "factor": 2.0, "original": 8, "attention": 1.5 / (1 + 0.1 * math.log(2))},
    ),
    "llama3": (
        {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0, "original_max_position_embeddings": 12}, {"factors": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_logits_are_those_of_transformers(hugging_face: Any, name: str, tmp_path: Path) -> None:
    """A file of the `gguf` library, with what llama.cpp's converter writes for such a model, at positions beyond the original context."""
    rope, said = THEIRS[name]
    model = small_model("llama")
    assert isinstance(model, Llama)
    c = model.config
    config = hugging_face.LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=16, rms_norm_eps=c.norm_eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": name, "rope_theta": THETA, **rope},
    )  # fmt: skip
    theirs = hugging_face.LlamaForCausalLM(config).eval()
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in model.state_dict().items()})
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    for key, value in LLAMA.items():
        if not key.startswith(("general", "llama.rope.freq_base")):
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    writer.add_rope_freq_base(THETA)
    tensors = gguf_tensors(model)
    if "factors" in said:
        plain = dataclasses.replace(c, rope_theta=THETA)
        scaled = dataclasses.replace(plain, rope_scaling=RotaryScaling(4.0, 1.0, 2.0, 12)).frequencies
        tensors["rope_freqs.weight"] = (np.array(plain.frequencies) / scaled).astype(np.float32)
    else:
        writer.add_rope_scaling_type(gguf.RopeScalingType(said["type"]))
        writer.add_rope_scaling_factor(said["factor"])
        if "original" in said:
            writer.add_rope_scaling_orig_ctx_len(said["original"])
        if "attention" in said:
            writer.add_rope_scaling_attn_factors(said["attention"])
    for key, a in tensors.items():
        writer.add_tensor(key, np.ascontiguousarray(a, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()
    loaded = Llama.from_pretrained(tmp_path / "x.gguf")
    assert relative_error(loaded(Tensor(IDS)).numpy(), expected, 0.0) <= 1e-4
    kinds = {"linear": LinearScaling, "llama3": FrequencyFactors}
    assert type(loaded.config.rope_scaling) is kinds.get(name, YarnScaling)
    assert relative_error(model(Tensor(IDS)).numpy(), expected, 0.0) > 0.01  # without the scaling


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (np.ones(3), r"rope_freqs.weight of shape \(3,\) \(expected \(2,\), half the width of a head\)"),
        (np.ones((2, 1)), r"rope_freqs.weight of shape \(2, 1\)"),
        (np.array([1.0, 0.0]), "rope_freqs.weight with 0 among its factors"),
        (np.array([1.0, np.nan]), "'rope_freqs.weight' holds a NaN"),
    ],
)
def test_factors_that_do_not_fit(factors: np.ndarray, message: str, tmp_path: Path) -> None:
    tensors = {**gguf_tensors(small_model("llama")), "rope_freqs.weight": factors}
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({**LLAMA, **TOKENIZER}, tensors))
    with pytest.raises(CheckpointError, match=message):
        Llama.from_pretrained(tmp_path / "x.gguf")
    settings = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({**LLAMA, **TOKENIZER, **settings}, {**tensors, "rope_freqs.weight": np.ones(2)}))
    with pytest.raises(CheckpointError, match=r"yarn together with rope_freqs\.weight"):
        Llama.from_pretrained(tmp_path / "x.gguf")


def test_factors_without_elements_are_none(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", "llama")
    plain = Llama.from_pretrained(tmp_path / "x.gguf")
    tensors = {**gguf_tensors(small_model("llama")), "rope_freqs.weight": np.zeros(0)}
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({**LLAMA, **TOKENIZER}, tensors))
    assert Llama.from_pretrained(tmp_path / "x.gguf").config == plain.config
