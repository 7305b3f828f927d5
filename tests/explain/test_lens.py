"""explain.lens and explain.readout: what a model would say after each layer."""

import io
import json

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from question_models import IDS, MODELS, SOURCE, VOCABULARY, copied_logits, copying_llama, made
from rich.console import Console

import tinylm
from tinylm import Tensor, explain, nn
from tinylm.errors import AnomalyError, ConfigError, RangeError, ShapeError
from tinylm.explain.questions.subjects import subject_of
from tinylm.models import NgramLM
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TransformerClassifier

LAST = {
    "gpt": "h.2.resid_post", "llama": "h.2.resid_post", "transformer": "h.1.resid_post", "rnn": "rnn.1.h", "lstm": "rnn.1.h",
    "gru": "rnn.0.h", "translator": "decoder.h.1.resid_post", "recurrent translator": "decoder.rnn.1.h",
    "transformer classifier": "h.1.resid_post",
}  # fmt: skip


def plain_logits(model, asked):
    return subject_of(model, **asked).logits()


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def printed(what, width=200):
    console = Console(width=width, file=io.StringIO())
    console.print(what)
    return console.file.getvalue()


@pytest.mark.parametrize("name", LAST)
def test_the_last_layer_is_the_output(name):
    """The output layer reads the last stream to exactly the model's logits."""
    model, asked = made(name)
    model.eval()
    with explain.cache(model, LAST[name]) as seen:
        logits = plain_logits(model, asked)
    assert np.array_equal(explain.readout(model, seen[LAST[name]]).numpy(), logits.numpy())


@pytest.mark.parametrize("name", MODELS)
def test_what_the_last_layer_says(name):
    model, asked = made(name)
    found = explain.lens(model, **asked, top=3)
    logits = plain_logits(model, asked).numpy()
    p = softmax(logits[0]) if logits.ndim == 3 else softmax(np.array([[0, logits[0]]]))
    top = np.argsort(-p, axis=1)[:, : found.top.shape[2]]
    assert np.array_equal(found.top[-1], top)
    np.testing.assert_allclose(found.probabilities[-1], np.take_along_axis(p, top, 1), rtol=1e-10)
    known = found.targets >= 0
    right = p[known, found.targets[known]]
    np.testing.assert_allclose(found.loss[-1, known], -np.log(right), rtol=1e-10)
    np.testing.assert_allclose(found.loss[-1, known].mean(), subject_of(model, **asked).losses(Tensor(logits))[0], rtol=1e-10)
    assert np.array_equal(found.rank[-1, known], 1 + (p[known] > right[:, None]).sum(1))
    assert np.isnan(found.loss[:, ~known]).all()
    assert model.training


def test_each_layer_by_its_definition():
    """Norm and product of a GPT by hand, at every layer; the embedding is one of them."""
    model, asked = made("gpt")
    found = explain.lens(model, **asked, top=VOCABULARY)
    assert found.layers == ["embed", "h.0", "h.1", "h.2"]
    with explain.cache(model.eval()) as seen:
        plain_logits(model, asked)
    norm, weight = model.transformer.ln_f, model.lm_head.weight.numpy()
    for i, name in enumerate(["h.0.resid_pre", "h.0.resid_post", "h.1.resid_post", "h.2.resid_post"]):
        x = seen[name].numpy()[0]
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + norm.eps)
        p = softmax((x * norm.weight.numpy() + norm.bias.numpy()) @ weight.T)
        np.testing.assert_allclose(found.probabilities[i], -np.sort(-p, axis=1), rtol=1e-9)
        np.testing.assert_allclose(found.loss[i, :-1], -np.log(p[np.arange(5), IDS[1:]]), rtol=1e-9)


@pytest.mark.parametrize("name", ["lstm classifier", "ensemble"])
def test_an_ensemble_combines_its_members(name):
    """The mean of the logits of classifiers; the mean of the probabilities of language models."""
    model, asked = made(name)
    both = [explain.lens(member, **asked, top=VOCABULARY) for member in model.members]
    found = explain.lens(model, **asked, top=VOCABULARY)
    assert found.layers == both[0].layers
    for i in range(len(found.layers)):
        if name == "ensemble":
            p = np.mean([np.exp(-member.loss[i, :-1]) for member in both], axis=0)
            np.testing.assert_allclose(found.loss[i, :-1], -np.log(p), rtol=1e-9)
        else:
            odds = [np.log(np.exp(-member.loss[i, 0]) / (1 - np.exp(-member.loss[i, 0]))) for member in both]
            np.testing.assert_allclose(found.loss[i, 0], np.log1p(np.exp(-np.mean(odds))), rtol=1e-9)


def test_the_layer_that_decides():
    """By hand: layer 0 copies; before it nothing is known, after it the answer stays."""
    model = copying_llama(layers=3)
    ids = [2, 2, 4, 4, 4]
    found = explain.lens(model, np.array(ids), texts="abcde".__getitem__, top=2)
    assert found.layers == ["embed", "h.0", "h.1", "h.2"]
    np.testing.assert_allclose(found.loss[0, :-1], np.log(5), rtol=1e-12)
    assert (found.rank[0, :-1] == 1).all()  # all tokens alike
    for t in range(4):
        p = softmax(copied_logits(ids[: t + 1]))
        for layer in (1, 2, 3):
            np.testing.assert_allclose(found.loss[layer, t], -np.log(p[ids[t + 1]]), rtol=1e-12)
    assert found.top[:, 4, 0].tolist() == [0, 4, 4, 4]
    assert found.decided.tolist() == [1] * 5
    assert found.rank[3, :4].tolist() == [1, 2, 2, 1]
    assert "'e'" in printed(found)


