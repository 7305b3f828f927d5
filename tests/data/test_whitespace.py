"""Tokens as published perplexities count them: what stands between spaces, a line break, and the text's own <unk>."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.data.tokenizers import StreamDecoder, from_json, token_texts, train_tokenizer
from tinylm.data.unknown import unknown_in
from tinylm.data.whitespace import WhitespaceTokenizer
from tinylm.decode.scoring import line_break
from tinylm.errors import DataError

TREEBANK = (  # lines as the Penn Treebank of Mikolov et al. 2010 and WikiText-2 have them
    " pierre <unk> N years old will join the board as a nonexecutive director nov. N \n"
    " mr. <unk> is chairman of <unk> n.v. the dutch publishing group \n"
    " \n = Valkyria Chronicles III = \n \n Senjō no Valkyria 3 : <unk> Chronicles ( Japanese : 戦場のヴァルキュリア3 ) \n"
)


def test_tokens_are_counted_as_published() -> None:
    """Each line is its words and <eos>, a blank line <eos> alone; the rare words stay."""
    tokenizer = WhitespaceTokenizer.train(TREEBANK)
    expected = [word for line in TREEBANK.split("\n")[:-1] for word in [*line.split(), "\n"]]
    ids = tokenizer.encode(TREEBANK)
    assert tokenizer.pieces(TREEBANK) == expected
    assert [tokenizer.words[i] for i in ids] == expected
    assert len(ids) == 16 + 12 + 1 + 6 + 1 + 13
    assert tokenizer.vocab_size == len(set(expected)), "<unk> is one of them, and no other stands for rare words"
    assert (ids == tokenizer.unknown_id).sum() == TREEBANK.count("<unk>") == 4


def test_the_own_unknown_words_are_no_unknown_words() -> None:
    tokenizer = WhitespaceTokenizer.train(TREEBANK)
    found = unknown_in(tokenizer, TREEBANK, tokenizer.encode(TREEBANK))
    assert (found.unknown, found.own, found.nats) == (0, 4, pytest.approx(4 * math.log(6 / 5)))
    assert found.note() == f"4 of {found.tokens} tokens are the text's own <unk>"
    text = "the <unk> board met\n"
    assert tokenizer.spelling is not None
    other = unknown_in(tokenizer, text, tokenizer.encode(text))
    spelt = -tokenizer.spelling.log_probabilities(["met"])[0]
    assert (other.unknown, other.own) == (1, 1)
    assert other.nats == pytest.approx(spelt + math.log(6) + math.log(6 / 5), rel=1e-12)
    assert "are the text's own <unk>; 1 of 5 tokens are unknown words" in other.note()


def test_what_id_0_stands_for_has_probability_one() -> None:
    """<unk> itself, and all words; a word has the probability that its letters are spelt, and then it ends."""
    tokenizer = WhitespaceTokenizer(["a"], ["b", "bc", "d"], own=3)
    own, *others = (math.exp(-tokenizer.spelling_nats([word])) for word in ("<unk>", "b", "bc", "d", "xyz"))  # type: ignore[operator]
    assert own == pytest.approx(4 / 5)
    assert 0.5 * (1 - own) < sum(others) < 1 - own


def test_a_record_makes_the_same_tokenizer() -> None:
    tokenizer = train_tokenizer("whitespace", [TREEBANK[:40], TREEBANK[40:]])
    record = json.loads(json.dumps(tokenizer.to_json()))
    again = from_json(record)
    assert again.kind == "whitespace"
    assert again.to_json() == record
    np.testing.assert_array_equal(again.encode(TREEBANK), tokenizer.encode(TREEBANK))
    for bad, message in [
        ({"words": ["a", "a"]}, "stands twice"), ({"words": [1]}, "is no text"), ({"own": -1}, "at least 0"), ({"own": "1"}, "at least 0"),
        ({"words": "ab"}, "not a tokenizer record"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            from_json({**record, **bad})
    with pytest.raises(DataError, match="no word"):
        WhitespaceTokenizer.train("  ")
    with pytest.raises(DataError, match="is no character"):
        tokenizer.encode("th\udcff")


@given(st.text(alphabet="ab<unk> \n\t\u2028\xa0é猫"))
def test_decoding_is_the_words_with_one_space_before_each(text: str) -> None:
    tokenizer = WhitespaceTokenizer.train("a b <unk>\n" + text)
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    assert decoded.split() == text.split()
    assert decoded.count("\n") == text.count("\n")
    np.testing.assert_array_equal(tokenizer.encode(decoded), ids)
    assert "".join(token_texts(tokenizer, ids)) == decoded
    stream = StreamDecoder(tokenizer)
    assert "".join([stream.push(int(i)) for i in ids]) + stream.finish() == decoded
    first = text.encode()[: tokenizer.first_bytes(text)].decode()
    assert tokenizer.encode(first).tolist() == ids[:1].tolist()
    assert not first or tokenizer.encode(text[len(first) :]).tolist() == ids[1:].tolist()


def test_a_line_break_is_always_known() -> None:
    assert WhitespaceTokenizer.train("a b a").words == ["<unk>", "a", "b", "\n"]
    assert line_break(WhitespaceTokenizer.train("a b a")).tolist() == [3]
