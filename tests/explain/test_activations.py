"""tinylm.explain.names and cache: every activation of every model, by its definition."""

import re

import numpy as np
import pytest
from activation_models import DRAW, LENGTHS, MODELS, logits, made, seen_in

import tinylm
from tinylm import Tensor, explain, nn


@pytest.mark.parametrize("name", MODELS)
def test_every_name_is_kept_and_changes_nothing(name):
    model, inputs = made(name)
    plain = logits(model, inputs).numpy()
    before = [(path, [(name, id(value)) for name, value in vars(module).items()]) for path, module in model.named_modules()]
    with explain.cache(model) as seen:
        y = logits(model, inputs)
    assert list(seen) == [n for n in explain.names(model) if n in seen]
    assert set(seen) == set(explain.names(model))
    np.testing.assert_allclose(y.numpy(), plain, rtol=1e-10, atol=1e-12)
    with explain.replace(model, {"*": lambda value, *step: value}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), plain, rtol=1e-10, atol=1e-12)
    assert [(path, [(name, id(value)) for name, value in vars(module).items()]) for path, module in model.named_modules()] == before
    assert np.array_equal(logits(model, inputs).numpy(), plain)


@pytest.mark.parametrize("name", MODELS)
def test_float32_agrees_with_the_fused_ops(name):
    model, inputs = made(name, np.float32)
    plain = logits(model, inputs).numpy()
    with explain.cache(model):
        y = logits(model, inputs).numpy()
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("name", MODELS)
def test_rounded_products_are_those_of_the_fused_ops(name):
    """Operands that are computed on the way may be rounded to either neighbour: 2⁻⁸ of such a number, of few among them."""
    model, inputs = made(name, np.float32)
    exact = logits(model, inputs).numpy()
    with tinylm.products("bfloat16"):
        plain = logits(model, inputs).numpy()
        with explain.cache(model):
            y = logits(model, inputs).numpy()
    error = np.linalg.norm(y - plain) / np.linalg.norm(plain)
    assert error <= 5e-4
    assert error < 0.2 * np.linalg.norm(exact - plain) / np.linalg.norm(plain)


