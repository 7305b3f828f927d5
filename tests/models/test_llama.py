"""Llama compared with Hugging Face's LlamaForCausalLM: names, logits, every gradient, rotary angles, greedy text."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

import tinylm
from tinylm.decode import Sampling, generate
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.models import Llama, LlamaConfig, RotaryScaling
from tinylm.nn import lora
from tinylm.verify.reports import joint_norm, relative_error

SMALL = LlamaConfig(vocab_size=23, block_size=32, n_layer=2, n_head=4, n_kv_head=2, n_embd=24, n_hidden=40)
CONFIGS = {
    "two groups, tied": SMALL,
    "one head of keys, biases": dataclasses.replace(SMALL, n_kv_head=1, attention_bias=True, mlp_bias=True, norm_eps=1e-3),
    "no groups, not tied": dataclasses.replace(SMALL, n_kv_head=4, tied=False, rope_theta=500.0),
    "wide heads": dataclasses.replace(SMALL, head_dim=10, rope_theta=1e6, attention_bias=True),
    "narrow heads, six on three": dataclasses.replace(SMALL, n_head=6, n_kv_head=3, head_dim=2, mlp_bias=True, tied=False),
    "scaled positions": dataclasses.replace(SMALL, rope_scaling=RotaryScaling(4.0, 1.0, 3.0, 24), rope_theta=30.0),
}
configs = pytest.mark.parametrize("name", CONFIGS)


def theirs_of(hugging_face: Any, c: LlamaConfig) -> Any:
    """Returns Hugging Face's model of the same shape, its weights far from zero and drawn with a fixed seed."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling is not None:
        scaling = dataclasses.asdict(c.rope_scaling)
        rope |= {"rope_type": "llama3", "original_max_position_embeddings": scaling.pop("original_block_size"), **scaling}
    config = hugging_face.LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.n_embd, intermediate_size=c.n_hidden, num_hidden_layers=c.n_layer,
        num_attention_heads=c.n_head, num_key_value_heads=c.n_kv_head, head_dim=c.head_width, max_position_embeddings=c.block_size,
        rms_norm_eps=c.norm_eps, rope_parameters=rope, attention_bias=c.attention_bias, mlp_bias=c.mlp_bias,
        tie_word_embeddings=c.tied, attn_implementation="sdpa", bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = hugging_face.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p += 0.4 * torch.randn(p.shape)
    return theirs


def pair(hugging_face: Any, c: LlamaConfig, dtype: str) -> tuple[Llama, Any]:
    """Returns our model with their weights, and theirs. In float64 their angles and norms, which they always compute in
    float32, are replaced."""
    theirs = theirs_of(hugging_face, c).to(getattr(torch, dtype))
    if dtype == "float64":

        def exact(x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            angles = position_ids[..., None].double() * torch.tensor(c.frequencies, dtype=torch.float64)
            twice = torch.cat((angles, angles), -1)
            return twice.cos(), twice.sin()

        theirs.model.rotary_emb.forward = exact
        for module in theirs.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = functools.partial(
                    torch.nn.functional.rms_norm, normalized_shape=(c.n_embd,), weight=module.weight, eps=c.norm_eps
                )
    ours = Llama(c)
    ours.to(dtype=dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs


@configs
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_logits_and_every_gradient(hugging_face: Any, name: str, dtype: str, tolerance: float) -> None:
    ours, theirs = pair(hugging_face, CONFIGS[name], dtype)
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 23, (3, 13))
    logits, expected = ours(Tensor(ids)), theirs(torch.tensor(ids)).logits
    values = expected.detach().numpy()
    assert relative_error(logits.data, values, joint_norm([values])) <= tolerance
    cotangent = rng.standard_normal(logits.shape).astype(dtype)
    logits.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    wanted = {key: p.grad.numpy() for key, p in theirs.named_parameters()}
    found = {key: p.grad for key, p in ours.named_parameters()}
    assert found.keys() == wanted.keys()
    whole = joint_norm(list(wanted.values()))
    for key, gradient in wanted.items():
        assert relative_error(found[key], gradient, whole) <= tolerance, key


@configs
def test_angles(hugging_face: Any, name: str) -> None:
    """The angles equal those of their rotary embedding, to the precision of float32."""
    config = CONFIGS[name]
    theirs = theirs_of(hugging_face, config).model.rotary_emb
    np.testing.assert_allclose(config.frequencies, theirs.inv_freq.numpy(), rtol=1e-6)
    if config.rope_scaling is not None:  # one of each kind: kept, between and divided
        plain = dataclasses.replace(config, rope_scaling=None).frequencies
        ratios = np.array(config.frequencies) / plain
        assert ratios.max() == 1
        assert ratios.min() == 0.25
        assert ((ratios > 0.25) & (ratios < 1)).any()


@configs
def test_greedy_text(hugging_face: Any, name: str) -> None:
    """The text is equal token for token; both use their caches."""
    ours, theirs = pair(hugging_face, CONFIGS[name], "float32")
    prompt = [3, 1, 4, 1, 5]
    with torch.no_grad():
        expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=27, do_sample=False, pad_token_id=0)[0, 5:].tolist()
    assert list(generate(ours, prompt, 27, Sampling(greedy=True))) == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("chosen", ["k_proj", "up_proj", ""])
