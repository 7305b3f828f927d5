"""explain.ablate: what it costs to switch a part off, on models whose answer is known and beside single runs."""

import io
import json

import numpy as np
import pytest
from question_models import IDS, MODELS, OTHER, VOCABULARY, copied_logits, copying_llama, made
from rich.console import Console

from tinylm import explain, nn, ops
from tinylm.errors import AnomalyError, ConfigError
from tinylm.explain.questions import edits
from tinylm.explain.questions.subjects import subject_of
from tinylm.models.classifier import BagClassifier

UNITS = ("rnn", "lstm", "gru", "recurrent translator", "lstm classifier")


def loss_of(model, asked, replacements):
    """Returns the loss of a single run."""
    subject = subject_of(model, **asked)
    with explain.replace(model, replacements):
        return subject.losses(subject.logits())[0]


def place(found, layer, column):
    return found.layers.index(layer), found.columns.index(column)


def printed(what):
    console = Console(width=200, file=io.StringIO())
    console.print(what)
    return console.file.getvalue()


# ---------------------------------------------------------------- known answers


@pytest.mark.parametrize("by", ["zero", "mean", "resample"])
def test_one_head_does_all_the_work(by):
    """The copying head costs all that the model knows, another head, the MLPs and the second layer exactly nothing."""
    ids, v = [3, 3, 1, 3, 3], 5
    model = copying_llama(layers=2)
    found = explain.ablate(model, np.array(ids), by=by)
    p = [np.exp(z) / np.exp(z).sum() for z in (copied_logits(ids[: t + 1]) for t in range(4))]
    whole = -np.mean([np.log(p[t][ids[t + 1]]) for t in range(4)])
    np.testing.assert_allclose(found.loss, whole, rtol=1e-12)
    assert found.columns == ["head 0", "head 1", "MLP", "layer"]
    others = np.ones((2, 4), bool)
    others[0, [0, 3]] = False
    assert (found.change[others] == 0).all()
    assert (found.spread[others] == 0).all()
    if by == "zero":
        np.testing.assert_allclose(found.change[0, [0, 3]], np.log(v) - whole, rtol=1e-12)
        np.testing.assert_allclose(found.everything, np.log(v), rtol=1e-12)
    elif by == "mean":
        np.testing.assert_allclose(found.change[0, 0], found.change[0, 3], rtol=1e-12)
    assert (found.change[0, [0, 3]] != 0).all()


def test_the_mean_of_the_copying_head():
    """Its mean over the positions is a mean of means, which every position then has."""
    ids = [3, 3, 1, 3, 3]
    found = explain.ablate(copying_llama(), np.array(ids), by="mean")
    means = np.stack([np.eye(5)[ids[: t + 1]].mean(0) for t in range(5)]).mean(0)
    losses = []
    for t in range(4):
        stream = np.concatenate([np.eye(5)[ids[t]], 3 * means])
        z = 3 * means / np.sqrt((stream**2).mean())
        losses.append(np.log(np.exp(z).sum()) - z[ids[t + 1]])
    np.testing.assert_allclose(found.loss + found.change[0, 0], np.mean(losses), rtol=1e-12)


