"""tinylm.explain.attention_weights: computed by hand, for every model with attention, and by word."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, explain, nn
from tinylm.errors import ConfigError
from tinylm.explain.attention_maps import strongest
from tinylm.explain.attention_pictures import draw_attention
from tinylm.models import GPT, GPTConfig, RNNModel, TransformerModel, Translator
from tinylm.models.classifier import TransformerClassifier


def ids(*shape):
    return Tensor(np.random.default_rng(0).integers(0, 11, shape))


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_by_hand():
    """With scores q·k of 0 and log 3, the second key has 3 times the weight of the first."""
    layer = nn.MultiheadAttention(1, 1, bias=False, batch_first=True).to(dtype=np.float64)
    layer.load_state_dict({"in_proj_weight": np.array([[1.0], [1.0], [1.0]]), "out_proj.weight": np.ones((1, 1))})
    q, k = Tensor(np.array([[[1.0], [np.log(3)]]])), Tensor(np.array([[[0.0], [1.0]]]))
    (only,) = explain.attention_weights(layer, q, k, k, is_causal=True)
    assert only.name == ""
    np.testing.assert_allclose(only.weights[0, 0], [[1, 0], [0.25, 0.75]], rtol=1e-12)
    (only,) = explain.attention_weights(layer, q * 2, k, k, attn_mask=np.array([[True, False], [False, False]]))
    np.testing.assert_allclose(only.weights[0, 0], [[0, 1], [0.1, 0.9]], rtol=1e-12)


def test_a_gpt():
    """The first layer's weights follow from its parameters; later positions get no weight."""
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=3, n_head=2, n_embd=8)).to(dtype=np.float64)
    x = ids(2, 6)
    found = explain.attention_weights(model, x)
    assert [a.name for a in found] == ["h.0.attn", "h.1.attn", "h.2.attn"]
    trunk = model.transformer
    h = trunk.h[0].ln_1(trunk.wte(x) + trunk.wpe(tinylm.arange(6))).numpy()
    q, k, _ = np.split(h @ trunk.h[0].attn.c_attn.weight.numpy().T, 3, axis=-1)
    q, k = (a.reshape(2, 6, 2, 4).transpose(0, 2, 1, 3) for a in (q, k))
    scores = np.where(np.tri(6, dtype=bool), q @ k.transpose(0, 1, 3, 2) / 2, -np.inf)
    np.testing.assert_allclose(found[0].weights, softmax(scores), rtol=1e-10)
    for a in found:
        assert a.weights.shape == (2, 2, 6, 6)
        np.testing.assert_allclose(a.weights.sum(-1), 1)
        assert not np.triu(a.weights, 1).any()
    assert not np.allclose(found[0].weights, found[1].weights)


def test_the_layers_own_weights():
    """MultiheadAttention returns its weights if asked; with dropout, those before dropout."""
    layer = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = Tensor(np.random.default_rng(0).standard_normal((5, 3, 8)).astype(np.float32))
    mask = np.triu(np.ones((5, 5), bool), 1)
    layer.eval()
    _, expected = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
    layer.train()
    (only,) = explain.attention_weights(layer, x, x, x, attn_mask=mask, need_weights=False)
    np.testing.assert_allclose(only.weights, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_other_models_layers_and_padding():
    model = TransformerModel(11, 8, 2, 12, 2, dropout=0.0)
    found = explain.attention_weights(model, ids(6, 3))
    assert [a.name for a in found] == ["h.0.attn", "h.1.attn"]
    assert all(a.weights.shape == (3, 2, 6, 6) for a in found)

    model = Translator(11, 8, 2, 12, 2)
    lengths = np.array([6, 4, 2])
    found = explain.attention_weights(model, ids(3, 6), lengths, ids(3, 5))
    assert [a.name for a in found] == [
        "encoder.h.0.attn", "encoder.h.1.attn", "decoder.h.0.attn", "decoder.h.0.cross", "decoder.h.1.attn", "decoder.h.1.cross",
    ]  # fmt: skip
    crossing = found[3].weights
    assert crossing.shape == (3, 2, 5, 6)
    for weights, n in zip(crossing, lengths, strict=True):
        assert not weights[..., n:].any()
        np.testing.assert_allclose(weights[..., :n].sum(-1), 1, rtol=1e-5)

    model = TransformerClassifier(11, 8, 2, 12, 1)
    (only,) = explain.attention_weights(model, ids(3, 6), lengths)
    assert only.name == "h.0.attn"
    assert not only.weights[2, :, :, 2:].any()


def test_without_attention_or_model():
    model = RNNModel("gru", 11, 8, 8, 1)
    assert explain.attention_weights(model, ids(4, 2)) == []
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8))
    with tinylm.no_grad():
        (only,) = explain.attention_weights(model, ids(2, 4))
    assert only.weights.shape == (2, 2, 4, 4)
    with pytest.raises(ConfigError, match=r"got Tensor: expected the model and its inputs, attention_weights\(model, ids\)"):
        explain.attention_weights(model(ids(2, 4)))


