"""Hugging Face's models with tinylm's weights give the same logits and gradients, in float64 too."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tinylm.errors import ConfigError
from tinylm.models import GPT, GPTConfig, Llama
from tinylm.models.llama import LlamaConfig
from tinylm.verify import compare
from tinylm.verify.torch.hugging_face_twins import their_twin

IDS = np.random.default_rng(0).integers(0, 17, (1, 7))
SHAPE: dict[str, Any] = {"vocab_size": 17, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 12}


def varied(model: Any) -> Any:
    """Returns the model with no weight at its first value: about 0 in matrices and biases, about 1 in norms."""
    rng = np.random.default_rng(1)
    for name, p in model.named_parameters():
        is_norm = p.ndim == 1 and name.endswith("weight")
        p.data[...] = is_norm + 0.3 * rng.standard_normal(p.shape)
    return model


@pytest.mark.parametrize(
    "model",
    [
        GPT(GPTConfig(**SHAPE, bias=True)),
        GPT(GPTConfig(**SHAPE, bias=True, norm_eps=0.01)),
        Llama(LlamaConfig(**SHAPE, n_hidden=20)),
        Llama(LlamaConfig(**SHAPE, n_hidden=20, n_kv_head=1, head_dim=4, tied=False, attention_bias=True, mlp_bias=True, norm_eps=0.01)),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logits_and_gradients_are_equal(model: Any, dtype: str) -> None:
    ours = varied(model)
    theirs = their_twin(ours)
    assert not theirs.training
    report = compare(ours, theirs, [IDS], dtype=dtype)
    assert report.ok, report
    assert "output 0" in [row.name for row in report.rows]


def test_a_gpt_without_biases_has_zeros_in_their_place() -> None:
    ours = varied(GPT(GPTConfig(**SHAPE, bias=False)))
    theirs = their_twin(ours)
    with torch.no_grad():
        np.testing.assert_allclose(theirs(torch.tensor(IDS)).numpy(), ours(IDS).data, rtol=1e-4, atol=1e-5)
    biases = {name: t for name, t in theirs.state_dict().items() if name.endswith("bias")}
    assert len(biases) == 2 * 6 + 1
    assert not any(t.any() for t in biases.values())


def test_the_norms_are_exact_in_float64_and_huggings_own_in_float32() -> None:
    theirs = their_twin(Llama(LlamaConfig(**SHAPE, n_hidden=20, norm_eps=0.01)))
    norm, own = theirs.model.norm, LlamaRMSNorm(12, eps=0.01)
    x = torch.tensor(np.random.default_rng(2).standard_normal((3, 12)))
    exact = x / (x.square().mean(-1, keepdim=True) + 0.01).sqrt()
    assert (norm.double()(x) - exact).abs().max() < 1e-14
    assert torch.equal(norm.float()(x.float()), own(x.float()))
    angles = theirs.model.rotary_emb.double()
    cos, sin = angles(x[None], torch.arange(3)[None])
    frequencies = 10000.0 ** (-np.arange(3) / 3)
    expected = np.arange(3)[:, None] * np.r_[frequencies, frequencies]
    np.testing.assert_allclose(cos[0].numpy(), np.cos(expected), atol=1e-15)
    np.testing.assert_allclose(sin[0].numpy(), np.sin(expected), atol=1e-15)
    cos, sin = angles.float()(x[None].float(), torch.arange(3)[None])
    np.testing.assert_allclose(cos[0].numpy(), np.cos(expected), atol=1e-6)
    np.testing.assert_allclose(sin[0].numpy(), np.sin(expected), atol=1e-6)


def test_a_pairing_that_transformers_lacks() -> None:
    with pytest.raises(ConfigError, match="rope_pairing is 'interleaved': Hugging Face's Llama has 'half'"):
        their_twin(Llama(LlamaConfig(**SHAPE, n_hidden=20, rope_pairing="interleaved")))
