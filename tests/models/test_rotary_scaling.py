"""Scaled rotary frequencies: compared with transformers' formulas in float64, and models with transformers' beyond the original context."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinylm import explain
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import DynamicScaling, FrequencyFactors, LinearScaling, Llama, LlamaConfig, RotaryScaling, YarnScaling
from tinylm.models.rotary_scaling import Scaling
from tinylm.pretrained.hugging_face import config_json
from tinylm.verify import compare
from tinylm.verify.reports import relative_error
from tinylm.verify.torch.models import TorchLlama

FACTORS = (1.0, 1.5, 2.0, 4.0, 8.0, 8.0)
RULES: dict[str, Scaling] = {
    "linear": LinearScaling(4.0),
    "dynamic": DynamicScaling(3.0, 12),
    "llama3": RotaryScaling(4.0, 1.0, 3.0, 12),
    "yarn": YarnScaling(4.0, 12, beta_fast=1.5, beta_slow=0.25),
    "yarn, not rounded, another factor of attention": YarnScaling(3.0, 12, 2.0, 0.1, attention_factor=1.3, rounded=False),
    "factors": FrequencyFactors(FACTORS, 1.1),
}
rules = pytest.mark.parametrize("name", RULES)
IDS = np.random.default_rng(0).integers(0, 23, (2, 33))  # the original context has 12


def config_of(name: str, **changes: Any) -> LlamaConfig:
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_kv_head": 1, "n_embd": 24, "n_hidden": 20, "rope_theta": 40.0}
    return LlamaConfig(vocab_size=23, block_size=36, **{**shape, "rope_scaling": RULES[name], **changes})


def model_of(name: str) -> Llama:
    model, rng = Llama(config_of(name)), np.random.default_rng(1)
    for p in model.parameters():
        p.data[...] += 0.4 * rng.standard_normal(p.shape)
    return model.eval()


@rules
def test_frequencies_are_those_of_transformers(hugging_face: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code with float64 in place of float32."""
    from transformers import modeling_rope_utils

    config = config_of(name)
    theirs = hugging_face.LlamaConfig(**config_json(Llama(config)))
    compute = modeling_rope_utils.ROPE_INIT_FUNCTIONS[theirs.rope_parameters["rope_type"]]
    for dtype in ("float", "float32"):
        monkeypatch.setattr(torch, dtype, torch.float64)
    for length in (1, 12, 13, 36):
        expected, attention = compute(theirs, None, seq_len=length)
        # Their powers of theta are float32 with factors whatever the dtype is.
        np.testing.assert_allclose(config.frequencies_at(length), expected.numpy(), rtol=1e-6 if name == "factors" else 1e-10)
        assert math.isclose(config.rope_attention, attention, rel_tol=1e-12)
    assert config.frequencies == config.frequencies_at(1)
    plain = np.array(LlamaConfig(n_embd=24, n_head=2, rope_theta=40.0).frequencies)
    assert not np.allclose(config.frequencies_at(36), plain)


def test_known_frequencies() -> None:
    """By hand, for heads of width 4: the plain ones are 1 and θ^(-1/2) = 0.1."""
    shape: dict[str, Any] = {"n_embd": 4, "n_head": 1, "n_kv_head": 1, "rope_theta": 100.0}

    def found(scaling: Scaling, length: int = 1) -> tuple[float, ...]:
        return LlamaConfig(rope_scaling=scaling, **shape).frequencies_at(length)

    np.testing.assert_allclose(found(LinearScaling(5.0)), [0.2, 0.02], rtol=1e-12)
    np.testing.assert_allclose(found(DynamicScaling(2.0, 8), 8), [1, 0.1], rtol=1e-12)
    np.testing.assert_allclose(found(DynamicScaling(2.0, 8), 12), [1, 0.05], rtol=1e-12)  # θ' = 100 (2 · 12/8 - 1)²
    np.testing.assert_allclose(found(FrequencyFactors((2.0, 4.0))), [0.5, 0.025], rtol=1e-12)
    # A pair i turns 10 times in 20 π positions where i = 4 ln(1) / (2 ln 100) = 0, and once where i = 4 ln(10) / (2 ln 100) = 1.
    yarn = YarnScaling(4.0, 63, beta_fast=63 / (2 * math.pi), beta_slow=63 / (20 * math.pi))
    np.testing.assert_allclose(found(yarn), [1, 0.025], rtol=1e-12)
    assert math.isclose(yarn.attention, 0.1 * math.log(4) + 1)


