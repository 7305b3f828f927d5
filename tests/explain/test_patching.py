"""explain.patch: what brings the answer to one text back in the run of another, on known answers and beside single runs."""

import dataclasses
import io
import json

import numpy as np
import pytest
from question_models import IDS, MODELS, OTHER, SOURCE, copied_logits, copying_llama, made
from rich.console import Console

from tinylm import explain, nn
from tinylm.data.tokenizers import WordTokenizer
from tinylm.errors import ConfigError, DataError, RangeError, ShapeError
from tinylm.explain.questions import edits
from tinylm.explain.questions.subjects import subject_of
from tinylm.explain.reading import LanguageReading

RECURRENT = ("rnn", "lstm", "gru", "recurrent translator", "lstm classifier")


def pair(name, ids=IDS, other=OTHER):
    """Returns (model, what `patch` takes): a translator's source is the text."""
    model = made(name)[0]
    if "translator" in name:
        return model, {"ids": IDS[:2], "source": ids, "other": other}
    return model, {"ids": ids, "other": other}


def answer_of(model, asked, what, metric_of, replacements):
    """Returns the metric of a single run of the other text."""
    given = {"ids": asked["ids"], "source": asked["other"]} if "source" in asked else {"ids": asked["other"]}
    with explain.replace(model, replacements):
        return metric_of(subject_of(model, **given).logits().numpy())


def printed(what):
    console = Console(width=200, file=io.StringIO())
    console.print(what)
    return console.file.getvalue()


# ---------------------------------------------------------------- known answers


