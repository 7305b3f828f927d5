"""tinylm.explain.names, cache and replace: every activation of every model, by its definition."""

import copy
import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, explain, nn
from tinylm.errors import ConfigError, ShapeError
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RNNModel, TransformerModel, Translator
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator

DRAW = np.random.default_rng(0)
IDS = Tensor(DRAW.integers(0, 11, (2, 6)))
TIME_FIRST = Tensor(IDS.numpy().T.copy())
LENGTHS = np.array([6, 3])
GPT_SIZES = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}

MODELS = {
    "gpt": lambda: (GPT(GPTConfig(**GPT_SIZES, bias=True)), (IDS,)),
    "gpt with tanh": lambda: (GPT(GPTConfig(**GPT_SIZES, activation="gelu_tanh")), (IDS,)),
    "llama": lambda: (Llama(LlamaConfig(**{**GPT_SIZES, "n_head": 4, "n_embd": 16}, n_kv_head=2, n_hidden=12, attention_bias=True)), (IDS,)),
    "transformer": lambda: (TransformerModel(11, 8, 2, 12, 2, dropout=0.0), (TIME_FIRST,)),
    "rnn": lambda: (RNNModel("rnn", 11, 5, 7, 2, nonlinearity="sigmoid"), (TIME_FIRST,)),
    "lstm": lambda: (RNNModel("lstm", 11, 7, 7, 2, tie_weights=True), (TIME_FIRST,)),
    "gru": lambda: (RNNModel("gru", 11, 5, 7, 1), (TIME_FIRST,)),
    "translator": lambda: (Translator(11, 8, 2, 12, 2), (IDS, LENGTHS, IDS[:, :4])),
    "recurrent translator": lambda: (RecurrentTranslator(11, 8, 2), (IDS, LENGTHS, IDS[:, :4])),
    "bag": lambda: (BagClassifier(11, 4, 5), (IDS, LENGTHS)),
    "lstm classifier": lambda: (LSTMClassifier(11, 4, 5, 2), (IDS, LENGTHS)),
    "transformer classifier": lambda: (TransformerClassifier(11, 8, 2, 12, 2), (IDS, LENGTHS)),
    "ensemble": lambda: (Ensemble([LSTMClassifier(11, 4, 5), TransformerClassifier(11, 8, 2, 12)]), (IDS, LENGTHS)),
}  # fmt: skip


def made(name, dtype=np.float64, seed=1):
    tinylm.manual_seed(seed)
    model, inputs = MODELS[name]()
    return model.to(dtype=dtype).eval(), inputs


def logits(model, inputs):
    y = model(*inputs)
    return y[0] if isinstance(y, tuple) else y


def seen_in(name, dtype=np.float64):
    model, inputs = made(name, dtype)
    with explain.cache(model) as seen:
        y = logits(model, inputs)
    return model, y, {key: value.numpy() for key, value in seen.items()}


@pytest.mark.parametrize("name", MODELS)
def test_every_name_is_kept_and_changes_nothing(name):
    model, inputs = made(name)
    before = {path: dict(vars(module)) for path, module in model.named_modules()}
    plain = logits(model, inputs).numpy()
    with explain.cache(model) as seen:
        y = logits(model, inputs)
    assert list(seen) == [n for n in explain.names(model) if n in seen]
    assert set(seen) == set(explain.names(model))
    np.testing.assert_allclose(y.numpy(), plain, rtol=1e-10, atol=1e-12)
    with explain.replace(model, {"*": lambda value, *step: value}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), plain, rtol=1e-10, atol=1e-12)
    assert {path: dict(vars(module)) for path, module in model.named_modules()} == before
    assert np.array_equal(logits(model, inputs).numpy(), plain)


@pytest.mark.parametrize("name", MODELS)
def test_float32_agrees_with_the_fused_ops(name):
    model, inputs = made(name, np.float32)
    plain = logits(model, inputs).numpy()
    with explain.cache(model):
        y = logits(model, inputs).numpy()
    np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())


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
        ("translator", "encoder.h.1", "attn", False), ("translator", "decoder.h.0", "attn", True), ("translator", "decoder.h.1", "cross", False),
        ("transformer classifier", "h.0", "attn", False),
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
    path = next(p for p, _ in model.named_modules() if re.search(rf"{'decoder' if 'decoder' in layer else ''}.*\.{layer[-1]}\.{kind}\.{projection}$", p))
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
        assert (seen[name][1, 3:] == 0).all()  # beyond the length of the second text
        assert (seen[name][1, :3] != 0).all()
    back, forth = seen["rnn.1.reverse.h"], seen["rnn.1.h"]
    y = np.where((np.arange(6) < LENGTHS[:, None])[..., None], np.concatenate([forth, back], axis=2), -np.inf)
    np.testing.assert_array_equal(seen["pooled"], y.max(axis=1))