@pytest.mark.parametrize("name", MODELS)
def test_each_activation_alone(name):
    """Asked for alone, an activation has the values that it has among all others, and its context leaves no trace."""
    model, inputs = made(name)
    _, _, everything = seen_in(name)
    for key in explain.names(model)[:: 1 if name in ("llama", "transformer") else 3]:
        with explain.cache(model, key) as seen:
            logits(model, inputs)
        assert list(seen) == [key]
        np.testing.assert_allclose(seen[key].numpy(), everything[key], rtol=1e-9, atol=1e-12)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "layer", "attn", "causal"),
    [
        ("gpt", "h.1", "attn", True), ("llama", "h.0", "attn", True), ("transformer", "h.1", "attn", True),
        ("translator", "encoder.h.1", "attn", False), ("translator", "decoder.h.0", "attn", True),
        ("translator", "decoder.h.1", "cross", False), ("transformer classifier", "h.0", "attn", False),
    ],
)  # fmt: skip
def test_attention_by_its_definition(name, layer, attn, causal):
    model, _, seen = seen_in(name)
    q, k, v, scores, pattern, z, head_out, out = (
        seen[f"{layer}.{attn}.{part}"] for part in ("q", "k", "v", "scores", "pattern", "z", "head_out", "out")
    )
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    np.testing.assert_allclose(scores, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), rtol=1e-10)
    allowed = np.ones(scores.shape, bool)
    if causal:
        allowed &= np.tri(scores.shape[-1], dtype=bool)
    if name in ("translator", "transformer classifier") and not causal:
        allowed &= (np.arange(6) < LENGTHS[:, None])[:, None, None]
    np.testing.assert_allclose(pattern, softmax(np.where(allowed, scores, -np.inf)), rtol=1e-10)
    np.testing.assert_allclose(z, pattern @ v, rtol=1e-10, atol=1e-14)
    projection = {"gpt": "c_proj", "llama": "o_proj"}.get(name, "out_proj")
    kind = "multihead_attn" if attn == "cross" else "self_attn" if name != "gpt" else "attn"
    path = next(
        p
        for p, _ in model.named_modules()
        if re.search(rf"{'decoder' if 'decoder' in layer else ''}.*\.{layer[-1]}\.{kind}\.{projection}$", p)
    )
    project = dict(model.named_modules())[path]
    weight, bias = project.weight.numpy(), 0 if project.bias is None else project.bias.numpy()
    width = z.shape[-1]
    for head in range(z.shape[1]):
        np.testing.assert_allclose(head_out[:, head], z[:, head] @ weight[:, head * width : (head + 1) * width].T, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(out, head_out.sum(1) + bias, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("name", "layers"), [("gpt", ["h.0", "h.1"]), ("llama", ["h.0"]), ("translator", ["decoder.h.1", "encoder.h.0"])])
def test_the_residual_stream_is_the_sum_of_its_branches(name, layers):
    _, _, seen = seen_in(name)
    for layer in layers:
        stream = seen[f"{layer}.resid_pre"]
        for branch, after in (("attn", "mid"), ("cross", "cross"), ("mlp", "post")):
            if f"{layer}.{branch}.out" in seen:
                stream = stream + seen[f"{layer}.{branch}.out"]
                np.testing.assert_allclose(seen[f"{layer}.resid_{after}"], stream, rtol=1e-10, atol=1e-14)
    if name == "gpt":
        np.testing.assert_allclose(seen["embed"] + seen["pos_embed"], seen["h.0.resid_pre"], rtol=1e-12)
        np.testing.assert_array_equal(seen["h.0.resid_post"], seen["h.1.resid_pre"])


def test_the_norms_and_the_feed_forward():
    model, y, seen = seen_in("gpt")
    block = model.transformer.h[1]
    np.testing.assert_allclose(seen["h.1.norm_2"], block.ln_2(seen["h.1.resid_mid"]).numpy(), rtol=1e-10)
    np.testing.assert_allclose(seen["h.1.mlp.pre"], block.mlp.c_fc(seen["h.1.norm_2"]).numpy(), rtol=1e-10)
    np.testing.assert_allclose(seen["h.1.mlp.hidden"], tinylm.gelu(seen["h.1.mlp.pre"]).numpy(), rtol=1e-10)
    np.testing.assert_allclose(seen["logits"], seen["norm_f"] @ model.lm_head.weight.numpy().T, rtol=1e-9)
    np.testing.assert_array_equal(seen["logits"], y.numpy())
    _, _, seen = seen_in("llama")
    gate, up = seen["h.0.mlp.gate"], seen["h.0.mlp.up"]
    np.testing.assert_allclose(seen["h.0.mlp.hidden"], gate / (1 + np.exp(-gate)) * up, rtol=1e-10)


def test_post_norm_layers():
    """What has a name in TransformerModel's stream is what comes after the norms, batch first."""
    model, y, seen = seen_in("transformer")
    layer = model.transformer_encoder.layers[0]
    mid = layer.norm1(seen["h.0.resid_pre"] + seen["h.0.attn.out"]).numpy()
    np.testing.assert_allclose(seen["h.0.resid_mid"], mid, rtol=1e-10)
    np.testing.assert_allclose(seen["h.0.resid_post"], layer.norm2(mid + seen["h.0.mlp.out"]).numpy(), rtol=1e-10)
    assert not any("norm" in name for name in seen)
    np.testing.assert_array_equal(seen["logits"], y.numpy().swapaxes(0, 1))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_gates_by_their_definition():
    model, y, seen = seen_in("lstm")
    i, f, g, o, c, h = (seen[f"rnn.1.{name}"] for name in ("input", "forget", "candidate", "output", "c", "h"))
    before = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
    np.testing.assert_allclose(c, f * before + i * g, rtol=1e-10)
    np.testing.assert_allclose(h, o * np.tanh(c), rtol=1e-10)
    h_before = np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], axis=1)
    z = seen["rnn.0.h"] @ model.rnn.weight_ih_l1.numpy().T + h_before @ model.rnn.weight_hh_l1.numpy().T
    z += model.rnn.bias_ih_l1.numpy() + model.rnn.bias_hh_l1.numpy()
    np.testing.assert_allclose(f, sigmoid(z[..., 7:14]), rtol=1e-10)
    np.testing.assert_allclose(g, np.tanh(z[..., 14:21]), rtol=1e-10)
    np.testing.assert_array_equal(seen["logits"], y.numpy().swapaxes(0, 1))
    _, _, seen = seen_in("gru")
    z, n, h = (seen[f"rnn.0.{name}"] for name in ("update", "candidate", "h"))
    np.testing.assert_allclose(h, (1 - z) * n + z * np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], axis=1), rtol=1e-10)


