"""Linear probes: labels that are in an activation or not, the control task, and the built-in labels."""

import numpy as np
import pytest

from tinylm import explain, nn
from tinylm.data.tokenizers import CharTokenizer, WordTokenizer
from tinylm.errors import ConfigError, DataError, ShapeError
from tinylm.explain.figures import png
from tinylm.explain.questions.probe_labels import LABELS
from tinylm.explain.questions.probing import fit
from tinylm.models import GPT, GPTConfig, LanguageModel, RNNModel

DRAW = np.random.default_rng(5)
LETTERS = "abcdefgh"
TEXT = "".join(DRAW.choice(list(LETTERS), 1200))
TOKENIZER = CharTokenizer(LETTERS)


@pytest.fixture(scope="module")
def model():
    """A GPT without attention and feed-forward: the stream is the embedding of the token and of the position."""
    model = GPT(GPTConfig(8, 16, 1, 1, 16)).eval()
    for block in model.blocks():
        block.attn.c_proj.weight.data[...] = 0
        block.mlp.c_proj.weight.data[...] = 0
    return model


def test_a_label_that_is_in_the_activation_is_read_exactly(model):
    """The token is a linear function of the stream; what the next one is, the stream does not know."""
    found = explain.probe(model, TOKENIZER, TEXT, "h.0.resid_post", list(TEXT))
    assert found.names == ["h.0.resid_post"]
    assert found.accuracy[0] == 1
    assert found.by_token == 1
    assert len(found.classes) == 8
    assert (found.trained, found.tested) == (840, 210)  # 75 blocks of 16, without the first two of each
    unknown = explain.probe(model, TOKENIZER, TEXT, "h.0.resid_post", [*TEXT[1:], "a"])
    assert abs(unknown.accuracy[0] - 1 / 8) < 4 * np.sqrt(1 / 8 * 7 / 8 / 210)
    assert unknown.majority < 0.2


def test_an_activation_of_noise_gives_about_the_majority_rate(model):
    labels = DRAW.choice(["much", "little"], len(TEXT), p=[0.8, 0.2])

    def noise(x):
        return DRAW.standard_normal(x.shape).astype(np.float32)

    with explain.replace(model, {"h.0.resid_post": noise}):
        found = explain.probe(model, TOKENIZER, TEXT, "h.0.resid_post", labels)
    assert found.majority == pytest.approx(0.8, abs=0.1)
    assert abs(found.accuracy[0] - found.majority) < 0.06


def test_the_control_task_is_at_chance_for_tokens_that_were_not_trained_on():
    """In the test part all tokens are new, so the random label of each cannot have been memorized; in training it can."""
    words = [f"w{i}" for i in range(400)]
    text = " ".join([*DRAW.choice(words[:40], 800), *words[200:400]])
    tokenizer = WordTokenizer.train(text, min_count=1)
    model = GPT(GPTConfig(tokenizer.vocab_size, 20, 1, 1, 64)).eval()
    labels = DRAW.choice(4, len(tokenizer.encode(text)))
    new = explain.probe(model, tokenizer, text, "embed", labels)
    assert abs(new.control[0] - 1 / 4) < 0.15
    old = explain.probe(model, tokenizer, text[: text.index(" w200")], "embed", labels[:800])
    assert old.control[0] > 0.98
    assert old.selectivity[0] == old.accuracy[0] - old.control[0] < 0


def test_the_fit_has_no_gradient_left():
    x, y = DRAW.standard_normal((300, 5)).astype(np.float32), DRAW.integers(0, 3, 300)
    weight, bias = fit(x, y, 3, strength=0.1)
    z = x @ weight + bias
    p = np.exp(z - z.max(1, keepdims=True))
    error = p / p.sum(1, keepdims=True) - np.eye(3)[y]
    np.testing.assert_allclose(x.T @ error / 300 + 0.1 * weight, 0, atol=2e-3)
    np.testing.assert_allclose(error.mean(0), 0, atol=2e-3)
    assert np.abs(weight).max() > 0.01


def test_the_built_in_labels():
    text = list("It's so\nlonglonglong!")
    assert LABELS["word-position"](text) == ["1", "2", "3", "4", "-", "1", "2", "-", *"1234567", *["8+"] * 5, "-"]
    assert [i for i, after in enumerate(LABELS["next-is-space"](text)) if after] == [3, 6]
    assert LABELS["previous"](text)[:3] == ["\n", "I", "t"]
    assert LABELS["line-position"](text) == [*["0-3"] * 4, *["4-7"] * 4, *["0-3"] * 4, *["4-7"] * 4, *["8-15"] * 5]
    assert LABELS["line-position"](["a"] * 34)[-2:] == ["32+", "32+"]


def test_all_layers_of_a_recurrent_model():
    model = RNNModel("lstm", 8, 6, 10, 2).eval()
    found = explain.probe(model, TOKENIZER, TEXT, labels="previous")
    assert found.names == ["embed", "rnn.0.h", "rnn.1.h"]
    assert found.accuracy[1] > found.accuracy[0] + 0.2  # the state remembers the token before, the embedding does not know it
    assert repr(found).startswith("Probe('previous', 3 activations")
    assert png(explain.draw_probe(found)).startswith(b"\x89PNG")


def test_heads_are_put_side_by_side(model):
    assert explain.probe(model, TOKENIZER, TEXT, "h.0.attn.v", list(TEXT)).accuracy[0] == 1
    assert list(explain.probe(model, TOKENIZER, TEXT, ["embed", "norm_f"], list(TEXT)).names) == ["embed", "norm_f"]


def test_refusals(model):
    def refused(error, message, *arguments, of=model, text=TEXT):
        with pytest.raises(error, match=message):
            explain.probe(of, TOKENIZER, text, *arguments)

    refused(ConfigError, "label 'size': expected one of word-position, next-is-space, previous, line-position", None, "size")
    refused(ConfigError, "there are 2 labels for 1200 tokens", None, [1, 2])
    refused(ConfigError, "has no activation 'h.9.mlp.out'", "h.9.mlp.out")
    refused(ShapeError, r"h.0.attn.pattern has shape .*: a probe expects one vector per token", "h.0.attn.pattern")
    refused(ShapeError, "pos_embed has shape", "pos_embed")
    refused(DataError, "the text has 40 tokens, of which 28 are probed: expected at least 50", text=TEXT[:40])
    refused(DataError, "is 'same' for all tokens that train", None, ["same"] * 1200)
    refused(ConfigError, "the model is a Linear: a probe expects a language model", of=nn.Linear(2, 2))
    words = WordTokenizer.train("one two one two")
    assert isinstance(model, LanguageModel)
    with pytest.raises(ConfigError, match="tokens of kind 'word' need labels of your own"):
        explain.probe(GPT(GPTConfig(3, 8, 1, 1, 4)), words, "one two " * 60)