def test_words_from_pieces():
    tokens = ["a", "b", " ", "c", "\n", " ", "d"]
    weights = np.arange(49.0).reshape(1, 7, 7)
    joined, words, _ = explain.by_word(weights, tokens)
    assert words == ["ab ", "c\n ", "d"]
    parts = [slice(0, 3), slice(3, 6), slice(6, 7)]
    for i, rows in enumerate(parts):
        for j, columns in enumerate(parts):
            assert joined[0, i, j] == pytest.approx(weights[0, rows, columns].sum(axis=1).mean())
    assert explain.by_word(np.eye(4), ["The", " k", "ing", "."])[1] == ["The", " king."]
    causal = np.tri(7) / np.tri(7).sum(1, keepdims=True)
    joined, _, _ = explain.by_word(causal, tokens)
    np.testing.assert_allclose(joined.sum(-1), 1)
    assert not np.triu(joined, 1).any()
    weights = np.arange(21.0).reshape(7, 3)
    joined, words, sources = explain.by_word(weights, tokens, ["x ", "y", "z"])
    assert (words, sources) == (["ab ", "c\n ", "d"], ["x ", "yz"])
    np.testing.assert_allclose(joined, [[weights[rows, s].sum(axis=1).mean() for s in (slice(0, 1), slice(1, 3))] for rows in parts])


def test_the_strongest_looks():
    weights = np.array([[1, 0, 0, 0], [0.4, 0.6, 0, 0], [0.3, 0.3, 0.4, 0], [0.1, 0.5, 0.2, 0.2]])
    assert strongest(weights, 3, 2) == [(1, 0.5), (2, 0.2)]
    assert strongest(weights, 2) == [(0, 0.3), (1, 0.3)], "ties in the order of the text"
    assert strongest(weights, 0) == []
    assert strongest(weights, 1, crossing=True) == [(1, 0.6), (0, 0.4)]
    assert strongest(weights.T, 0) == [(1, 0.4), (2, 0.3), (3, 0.1)], "later ones, too"


def test_the_picture():
    one = explain.Attention("first", np.full((1, 2, 3, 4), 0.25))
    two = explain.Attention("second", np.arange(12).reshape(1, 1, 3, 4) / 12)
    figure = draw_attention([one, two], ["$a", "\n", "c d"], ["w", "x", "y", "z"])
    cells = figure.axes
    assert [cell.get_title() for cell in cells] == ["first, head 0", "first, head 1", "second, head 0", ""]
    np.testing.assert_array_equal(cells[2].images[0].get_array(), two.weights[0, 0])
    assert [label.get_text() for label in cells[2].get_yticklabels()] == ["$a", "⏎", "c·d"]
    assert [label.get_text() for label in cells[2].get_xticklabels()] == ["w", "x", "y", "z"]