def test_both_directions_and_lengths():
    _, _, seen = seen_in("lstm classifier")
    for name in ("rnn.0.h", "rnn.1.reverse.c"):
        np.testing.assert_array_equal(np.isnan(seen[name]).all(axis=2), np.arange(6) >= LENGTHS[:, None])
    back, forth = seen["rnn.1.reverse.h"], seen["rnn.1.h"]
    y = np.where((np.arange(6) < LENGTHS[:, None])[..., None], np.concatenate([forth, back], axis=2), -np.inf)
    np.testing.assert_array_equal(seen["pooled"], y.max(axis=1))


def test_adapters():
    model, inputs = made("llama")
    tinylm.nn.lora.adapt(model, 2, 4.0, lambda path: "proj" in path)
    for module in model.modules():
        if isinstance(module, nn.LowRankLinear):
            module.lora_B.data[...] = DRAW.standard_normal(module.lora_B.shape)
    plain = logits(model, inputs).numpy()
    with explain.cache(model) as seen:
        np.testing.assert_allclose(logits(model, inputs).numpy(), plain, rtol=1e-9)
    np.testing.assert_allclose(
        seen["h.0.attn.head_out"].numpy().sum(1) + model.model.layers[0].self_attn.o_proj(np.zeros((1, 1, 16))).numpy(),
        seen["h.0.attn.out"].numpy(), rtol=1e-9,
    )  # fmt: skip


def test_layers_of_ones_own():
    """A model of one's own has the names of the layers that tinylm knows, under their paths."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0), 2)
            self.memory = nn.GRU(8, 5, batch_first=True)

        def forward(self, x):
            return self.memory(self.body(x))[0]

    model, x = Own().to(dtype=np.float64), Tensor(DRAW.standard_normal((2, 6, 8)))
    assert explain.names(model)[0] == "body.h.0.resid_pre"
    assert explain.names(model)[-1] == "memory.rnn.0.h"
    plain = model(x).numpy()
    with explain.cache(model) as seen:
        np.testing.assert_allclose(model(x).numpy(), plain, rtol=1e-10)
    np.testing.assert_array_equal(seen["body.h.0.resid_pre"].numpy(), x.numpy())
    assert seen["memory.rnn.0.h"].shape == (2, 6, 5)


def test_attention_alone():
    """An nn.MultiheadAttention that is in no layer, with keys of other widths, and its weights."""
    layer = nn.MultiheadAttention(8, 2, kdim=5, vdim=3).to(dtype=np.float64)
    query, key, value = (Tensor(DRAW.standard_normal((t, 2, width))) for t, width in ((4, 8), (6, 5), (6, 3)))
    plain, weights = layer(query, key, value, average_attn_weights=False)
    with explain.cache(layer) as seen:
        y, averaged = layer(query, key, value)
    assert list(seen) == ["q", "k", "v", "scores", "pattern", "z", "head_out", "out"]
    np.testing.assert_allclose(y.numpy(), plain.numpy(), rtol=1e-10)
    np.testing.assert_allclose(seen["pattern"].numpy(), weights.numpy(), rtol=1e-10)
    np.testing.assert_allclose(averaged.numpy(), weights.numpy().mean(1), rtol=1e-10)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_first_states_and_texts_without_a_batch(kind):
    layers = kind(3, 5, num_layers=2, bidirectional=True, batch_first=True).to(dtype=np.float64)
    state = [Tensor(DRAW.standard_normal((4, 2, 5))) for _ in range(2)]
    x = Tensor(DRAW.standard_normal((2, 6, 3)))
    for values, first in ((x, state), (x[0], [s[:, 0] for s in state])):
        given = tuple(first) if kind is nn.LSTM else first[0]
        plain, last = layers(values, given)
        with explain.cache(layers) as seen:
            y, end = layers(values, given)
        np.testing.assert_allclose(y.numpy(), plain.numpy(), rtol=1e-10)
        for a, b in zip(end if kind is nn.LSTM else [end], last if kind is nn.LSTM else [last], strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10)
        top = np.concatenate([seen["rnn.1.h"].numpy(), seen["rnn.1.reverse.h"].numpy()], axis=2)
        np.testing.assert_allclose(top, plain.numpy().reshape(top.shape), rtol=1e-10)
