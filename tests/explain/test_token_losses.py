"""The loss of each token of a text, beside an n-gram model's: the numbers of `score_text`, and where which model is better."""

import io

import numpy as np
import pytest
from rich.console import Console

from tinylm import explain
from tinylm.data.tokenizers import CharTokenizer
from tinylm.decode import score_text
from tinylm.errors import ConfigError
from tinylm.explain import colored_text
from tinylm.explain.figures import png
from tinylm.models import GPT, GPTConfig, NgramLM

TEXT = "to be or not\nto be is a question of what is to be\n"
TOKENIZER = CharTokenizer(TEXT)
NGRAM = NgramLM(TOKENIZER.vocab_size, 3).fit(TOKENIZER.encode(TEXT))


@pytest.fixture(scope="module")
def model():
    return GPT(GPTConfig(TOKENIZER.vocab_size, 8, 1, 1, 8)).eval()


def test_the_losses_are_those_of_score(model):
    """Also for a text longer than the context, and in order."""
    found = explain.text_losses(model, TOKENIZER, TEXT, ngram=NGRAM)
    np.testing.assert_array_equal(found.losses, -score_text(model, TOKENIZER, TEXT).log_probabilities)
    np.testing.assert_array_equal(found.ngram, -score_text(NGRAM, TOKENIZER, TEXT).log_probabilities)
    np.testing.assert_array_equal(found.gain, found.ngram - found.losses)
    assert "".join(found.tokens) == TEXT
    assert found.first == 0
    assert (found.gain < 0).mean() > 0.8  # the n-gram model has counted this text, the other one has learned nothing


def test_a_model_that_never_saw_a_line_break_scores_from_the_second_token_on():
    tokenizer = CharTokenizer("abc")
    model = NgramLM(3, 2).fit(tokenizer.encode("abcabcabcabd"[:9]))
    found = explain.text_losses(model, tokenizer, "abca")
    assert found.first == 1
    assert len(found.losses) == 3
    assert found.tokens == list("abca")
    with pytest.raises(ConfigError, match="there is no n-gram model"):
        found.gain  # noqa: B018
    assert png(explain.draw_text_losses(found)).startswith(b"\x89PNG")


def printed(found):
    console = Console(width=120, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()


def test_the_table_names_the_tokens_with_the_highest_loss(model):
    found = explain.text_losses(model, TOKENIZER, TEXT, ngram=NGRAM)
    lines = [line.split() for line in printed(found).splitlines()]
    worst = int(found.losses.argmax())
    first = next(line for line in lines if line and line[0].isdigit())
    assert first[0] == str(worst)
    assert first[-3:] == [f"{found.losses[worst]:.3f}", f"{found.ngram[worst]:.3f}", f"{found.gain[worst]:+.3f}"]
    best = int(found.gain.argmax())
    start = next(i for i, line in enumerate(lines) if line[:4] == ["where", "the", "model", "is"])
    assert lines[start + 2][0] == str(best)


def test_other_tokens_are_refused(model):
    with pytest.raises(ConfigError, match=f"the n-gram model has 3 tokens and the model {TOKENIZER.vocab_size}"):
        explain.text_losses(model, TOKENIZER, TEXT, ngram=NgramLM(3, 2))


def test_a_long_text_is_drawn_in_part(monkeypatch):
    monkeypatch.setattr(colored_text, "_MOST", 100)
    tokens = list("a word or two\n" * 20)
    figure = colored_text.draw_text(tokens, ("Loss", np.arange(len(tokens), dtype=float), "nats", False))
    axes = figure.axes[0]
    assert "(the first 98 characters)" in axes.get_title(loc="left").replace("\n", " ")
    assert axes.images[0].get_array().shape == (7, 24)
    monkeypatch.undo()
    lines = colored_text.draw_text(["one two "] * 20, ("Loss", np.ones(20), "nats", False)).axes[0].images[0].get_array()
    assert lines.shape[1] == 64  # broken between words