@pytest.mark.parametrize("what", ["stream", "attn", "mlp", "heads"])
def test_half_of_a_mean(what):
    """The copying head answers with the mean of two tokens, so each of them is one half of the answer, by symmetry exactly."""
    found = explain.patch(copying_llama(layers=2), np.array([1, 1]), np.array([3, 3]), what=what)
    assert found.in_text == pytest.approx(-found.in_other, rel=1e-12)
    if what == "stream":
        expected = [[0.5, 0.5], [0, 1], [0, 1]]
        assert found.rows == ["embed", "h.0", "h.1"]
    elif what == "attn":
        expected = [[0, 1], [0, 0]]
    elif what == "mlp":
        expected = np.zeros((2, 2))
    else:
        expected = [[1, 0], [0, 0]]
        assert found.columns == ["head 0", "head 1"]
    np.testing.assert_allclose(found.recovery, expected, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_text_of_one_token(name):
    """All positions of any one layer carry everything: of one token that is the only one. An LSTM classifier has two directions,
    which carry everything together."""
    model, asked = pair(name, IDS[:1], IDS[1:2])
    found = explain.patch(model, **asked)
    if name == "lstm classifier":
        assert found.rows == ["rnn.0", "rnn.0.reverse", "rnn.1", "rnn.1.reverse"]
        np.testing.assert_allclose(found.recovery[2:].sum(), 1, rtol=1e-8)
    elif name == "recurrent translator":  # the decoder starts from the states of both layers, of which the first makes the second
        np.testing.assert_allclose(found.recovery[0], 1, rtol=1e-8)
    else:
        np.testing.assert_allclose(found.recovery, 1, rtol=1e-8)


@pytest.mark.parametrize("name", ["gpt", "llama", "transformer", "ensemble", "transformer classifier", "translator"])
def test_all_positions_of_one_layer(name):
    """Patched together, all positions of any one layer bring all of it back."""
    model, asked = pair(name)
    texts = [
        {"ids": asked["ids"], "source": x} if "source" in asked else {"ids": x} for x in (asked.get("source", asked["ids"]), asked["other"])
    ]
    text, other = (subject_of(model, **given) for given in texts)
    streams = [n for n in explain.names(model) if "resid_" in n and "decoder" not in n]
    with explain.cache(model, streams) as seen:
        right = text.logits().numpy()
    assert np.abs(right - other.logits().numpy()).max() > 1e-3
    for stream in {n.partition("members.0.")[2] or n for n in streams if "members.1" not in n}:
        everywhere = {n: (True, seen[n].numpy()[0]) for n in streams if n.endswith(stream)}
        ((whole),) = edits.edited(other, [everywhere])
        np.testing.assert_allclose(whole.numpy()[1], right[0], rtol=1e-10, atol=1e-12)
        assert np.abs(whole.numpy()[0] - right[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["gpt", "llama", "transformer", "lstm", "gru"])
def test_where_nothing_differs(name):
    """Where the texts agree so far, a patch changes nothing; the only difference is all of it, in the embedding or in the state."""
    other = IDS.copy()
    other[3] = (other[3] + 1) % 11
    model, asked = pair(name, IDS, other)
    found = explain.patch(model, **asked)
    np.testing.assert_allclose(found.recovery[:, :3], 0, atol=1e-10)
    if name == "gru":
        np.testing.assert_allclose(found.recovery[0, 3:], 1, rtol=1e-8)  # one layer's state carries all that came before
    elif name != "lstm":
        np.testing.assert_allclose(found.recovery[0], np.arange(6) == 3, atol=1e-9)
    if name not in RECURRENT:
        np.testing.assert_allclose(found.recovery[-1], np.arange(6) == 5, atol=1e-9)
    assert found.columns == [str(i) for i in IDS]
    assert found.others == [str(i) for i in other]


# ---------------------------------------------------------------- beside single runs


@pytest.mark.parametrize("name", MODELS)
def test_positions_beside_single_runs(name):
    model, asked = pair(name)
    found = explain.patch(model, **asked, **({} if "classifier" in name else {"metric": "log-probability", "answer": 4}))

    def metric(logits):
        z = logits[0]
        return z if "classifier" in name else z[-1, 4] - np.log(np.exp(z[-1]).sum())

    given = {"ids": asked["ids"], "source": asked["source"]} if "source" in asked else {"ids": asked["ids"]}
    names = [n for n in explain.names(model) if not n.startswith("decoder")]
    with explain.cache(model, names) as seen:
        right = metric(subject_of(model, **given).logits().numpy())
    wrong = answer_of(model, asked, "stream", metric, {})
    np.testing.assert_allclose([found.in_text, found.in_other], [right, wrong], rtol=1e-9)
    layer = found.rows[-1]
    for t in (0, 4):
        if name in RECURRENT:
            touched = [n for n in names if n.endswith((f"{layer}.h", f"{layer}.c"))]
            patches = {n: lambda v, step, n=n, t=t: seen[n].numpy()[:, t] if step == t else v for n in touched}
        else:
            touched = [n for n in names if n.endswith(f"{layer}.resid_post")]
            at = (np.arange(6) == t)[:, None]
            patches = {n: lambda v, n=n, at=at: np.where(at, seen[n].numpy(), v.numpy()) for n in touched}
        assert len(touched) >= 1
        patched = answer_of(model, asked, "stream", metric, patches)
        np.testing.assert_allclose(found.recovery[-1, t], (patched - wrong) / (right - wrong), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "what", "part"), [("gpt", "attn", "attn.out"), ("llama", "mlp", "mlp.out"), ("translator", "heads", "attn.z")]
)
def test_branches_beside_single_runs(name, what, part):
    model, asked = pair(name)
    found = explain.patch(model, **asked, what=what, answer=4, metric="log-probability")
    assert found.metric == "log-probability of '4'"
    prefix = "encoder." if name == "translator" else ""

    def metric(logits):
        return logits[0, -1, 4] - np.log(np.exp(logits[0, -1]).sum())

    given = {"ids": asked["ids"], "source": asked["source"]} if "source" in asked else {"ids": asked["ids"]}
    with explain.cache(model, f"{prefix}h.1.{part}") as seen:
        right = metric(subject_of(model, **given).logits().numpy())
    ours = seen[f"{prefix}h.1.{part}"].numpy()
    wrong = answer_of(model, asked, what, metric, {})
    place = np.arange(2)[:, None, None] == 1 if what == "heads" else np.arange(6)[:, None] == 1
    patched = answer_of(model, asked, what, metric, {f"{prefix}h.1.{part}": lambda v: np.where(place, ours, v.numpy())})
    np.testing.assert_allclose(found.recovery[1, 1], (patched - wrong) / (right - wrong), rtol=1e-8, atol=1e-11)


def test_batches_do_not_matter(monkeypatch):
    model, asked = pair("gpt")
    together = explain.patch(model, **asked)
    monkeypatch.setattr(edits, "_MOST_POSITIONS", 18)
    apart = explain.patch(model, **asked)
    np.testing.assert_allclose(apart.recovery, together.recovery, rtol=1e-8, atol=1e-11)
    assert model.training


@pytest.mark.parametrize("name", ["gpt", "rnn"])
def test_the_questions_on_a_gpu(cuda, name):
    model, asked = pair(name)
    model.to(dtype=np.float32)

    def answers():
        yield explain.lens(model, IDS).loss[:, :-1]
        yield explain.ablate(model, IDS, by="resample", draws=2).change
        yield explain.patch(model, **asked).recovery

    expected = list(answers())
    model.to("cuda")
    for ours, theirs in zip(answers(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3 * np.abs(theirs).max())  # differences of losses, in float32


# ---------------------------------------------------------------- what is shown


def test_tables_json_and_picture():
    model, asked = pair("gpt")
    found = explain.patch(model, **asked, texts="abcdefghijk".__getitem__)
    lines = printed(found).splitlines()
    assert f"{found.in_text:.3f} for the text, {found.in_other:.3f} for the other one" in lines[0]
    assert lines[2].split() == ["token", "embed", "h.0", "h.1", "h.2"]
    for t, line in enumerate(lines[3:]):
        ours, theirs = ("abcdefghijk"[ids[t]] for ids in (IDS, OTHER))
        assert (f"'{ours}'" if ours == theirs else f"'{theirs}' → '{ours}'") in line
        assert line.split()[-4:] == ["·" if abs(x) < 0.005 else f"{x:.2f}" for x in found.recovery[:, t]]
    record = json.loads(json.dumps(found.to_json()))
    assert record["recovery"] == found.recovery.tolist()
    assert record["others"] == ["abcdefghijk"[i] for i in OTHER]
    axes = explain.draw_patching(found).axes[0]
    assert np.array_equal(axes.images[0].get_array(), found.recovery)
    assert repr(found).startswith("Patching(stream, 4 x 6, logit of '")
    heads = explain.patch(model, **asked, what="heads")
    assert printed(heads).splitlines()[2].split() == ["layer", "head", "0", "head", "1"]


def test_the_metric_by_default():
    """The difference of two answers, or the log-probability of one that both texts have."""
    model = copying_llama()
    different = explain.patch(model, np.array([1, 1]), np.array([3, 3]), texts="abcde".__getitem__)
    assert different.metric == "logit of 'b' minus logit of 'd'"
    same = explain.patch(model, np.array([1, 1, 1]), np.array([3, 1, 1]), texts="abcde".__getitem__)
    assert same.metric == "log-probability of 'b'"
    asked = explain.patch(model, np.array([1, 1]), np.array([3, 3]), answer=3, metric="log-probability", texts="abcde".__getitem__)
    assert asked.metric == "log-probability of 'd'"
    text, other, first, last = (
        copied_logits(ids)[3] - np.log(np.exp(copied_logits(ids)).sum()) for ids in ([1, 1], [3, 3], [1, 3], [3, 1])
    )
    np.testing.assert_allclose(asked.recovery[0], [(first - other) / (text - other), (last - other) / (text - other)], rtol=1e-10)


def test_texts_that_hardly_differ():
    """Recovery is a part of the difference between the texts: the table says if that is small."""
    model, asked = pair("gpt")
    found = explain.patch(model, **asked)
    assert abs(found.in_text - found.in_other) > 0.1
    assert printed(found).splitlines()[1].strip() == "recovery: 0 as for the other text, 1 as for the text"
    close = dataclasses.replace(found, in_text=found.in_other + 0.0123)
    assert "; the two differ by 0.012 only, so that small changes recover much" in printed(close).splitlines()[1]


# ---------------------------------------------------------------- errors


def test_an_answer_that_the_model_does_not_know():
    """A word without the space before it is another token, and one that the vocabulary lacks is not measured as <unk>."""
    read = LanguageReading(made("gpt")[0], WordTokenizer([" be", "To", *map(str, range(8))]), "To be", "cpu")
    assert read.token_id(" be") == 1
    for word in ("be", " not"):
        with pytest.raises(ConfigError, match=f"the model has no token '{word}': a space before a word is part of its token"):
            read.token_id(word)


def test_errors():
    model, asked = pair("gpt")
    with pytest.raises(ShapeError, match="the text has 6 tokens and the other 5: expected the same number"):
        explain.patch(model, IDS, OTHER[:5])
    with pytest.raises(ConfigError, match=r"log-probability of '\d+' is .* for the text and .* for the other one: there is no difference"):
        explain.patch(model, IDS, IDS)
    with pytest.raises(ConfigError, match="logit of '0' minus logit of '0' is 0 for the text and 0 for the other one"):
        explain.patch(copying_llama(), np.array([1, 1]), np.array([0, 0]), answer=0, metric="logit-difference")
    with pytest.raises(RangeError, match="answer is 11: expected a token id from 0 to 10"):
        explain.patch(model, **asked, answer=11)
    with pytest.raises(ConfigError, match="what is 'all': expected 'stream', 'attn', 'mlp', 'heads'"):
        explain.patch(model, **asked, what="all")
    with pytest.raises(ConfigError, match="metric is 'loss': expected 'logit-difference', 'log-probability'"):
        explain.patch(model, **asked, metric="loss")
    for what, kind in (("heads", "heads"), ("attn", "attention"), ("mlp", "MLPs")):
        with pytest.raises(ConfigError, match=f"RNNModel has no {kind} to patch"):
            explain.patch(*pair("lstm")[:1], IDS, OTHER, what=what)
    classifier, texts = pair("transformer classifier")
    with pytest.raises(ConfigError, match="the model is a classifier, whose logit is measured"):
        explain.patch(classifier, **texts, answer=1)
    with pytest.raises(ConfigError, match="source is given"):
        explain.patch(model, **asked, source=SOURCE)
    with pytest.raises((ConfigError, DataError)):
        explain.patch(nn.Linear(2, 2), IDS, OTHER)