# ---------------------------------------------------------------- replacing


def test_a_head_without_output_is_a_head_without_weights():
    model, inputs = made("gpt")
    width = 4
    edited = copy.deepcopy(model)
    edited.transformer.h[0].attn.c_proj.weight.data[:, width : 2 * width] = 0
    expected = logits(edited, inputs).numpy()
    keep = np.array([1.0, 0.0]).reshape(2, 1, 1)
    with explain.replace(model, {"h.0.attn.head_out": lambda parts: parts * keep}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), expected, rtol=1e-10)
    with explain.replace(model, {"h.0.attn.z": lambda z: z * keep}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), expected, rtol=1e-10)
    assert not np.allclose(logits(model, inputs).numpy(), expected)


def test_values_of_another_run_give_its_output():
    """With the stream of another text from some layer on, the output is that of the other text."""
    for name, key in (("gpt", "h.1.resid_pre"), ("transformer", "h.0.resid_post"), ("rnn", "rnn.1.h"), ("llama", "norm_f")):
        model, (x,) = made(name)
        other = Tensor((x.numpy() + 1) % 11)
        with explain.cache(model, key) as seen:
            expected = logits(model, (other,)).numpy()
        with explain.replace(model, {key: seen[key].numpy()}):
            np.testing.assert_allclose(logits(model, (x,)).numpy(), expected, rtol=1e-10)


def test_a_state_is_what_the_next_step_starts_from():
    model, inputs = made("lstm")
    with explain.replace(model, {"rnn.0.c": lambda c, t: c * 0 if t == 2 else c}), explain.cache(model, ["rnn.0.*"]) as seen:
        logits(model, inputs)
    c, i, g = (seen[f"rnn.0.{name}"].numpy() for name in ("c", "input", "candidate"))
    assert (c[:, 2] == 0).all()
    assert (seen["rnn.0.h"].numpy()[:, 2] == 0).all()
    np.testing.assert_allclose(c[:, 3], (i * g)[:, 3], rtol=1e-10)


def test_contexts_can_be_nested_and_end_with_an_error():
    model, inputs = made("gpt")
    plain = logits(model, inputs).numpy()
    with explain.cache(model, "h.0.mlp.out") as outer, explain.replace(model, {"h.0.mlp.out": lambda v: v * 2}):
        with explain.cache(model, "h.0.mlp.out") as inner, explain.replace(model, {"h.0.mlp.out": 0.0}):
            last = logits(model, inputs).numpy()
        np.testing.assert_array_equal(inner["h.0.mlp.out"].numpy(), 2 * outer["h.0.mlp.out"].numpy())
        with explain.replace(model, {"h.0.mlp.out": lambda v: v * 0}):
            np.testing.assert_array_equal(logits(model, inputs).numpy(), last)
    with pytest.raises(ZeroDivisionError), explain.replace(model, {"h.*.mlp.out": lambda v: v / (1 // 0)}):
        logits(model, inputs)
    assert np.array_equal(logits(model, inputs).numpy(), plain)
    assert all("forward" not in vars(module) for module in model.modules())


def test_the_gradient_goes_through():
    """The gradient with respect to a cached activation is that with respect to a leaf put in its place, and that of differences."""
    for name, key in (("gpt", "h.1.resid_pre"), ("llama", "h.0.attn.pattern"), ("transformer", "h.0.mlp.hidden"), ("gpt", "h.0.attn.head_out")):
        model, inputs = made(name)
        with explain.cache(model, key) as seen:
            y = logits(model, inputs)
        cotangent = DRAW.standard_normal(y.shape)
        (gradient,) = tinylm.grad(y, [seen[key]], Tensor(cotangent))
        leaf = Tensor(seen[key].numpy().copy(), requires_grad=True)
        with explain.replace(model, {key: leaf}):
            (through,) = tinylm.grad(logits(model, inputs), [leaf], Tensor(cotangent))
        np.testing.assert_allclose(through.numpy(), gradient.numpy(), rtol=1e-9, atol=1e-13)
        direction, step = DRAW.standard_normal(leaf.shape), 1e-5
        ends = []
        for sign in (1, -1):
            with explain.replace(model, {key: leaf.numpy() + sign * step * direction}):
                ends.append((logits(model, inputs).numpy() * cotangent).sum())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient.numpy() * direction).sum(), rel=1e-6)


def test_the_parameters_gradients_are_those_of_the_plain_run():
    for name in MODELS:
        model, inputs = made(name)
        cotangent = Tensor(DRAW.standard_normal(logits(model, inputs).shape))
        logits(model, inputs).backward(cotangent)
        plain = {path: p.grad for path, p in model.named_parameters()}
        model.zero_grad()
        with explain.cache(model):
            logits(model, inputs).backward(cotangent)
        for path, p in model.named_parameters():
            np.testing.assert_allclose(p.grad, plain[path], rtol=1e-8, atol=1e-12, err_msg=f"{name} {path}")


def test_dropout_draws_what_the_plain_run_draws():
    for name in ("gpt", "llama", "transformer", "translator", "lstm classifier"):
        tinylm.manual_seed(1)
        model, inputs = MODELS[name]()
        model.to(dtype=np.float64)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
            elif hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.3
        results = []
        for wanted in ([], explain.names(model)):
            tinylm.manual_seed(7)
            with explain.cache(model, wanted):
                results.append(logits(model.train(), inputs).numpy())
        np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-13, err_msg=name)