def test_adapted_layers_are_not_joined(chosen: str) -> None:
    """Some layers adapted, or all: at first the model is unchanged, and later it equals its merged twin."""
    model = Llama(dataclasses.replace(SMALL, attention_bias=True, mlp_bias=True)).to(dtype="float64")
    ids = np.random.default_rng(0).integers(0, 23, (2, 9))
    plain = model(Tensor(ids)).data
    lora.adapt(model, 2, 4.0, lambda path: chosen in path and "lm_head" not in path)
    np.testing.assert_allclose(model(Tensor(ids)).data, plain, rtol=1e-10, atol=1e-12)
    for array in lora.adapter_arrays(model).values():
        array += np.random.default_rng(1).standard_normal(array.shape) * 0.1
    adapted = model(Tensor(ids))
    assert np.abs(adapted.data - plain).max() > 1e-3
    lora.merge(model)
    np.testing.assert_allclose(model(Tensor(ids)).data, adapted.data, rtol=1e-10, atol=1e-12)


def test_interleaved_pairs_are_halves_in_another_order() -> None:
    """With the rows of q and k reordered, both pairings give the same logits: this is how checkpoints are converted."""
    halves = Llama(dataclasses.replace(SMALL, head_dim=6)).to(dtype="float64")
    interleaved = Llama(dataclasses.replace(SMALL, head_dim=6, rope_pairing="interleaved")).to(dtype="float64")
    state = halves.state_dict()
    for key, array in state.items():
        if key.endswith(("q_proj.weight", "k_proj.weight")):
            state[key] = array.reshape(-1, 2, 3, 24).swapaxes(1, 2).reshape(array.shape)
    interleaved.load_state_dict(state)
    ids = Tensor(np.random.default_rng(0).integers(0, 23, (2, 9)))
    np.testing.assert_allclose(interleaved(ids).data, halves(ids).data, rtol=1e-10, atol=1e-12)
    halves.load_state_dict(state)
    assert np.abs(halves(ids).data - interleaved(ids).data).max() > 1e-3


def test_bad_input() -> None:
    for wrong, message in [
        ({"n_layer": 0}, "n_layer is 0: expected at least 1"),
        ({"n_kv_head": 3}, "n_head 4 is not divisible by n_kv_head 3"),
        ({"n_embd": 26}, "n_embd 26 is not divisible by n_head 4: give head_dim"),
        ({"head_dim": 5}, "heads are 5 wide"),
        ({"rope_pairing": "thirds"}, "rope_pairing is 'thirds': expected 'half' or 'interleaved'"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0: expected more than 0"),
        ({"norm_eps": float("nan")}, "norm_eps is nan: expected more than 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="factor is -1: expected more than 0"):
        RotaryScaling(factor=-1)
    with pytest.raises(ConfigError, match=r"high_freq_factor is 1\.0: expected more than low_freq_factor, 2"):
        RotaryScaling(low_freq_factor=2, high_freq_factor=1.0)
    model = Llama(SMALL)
    with pytest.raises(ShapeError, match=r"\(1, 33\).*block_size of 32"):
        model(Tensor(np.zeros((1, 33), np.int64)))
    with pytest.raises(RangeError, match="token id 23 is out of range: expected 0 to 22"):
        model(Tensor(np.full((1, 3), 23)))


def test_dropout_acts_in_training_only_and_repeats_with_the_seed() -> None:
    model = Llama(dataclasses.replace(SMALL, dropout=0.5))
    ids = Tensor(np.zeros((1, 5), np.int64))
    tinylm.manual_seed(1)
    first = model(ids).data
    assert not np.array_equal(model(ids).data, first)
    tinylm.manual_seed(1)
    np.testing.assert_array_equal(model(ids).data, first)
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)


def test_scaled_frequencies():
    """Below low_freq_factor turns per context a frequency is divided by the factor, above high_freq_factor it is kept."""
    scaling = RotaryScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0, original_block_size=24)
    per_turn = 2 * math.pi / 24  # the frequency that turns once in the context
    expected = {0.25: 0.0625, 1.0: 0.25, 2.0: 1.25, 3.0: 3.0, 9.0: 9.0}
    assert {turns: scaling(turns * per_turn) / per_turn for turns in expected} == pytest.approx(expected)