def test_a_reference_of_one_position():
    """With one value to draw from, mean and resample are the same, and draws do not differ."""
    model, asked = made("gpt")
    mean, resampled = (explain.ablate(model, **asked, by=by, reference=[OTHER[:1]]) for by in ("mean", "resample"))
    np.testing.assert_allclose(mean.change, resampled.change, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(resampled.spread, 0, atol=1e-13)
    assert (mean.draws, resampled.draws) == (1, 5)


# ---------------------------------------------------------------- beside single runs


@pytest.mark.parametrize("name", MODELS)
def test_zero_beside_single_runs(name):
    model, asked = made(name)
    found = explain.ablate(model, **asked)
    model.eval()
    np.testing.assert_allclose(found.loss, loss_of(model, asked, {}), rtol=1e-10)
    if name in UNITS:
        layer = found.layers[-1]
        for unit in (0, 4):
            keep = np.arange(model_width(model)) != unit
            changed = loss_of(model, asked, {f"{layer}.h": lambda value, step, keep=keep: value * keep})
            np.testing.assert_allclose(found.loss + found.change[place(found, layer, f"unit {unit}")], changed, rtol=1e-9)
        changed = loss_of(model, asked, {f"{layer}.h": 0.0})
        np.testing.assert_allclose(found.loss + found.change[place(found, layer, "layer")], changed, rtol=1e-9)
        np.testing.assert_allclose(found.everything, loss_of(model, asked, {"*rnn.*.h": 0.0}), rtol=1e-9)
        return
    for layer in found.layers[-2:]:
        branches = [kind for kind in ("attn", "cross") if f"{layer}.{kind}.out" in explain.names(model)]
        for kind in branches:
            keep = np.array([True, False] + [True] * 2)[: 4 if name == "llama" else 2].reshape(-1, 1, 1)
            changed = loss_of(model, asked, {f"{layer}.{kind}.head_out": lambda value, keep=keep: value * keep})
            column = f"{'head' if kind == 'attn' else 'cross'} 1"
            np.testing.assert_allclose(found.loss + found.change[place(found, layer, column)], changed, rtol=1e-9)
        changed = loss_of(model, asked, {f"{layer}.mlp.out": 0.0})
        np.testing.assert_allclose(found.loss + found.change[place(found, layer, "MLP")], changed, rtol=1e-9)
        changed = loss_of(model, asked, {f"{layer}.{kind}.out": 0.0 for kind in [*branches, "mlp"]})
        np.testing.assert_allclose(found.loss + found.change[place(found, layer, "layer")], changed, rtol=1e-9)
    assert model.training is False


def model_width(model):
    inner = getattr(model, "members", [model])[0]
    return (inner.rnn if hasattr(inner, "rnn") else inner.decoder).hidden_size


@pytest.mark.parametrize(("name", "layer"), [("gpt", "h.1"), ("lstm", "rnn.1"), ("transformer classifier", "h.0")])
def test_the_mean_over_a_reference(name, layer):
    model, asked = made(name)
    found = explain.ablate(model, **asked, by="mean", reference=[OTHER, IDS[:3]])
    model.eval()
    activation = f"{layer}.h" if name == "lstm" else f"{layer}.mlp.out"
    values = []
    for text in (OTHER, IDS[:3]):
        with explain.cache(model, activation) as seen:
            subject_of(model, text).logits()
        values.append(seen[activation].numpy()[0])
    mean = np.concatenate(values).mean(0)
    changed = loss_of(model, asked, {activation: lambda value, *step: ops.zeros_like(value) + mean})
    column = "layer" if name == "lstm" else "MLP"
    np.testing.assert_allclose(found.loss + found.change[place(found, layer, column)], changed, rtol=1e-9)


def test_resampling_is_seeded():
    model, asked = made("gpt")
    first, again, other = (explain.ablate(model, **asked, by="resample", draws=3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.change, again.change)
    assert np.array_equal(first.spread, again.spread)
    assert (first.change != other.change).mean() > 0.9
    assert (first.spread > 0).all()


def test_resampled_values_are_those_of_the_reference(monkeypatch):
    """Each value comes from a position of the reference, and all of the reference's positions are drawn."""
    model, asked = made("gpt")
    given = []
    monkeypatch.setattr(
        "tinylm.explain.questions.ablation.edited",
        lambda subject, all_edits: given.extend(all_edits) or iter([subject.logits(1 + len(all_edits))]),
    )
    explain.ablate(model, **asked, by="resample", reference=[OTHER], draws=4)
    with explain.cache(model.eval(), "h.2.mlp.out") as seen:
        subject_of(model, OTHER).logits()
    rows = seen["h.2.mlp.out"].numpy()[0]
    drawn = np.concatenate([edit["h.2.mlp.out"][1] for edit in given if list(edit) == ["h.2.mlp.out"]])
    distances = np.abs(drawn[:, None] - rows).max(2)
    assert (distances.min(1) < 1e-12).all()
    assert set(distances.argmin(1)) == set(range(len(rows)))


@pytest.mark.parametrize("name", ["gpt", "lstm", "translator"])
def test_batches_do_not_matter(name, monkeypatch):
    model, asked = made(name)
    together = explain.ablate(model, **asked)
    monkeypatch.setattr(edits, "_MOST_POSITIONS", 18)
    apart = explain.ablate(model, **asked)
    np.testing.assert_allclose(apart.change, together.change, rtol=1e-9, atol=1e-13)


# ---------------------------------------------------------------- what is shown


def test_tables_json_and_picture():
    model, asked = made("translator")
    found = explain.ablate(model, **asked)
    assert found.layers == ["encoder.h.0", "encoder.h.1", "decoder.h.0", "decoder.h.1"]
    assert found.columns == ["head 0", "head 1", "cross 0", "cross 1", "MLP", "layer"]
    assert np.isnan(found.change[:2, 2:4]).all()
    assert np.isfinite(found.change[2:]).all()
    assert f"{found.change[3, 4]:+.3f}" in printed(found) or f"{found.change[3, 4]:+.5f}" in printed(found)
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(record["parts"]) == np.isfinite(found.change).sum()
    assert record["parts"][0] == {"layer": "encoder.h.0", "part": "head 0", "change": found.change[0, 0], "spread": 0.0}
    ranked = [change for _, change, _ in found.ranked()]
    assert ranked == sorted(ranked, key=lambda change: -abs(change))
    assert len(ranked) + len(found.ranked(layers=True)) == len(record["parts"])
    figure = explain.draw_ablation(found)
    assert np.array_equal(figure.axes[0].images[0].get_array().filled(np.nan), found.change[:, :4], equal_nan=True)
    assert repr(found).startswith("Ablation(by zero, 4 layers, 20 parts, loss ")


def test_units_are_ranked():
    model, asked = made("lstm")
    found = explain.ablate(model, **asked, by="resample", draws=2)
    lines = printed(found).splitlines()
    assert lines[2].split() == ["part", "change"]
    assert [line.split()[0] for line in lines[3:5]] == [name for name, _, _ in found.ranked(layers=True)]
    name, change, spread = found.ranked()[0]
    assert (
        " ".join(lines[5].split())
        == f"{name} {change:+.{3 if abs(found.change).max() >= 0.1 else 5}f} ±" + lines[5].partition("±")[2].strip()
    )
    assert len(explain.draw_ablation(found).axes[0].patches) == 14
    assert spread > 0


def test_errors():
    model, asked = made("gpt")
    for message, settings in (
        ("by is 'noise': expected 'zero', 'mean', 'resample'", {"by": "noise"}),
        ("draws is 0: expected at least 1", {"draws": 0}),
        ("draws is 1.5: expected an integer", {"by": "resample", "draws": 1.5}),
        ("seed is -1: expected", {"by": "resample", "seed": -1}),
        ("the reference has no texts", {"by": "mean", "reference": []}),
        ("a reference is given, but by is 'zero'", {"reference": [IDS]}),
    ):
        with pytest.raises(ConfigError, match=message):
            explain.ablate(model, **asked, **settings)
    with pytest.raises(ConfigError, match="the text has 1 tokens: a loss needs at least 2"):
        explain.ablate(model, IDS[:1])
    translator, pair = made("translator")
    with pytest.raises(ConfigError, match="a reference is given, but the model is a translator"):
        explain.ablate(translator, **pair, by="mean", reference=[IDS])
    for name in ("gpt", "transformer classifier"):
        broken, asked = made(name)
        next(p for path, p in broken.named_parameters() if "1" in path and path.endswith(("c_fc.weight", "linear1.weight"))).data[0] = (
            np.nan
        )
        with pytest.raises(AnomalyError, match="the loss of the text is NaN"):
            explain.ablate(broken, **asked)
    for other in (BagClassifier(VOCABULARY, 4, 5), nn.Linear(2, 2)):
        with pytest.raises(ConfigError):
            explain.ablate(other, IDS)