def test_deciding_means_staying():
    """A top token that was left again has not decided anything."""
    model, asked = made("gpt")
    rng = np.random.default_rng(0)
    for _ in range(3):
        state = {name: rng.standard_normal(x.shape) for name, x in model.state_dict().items()}
        state["lm_head.weight"] = state["transformer.wte.weight"]
        model.load_state_dict(state)
        found = explain.lens(model, **asked)
        for t in range(6):
            said = found.top[:, t, 0]
            stays = [i for i in range(len(said)) if (said[i:] == said[-1]).all()]
            assert found.decided[t] == stays[0]


def test_tables_json_and_picture():
    model, asked = made("gpt")
    found = explain.lens(model, **asked, texts="abcdefghijk".__getitem__, top=3)
    shown = printed(found)
    for t in range(6):
        assert repr("abcdefghijk"[found.top[-1, t, 0]]) in shown.splitlines()[t + 1]
        assert found.layers[found.decided[t]] in shown.splitlines()[t + 1].split()
    counts = [line.split()[1] for line in shown.splitlines()[-4:]]
    assert counts == [str((found.decided == i).sum()) for i in range(4)]
    at = printed(found.at(2)).splitlines()
    assert f"{found.probabilities[1, 2, 0]:.2f}" in at[2]
    record = json.loads(json.dumps(found.to_json()))
    assert record["positions"][2]["layers"][1]["says"][0] == {
        "token": "abcdefghijk"[found.top[1, 2, 0]], "probability": found.probabilities[1, 2, 0],
    }  # fmt: skip
    assert record["positions"][5]["right"] is None
    axes = explain.draw_lens(found).axes[0]
    said = [text.get_text() for text in axes.texts if text.get_gid() == "value"]
    assert said == ["abcdefghijk"[token] for token in found.top[:, :, 0].ravel()]
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(frame.get_x() + 0.5, frame.get_y() + 0.5) for frame in frames] == list(enumerate(found.decided))
    assert repr(found) == "Lens(4 layers, 6 positions)"
    assert explain.lens(model, **asked).answer(3) == "3"


def test_many_layers_fit_the_table():
    tinylm.manual_seed(0)
    model = copying_llama(layers=12)
    head = printed(explain.lens(model, np.array([1, 2]))).splitlines()[0].split()
    assert head[1:-4] == ["embed", "h.1", "h.3", "h.5", "h.7", "h.9", "h.11", "decided"]


def test_errors():
    model, asked = made("gpt")
    with pytest.raises(ConfigError, match="top is 0: expected at least 1"):
        explain.lens(model, **asked, top=0)
    with pytest.raises(ConfigError, match=r"top is 2\.5: expected an integer"):
        explain.lens(model, **asked, top=2.5)
    found = explain.lens(model, **asked)
    for position in (-1, 6):
        with pytest.raises(RangeError, match=f"position is {position}: expected 0 to 5, the text has 6"):
            found.at(position)
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = np.nan
    with pytest.raises(AnomalyError, match=r"the logits after h.1 have NaN"):
        explain.lens(model, **asked)
    model, asked = made("gpt")
    with pytest.raises(ShapeError, match="ids are lists of different lengths"):
        explain.lens(model, [[1], [2, 3]])
    with pytest.raises(ShapeError, match=r"ids have shape \(0,\)"):
        explain.lens(model, np.array([], np.int64))
    with pytest.raises(ShapeError, match=r"ids have shape \(1, 6\) and dtype int64: expected \(T,\) integers"):
        explain.lens(model, IDS[None])
    with pytest.raises(RangeError):
        explain.lens(model, np.array([1, VOCABULARY]))
    with pytest.raises(ConfigError, match="the text has 9 tokens: expected at most 8"):
        explain.lens(model, np.zeros(9, np.int64))
    with pytest.raises(ConfigError, match="source is given, but the model is a GPT"):
        explain.lens(model, **asked, source=SOURCE)
    with pytest.raises(ConfigError, match="a translator needs the source"):
        explain.lens(made("translator")[0], IDS)
    with pytest.raises(RangeError, match="label is 2: expected 0 or 1"):
        explain.lens(made("transformer classifier")[0], IDS, label=2)
    with pytest.raises(ConfigError, match="a BagClassifier has no layers"):
        explain.lens(BagClassifier(11, 4, 5), IDS)
    with pytest.raises(ConfigError, match="the model is a Linear: expected a language model"):
        explain.lens(nn.Linear(2, 2), IDS)
    with pytest.raises(ConfigError, match="Linear has no output layer"):
        explain.readout(nn.Linear(2, 2), Tensor(np.ones((1, 2, 2))))
    mixed = Ensemble([LSTMClassifier(11, 4, 5), TransformerClassifier(11, 8, 2, 12)])
    with pytest.raises(ConfigError, match=r"members of the ensemble have other layers: rnn\.0; embed, h\.0"):
        explain.lens(mixed, IDS)
    with pytest.raises(ConfigError, match="NgramLM"):
        explain.lens(NgramLM.__new__(NgramLM), IDS)