def test_decoding_with_caches_and_recomputation():
    """Decoding step by step under `replace` agrees with whole forward passes; recomputed layers are stored instead, in the context."""
    model, _ = made("gpt", np.float32)
    with explain.replace(model, {"h.1.attn.head_out": lambda parts: parts * 0.0, "h.0.attn.pattern": lambda p: p}):
        ids = [1, 2]
        for _ in range(5):
            ids = [*ids, int(logits(model, (Tensor(np.array([ids])),)).numpy()[0, -1].argmax())]
        state, y = None, None
        for i, one in enumerate(ids[:-1]):
            y, state = model.advance(Tensor(np.array([[one]])), state)
            if i >= 1:
                assert int(y.numpy()[0, -1].argmax()) == ids[i + 1]
    model, inputs = made("gpt")
    model.checkpoint_activations = True
    with explain.replace(model.train(), {"h.0.mlp.out": lambda v: v * 3}):
        y = logits(model, inputs)
    cotangent = Tensor(DRAW.standard_normal(y.shape))
    y.backward(cotangent)
    stored, model.checkpoint_activations = model.transformer.wpe.weight.grad.copy(), False
    model.zero_grad()
    with explain.replace(model, {"h.0.mlp.out": lambda v: v * 3}):
        logits(model, inputs).backward(cotangent)
    np.testing.assert_array_equal(model.transformer.wpe.weight.grad, stored)
    model.checkpoint_activations = True
    with pytest.raises(ZeroDivisionError), explain.cache(model):
        assert model.checkpoint_activations is False
        raise ZeroDivisionError
    assert model.checkpoint_activations is True


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


# ---------------------------------------------------------------- errors


def test_errors():
    model, inputs = made("gpt")
    for call in (lambda: explain.cache(model, "h.0.attn.patern"), lambda: explain.replace(model, {"h.0.attn.patern": 0})):
        with pytest.raises(ConfigError, match=r"GPT has no activation 'h.0.attn.patern': expected one of 36, such as h.0.attn.pattern"), call():
            pass
    with pytest.raises(ConfigError, match="has no activations with names"), explain.cache(nn.Linear(2, 2)):
        pass
    with pytest.raises(ShapeError, match=r"h.0.mlp.out has shape \(3,\): expected \(2, 6, 8\)"), explain.replace(model, {"h.0.mlp.out": np.ones(3)}):
        logits(model, inputs)
    with pytest.raises(ShapeError, match=r"has shape \(5, 2, 6, 8\)"), explain.replace(model, {"h.0.mlp.out": np.ones((5, 2, 6, 8))}):
        logits(model, inputs)
    with pytest.raises(ConfigError, match="is None"), explain.replace(model, {"h.0.mlp.out": lambda v: None}):
        logits(model, inputs)
    with explain.cache(model, "logits") as seen:
        with pytest.raises(ConfigError, match="no forward pass has run"):
            seen["logits"]
        logits(model, inputs)
    with pytest.raises(ConfigError, match="no activation 'embed' was kept: there are logits"):
        seen["embed"]
    assert repr(seen) == "Activations(logits (2, 6, 11))"
