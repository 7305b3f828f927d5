"""Scoring: windows compared with a loop over the tokens; sentences, perplexity and bits per byte by hand."""

import itertools
import math

import numpy as np
import pytest

import tinylm
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, WordTokenizer
from tinylm.decode import Score, score_text, token_log_probabilities
from tinylm.decode.scoring import forbidden_ids, line_break
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError, RangeError, ShapeError
from tinylm.models import GPT, GPTConfig, LanguageModel, NgramLM, RNNModel, TransformerModel

# p(next | last) over "\n", "a", "b"
TABLE = np.array([[0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.4, 0.1]])


class Chain(LanguageModel):
    """p(next | last token) is one row of a table."""

    def __init__(self, table):
        super().__init__()
        self.table, self.vocab_size, self.block_size = np.log(table), len(table), None

    def advance(self, ids, state=None):
        return Tensor(self.table[ids.data]), state


def transformer(kind, block):
    if kind == "gpt":
        return GPT(GPTConfig(vocab_size=7, block_size=block, n_layer=2, n_head=2, n_embd=8)).to(dtype="float64")
    model = TransformerModel(7, 8, 2, 12, 2, 0.5).to(dtype="float64")
    model.block_size = block
    return model


# ---------------------------------------------------------------- long texts


@pytest.mark.parametrize("kind", ["gpt", "transformer"])
@pytest.mark.parametrize("block", [1, 2, 5, 8])
def test_windows_advance_by_half_a_block(kind, block):
    """Token t is scored in the first window that holds the token before it; window k begins at k block/2."""
    model = transformer(kind, block).eval()
    for p in model.parameters():
        p.data += np.random.default_rng(0).standard_normal(p.shape) * 0.3
        p.bump_version()
    rng, half = np.random.default_rng(1), max(block // 2, 1)
    for length in [2, block, block + 1, block + 2, 3 * block + 2]:
        ids = rng.integers(0, 7, max(length, 2))
        expected, contexts = [], []
        for t in range(1, ids.size):
            start = next(k * half for k in itertools.count() if t <= k * half + block)
            logits = model.advance(Tensor(ids[None, start:t]))[0].data[0, -1]
            expected.append(logits[ids[t]] - np.log(np.exp(logits).sum()))
            contexts.append(t - start)
        found = token_log_probabilities(model, ids)
        assert found.dtype == np.float64
        assert found.shape == (ids.size - 1,)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert all(block / 2 <= n <= block for n in contexts[block:])  # as documented


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("length", [2, 256, 257, 258, 700])
def test_a_recurrent_state_is_carried_over_chunks(kind, length):
    model = RNNModel(kind, 7, 4, 6, 2, 0.5).to(dtype="float64").eval()
    ids = np.random.default_rng(2).integers(0, 7, length)
    with tinylm.no_grad():
        logits = model.advance(Tensor(ids[None, :-1]))[0].data[0]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found = token_log_probabilities(model, ids)
    assert found.shape == (length - 1,)
    np.testing.assert_allclose(found, expected[np.arange(length - 1), ids[1:]], rtol=0, atol=1e-12)


def test_dropout_is_off_and_the_mode_is_restored():
    model = transformer("transformer", 8)
    ids = np.random.default_rng(3).integers(0, 7, 20)
    assert model.training
    first = token_log_probabilities(model, ids)
    np.testing.assert_array_equal(token_log_probabilities(model, ids), first)
    assert model.training
    with pytest.raises(RangeError):
        token_log_probabilities(model, ids + 1)
    assert model.training
    model.eval()
    np.testing.assert_array_equal(token_log_probabilities(model, ids), first)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("model", [transformer("gpt", 4), RNNModel("gru", 7, 4, 4, 1), NgramLM(7, 2)], ids=lambda m: type(m).__name__)
def test_ids_that_cannot_be_scored(model):
    for bad in (-1, 7):
        for ids in ([0, bad], [bad, 0]):  # as the last target only, and as an input
            with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to 6"):
                token_log_probabilities(model, np.array(ids))
    with pytest.raises(ShapeError, match="token id must be an array of integers, got float64"):
        token_log_probabilities(model, np.zeros(3))
    assert token_log_probabilities(model, np.array([3])).shape == (0,)
    assert token_log_probabilities(model, np.array([], np.int64)).shape == (0,)


# ---------------------------------------------------------------- a text, by hand


def test_a_text_follows_a_line_break():
    score = score_text(Chain(TABLE), CharTokenizer("\nab"), "aba")
    assert score.tokens == ["a", "b", "a"]
    np.testing.assert_allclose(np.exp(score.log_probabilities), [0.6, 0.5, 0.4], rtol=1e-15)
    p = 0.6 * 0.5 * 0.4
    assert score.log_probability == pytest.approx(math.log(p), rel=1e-14)
    assert score.perplexity == pytest.approx(p ** (-1 / 3), rel=1e-14)
    assert score.bits_per_byte == pytest.approx(-math.log2(p) / 3, rel=1e-14)
    assert (score.text, score.unknown, score.bytes) == ("aba", 0, 3)


def test_a_sentence_ends_with_a_line_break():
    score = score_text(Chain(TABLE), CharTokenizer("\nab"), "ab", sentence=True)
    assert score.tokens == ["a", "b", "\n"]
    np.testing.assert_allclose(np.exp(score.log_probabilities), [0.6, 0.5, 0.5], rtol=1e-15)
    assert score.bytes == 3
    assert score.bits_per_byte == pytest.approx(-math.log2(0.6 * 0.5 * 0.5) / 3, rel=1e-14)


@pytest.mark.parametrize("model", [Chain(TABLE), NgramLM(3, 2).fit(np.array([0, 1, 2, 1, 0, 2, 0])), RNNModel("gru", 3, 4, 4, 1)])
def test_sentences_of_all_lengths_have_probability_one(model):
    """The remaining probability is that of texts that have not ended after four characters."""
    tokenizer = CharTokenizer("\nab")
    total = math.exp(token_log_probabilities(model, np.array([0, 0]))[0])  # the empty sentence
    for length in (1, 2, 3, 4):
        for letters in itertools.product("ab", repeat=length):
            total += math.exp(score_text(model, tokenizer, "".join(letters), sentence=length < 4).log_probability)
    assert total == pytest.approx(1, abs=1e-6 if isinstance(model, RNNModel) else 1e-12)


def test_bytes_are_those_of_utf8():
    tokenizer = CharTokenizer("\né😀")
    score = score_text(Chain(TABLE), tokenizer, "é😀é")
    assert (len(score.tokens), score.bytes) == (3, 2 + 4 + 2)
    assert score_text(Chain(TABLE), tokenizer, "é", sentence=True).bytes == 3


def test_a_model_without_line_breaks():
    """The first token has nothing before it: it is not scored, and its bytes are not counted."""
    model, tokenizer = Chain(TABLE), CharTokenizer("éab")  # by code point: a, b, é
    score = score_text(model, tokenizer, "éab")
    assert score.tokens == ["a", "b"]
    np.testing.assert_allclose(np.exp(score.log_probabilities), [0.5, 0.6], rtol=1e-15)
    assert score.bytes == 2
    assert score.bits_per_byte == pytest.approx(-math.log2(0.5 * 0.6) / 2)
    with pytest.raises(ConfigError, match="has never seen a line break"):
        score_text(model, tokenizer, "ab", sentence=True)
    alone = score_text(model, tokenizer, "a")
    assert alone.tokens == []
    assert alone.log_probability == 0
    assert math.isnan(alone.perplexity)
    assert math.isnan(alone.bits_per_byte)


def test_unknown_words_are_counted():
    tokenizer = WordTokenizer(["\n", " a"])
    score = score_text(Chain(np.full((3, 3), 1 / 3)), tokenizer, "zoë a zoë a")
    assert score.tokens == ["<unk>", " a", "<unk>", " a"]
    assert score.unknown == 2
    assert score.bytes == len("zoë a zoë a".encode())
    without = WordTokenizer([" a"])  # no line break: the first word is neither scored nor counted
    score = score_text(Chain(np.full((2, 2), 0.5)), without, "zoë a zoë a")
    assert (score.tokens, score.unknown, score.bytes) == ([" a", "<unk>", " a"], 1, len(" a zoë a".encode()))


def test_pieces_of_characters_are_scored_too():
    tokenizer = BpeTokenizer.train("", 256)
    score = score_text(Chain(np.full((256, 256), 1 / 256)), tokenizer, "é", sentence=True)
    assert score.tokens == ["\ufffd", "\ufffd", "\n"]
    assert score.bits_per_byte == pytest.approx(8)


def test_what_a_line_break_is():
    assert line_break(CharTokenizer("b\na")).tolist() == [0]
    assert line_break(CharTokenizer("ab")).size == 0
    assert line_break(WordTokenizer([" a", "\n"])).tolist() == [2]
    assert line_break(WordTokenizer([" a"])).size == 0  # <unk> is not a line break
    bpe = BpeTokenizer.train("a\nb\n\nc\n", 260)
    assert bpe.decode(line_break(bpe)) == "\n"


def test_texts_that_cannot_be_scored():
    model, tokenizer = Chain(TABLE), CharTokenizer("\nab")
    with pytest.raises(DataError, match="there is no text to score"):
        score_text(model, tokenizer, "")
    with pytest.raises(DataError, match="unknown character 'c' at position 1"):
        score_text(model, tokenizer, "ac")


def test_extreme_scores():
    """A score out of range is infinite, and a NaN stays a NaN."""
    assert Score("", ["a"], np.array([-1000.0]), 0, 1).perplexity == math.inf
    assert Score("", ["a"], np.array([-math.inf]), 0, 1).perplexity == math.inf
    assert Score("", ["a"], np.array([-700.0]), 0, 1).perplexity == pytest.approx(math.exp(700))
    assert math.isnan(Score("", ["a"], np.array([math.nan]), 0, 1).perplexity)


def test_ids_without_a_text() -> None:
    """<unk>, and the unused rows at the end of an embedding."""
    assert forbidden_ids(WordTokenizer(["a", "b"]), 5) == [0, 3, 4]
    assert forbidden_ids(CharTokenizer("ab"), 2) == []


def test_a_line_break_of_several_tokens_goes_before_with_its_last_one() -> None:
    class Doubled(CharTokenizer):
        """Writes a line break as two tokens, \\r and \\n."""

        def encode(self, text: str) -> np.ndarray:
            return super().encode(text.replace("\n", "\r\n"))

    tokenizer = Doubled("\r\nab")
    model = NgramLM(4, 3)
    model.fit(tokenizer.encode("ab\nb\na\nab\n"))
    line_end, a, b = (int(CharTokenizer("\r\nab").encode(c)[0]) for c in "\nab")
    expected = token_log_probabilities(model, np.array([line_end, a, b]))
    np.testing.assert_array_equal(score_text(model, tokenizer, "ab").log_probabilities, expected)