@rules
def test_beyond_the_original_context(hugging_face: Any, name: str, tmp_path: Path) -> None:
    """A folder that transformers opens: the same logits in float32, and every gradient in float64 as in PyTorch; read again here,
    the config is the same."""
    model = model_of(name)
    model.save_pretrained(tmp_path)
    theirs = hugging_face.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(IDS), use_cache=False).logits.numpy()
    found = model(Tensor(IDS)).numpy()
    assert relative_error(found, expected, 0.0) <= 1e-4
    plain = Llama(dataclasses.replace(model.config, rope_scaling=None)).eval()
    plain.load_state_dict(model.state_dict())
    assert relative_error(plain(Tensor(IDS)).numpy(), expected, 0.0) > 0.01  # so the scaling is not invisible
    again = Llama.from_pretrained(tmp_path)
    assert dataclasses.replace(again.config, head_dim=None) == model.config
    np.testing.assert_array_equal(again(Tensor(IDS)).numpy(), found)
    report = compare(model, TorchLlama(model.config), [IDS])
    assert report.ok, str(report)


@rules
def test_step_by_step(name: str) -> None:
    """With caches the logits are those of the whole text so far. With the dynamic rule every key takes the angles of the new length
    (Peng et al. 2023, section 3.3), so this holds for one layer; the deeper ones read what was computed at a shorter length."""
    model = Llama(dataclasses.replace(config_of(name), n_layer=1)) if name == "dynamic" else model_of(name)
    for p in model.parameters():
        p.data[...] += 0.3 * np.random.default_rng(2).standard_normal(p.shape)
    state, seen = None, 0
    for stop in (7, 8, 12, 13, 20, 33):
        logits, state = model.eval().advance(Tensor(IDS[:, seen:stop]), state)
        whole = model(Tensor(IDS[:, :stop])).numpy()[:, seen:]
        np.testing.assert_allclose(logits.numpy(), whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
        seen = stop


@rules
def test_the_activations_are_those_of_the_model(name: str) -> None:
    model = model_of(name)
    plain = model(Tensor(IDS)).numpy()
    with explain.cache(model) as seen:
        np.testing.assert_allclose(model(Tensor(IDS)).numpy(), plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())
    q, k, scores = (seen[f"h.0.attn.{part}"].numpy() for part in ("q", "k", "scores"))
    np.testing.assert_allclose(scores, q @ k.repeat(2, 1).swapaxes(-1, -2) / math.sqrt(12), rtol=1e-4, atol=1e-4)


def test_bad_settings() -> None:
    for wrong, message in [
        (lambda: LinearScaling(0.0), "factor is 0.0: expected more than 0"),
        (lambda: DynamicScaling(0.5), "factor is 0.5: expected at least 1"),
        (lambda: DynamicScaling(2.0, 0), "original_block_size is 0: expected at least 1"),
        (lambda: YarnScaling(math.nan), "factor is nan"),
        (lambda: YarnScaling(2.0, 8, beta_fast=1.0), "beta_fast is 1.0: expected more than beta_slow, 1.0"),
        (lambda: YarnScaling(2.0, 8, attention_factor=-1.0), "attention_factor is -1.0: expected more than 0"),
        (lambda: FrequencyFactors((1.0, -2.0)), "factor 1 is -2.0: expected more than 0"),
        (lambda: config_of("factors", n_head=1), "6 factors for heads of width 24: expected 12"),
        (lambda: config_of("yarn", rope_theta=1.0), "rope_theta is 1.0: yarn needs more than 1"),
        (lambda: config_of("yarn", rope_scaling=YarnScaling(2.0, 2)), "no pair of a head of width 12 makes 1 to 32 turns in 2 positions"),
    ]:
        with pytest.raises(ConfigError) as caught:
            wrong()
        assert message in str(caught.value)
    assert LlamaConfig(n_embd=4, n_head=2, n_kv_head=1, rope_scaling=DynamicScaling(2.0, 4)).frequencies_at(99) == (1.0,)
