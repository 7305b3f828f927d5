"""Tokenizers: decoding what was encoded, vocabularies, records, errors, streaming."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinylm.data import tokenizers
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, StreamDecoder, WordTokenizer, from_json, train_tokenizer
from tinylm.errors import ConfigError, DataError, RangeError

SAMPLE = (
    "the cat sat on the mat, and the cat's hat — a naïve café 😀😀 — sat too.\nthe 12 cats of 1999 didn’t sit;  they\tstood!\n"
    "кошка сидит на коврике, кошка 猫は座る 猫は立つ\n\n" * 8
)
BPE = BpeTokenizer.train(SAMPLE, 340)
BYTEWISE = BpeTokenizer.train("", 256)
WORD = WordTokenizer.train(SAMPLE)
CHAR = CharTokenizer(SAMPLE)
TOKENIZERS = pytest.mark.parametrize("tokenizer", [CHAR, WORD, BPE], ids=["char", "word", "bpe"])
ODD_BREAKS = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\rj\r\nk\n\nl"  # all that str.splitlines breaks at

texts = st.text() | st.text(alphabet="the cat,'’ \n\tsat😀é猫к\x0b\x0c\x1c\x85\u2028\ufffd\0")


def again(tokenizer):
    """Returns the tokenizer made from its own record, which went through JSON."""
    return from_json(json.loads(json.dumps(tokenizer.to_json())))


# ---------------------------------------------------------------- there and back


@given(texts)
@example(ODD_BREAKS)
@example("")
@example("👩‍👩‍👧‍👦 é e\u0301 \ufffd \0 <unk>")
def test_bpe_loses_nothing(text):
    for tokenizer in (BPE, again(BPE)):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int64
        assert ids.shape == (ids.size,)
        assert tokenizer.decode(ids) == text


@given(texts)
@example(ODD_BREAKS)
@example("<unk>")
def test_words_lose_nothing_but_unknown_ones(text):
    ids = WORD.encode(text)
    assert ids.dtype == np.int64
    pieces = [WORD.decode([i]) for i in ids]
    assert WORD.decode(ids) == "".join(pieces)
    if text:
        own = again(WordTokenizer.train(text, min_count=1))
        words = [own.decode([i]) for i in own.encode(text)]
        assert "".join(words) == text
        assert "<unk>" not in words
        assert pieces == [word if word in WORD.words else "<unk>" for word in words]


@given(st.text(min_size=1))
@example(ODD_BREAKS)
def test_characters_lose_nothing(text):
    tokenizer = again(CharTokenizer(text))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids.dtype == np.int64
    assert tokenizer.characters == sorted(set(text))


@TOKENIZERS
def test_a_record_makes_the_same_tokenizer(tokenizer):
    other = again(tokenizer)
    assert other.kind == tokenizer.kind
    assert other.vocab_size == tokenizer.vocab_size
    assert other.unknown_id == tokenizer.unknown_id
    np.testing.assert_array_equal(other.encode(SAMPLE), tokenizer.encode(SAMPLE))
    assert other.to_json() == tokenizer.to_json()


# ---------------------------------------------------------------- vocabularies


def test_words_are_what_they_should_be():
    tokenizer = WordTokenizer.train("Don't stop; don’t 3rd-rate  x_1\nend.", min_count=1)
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("Don't stop; don’t 3rd-rate  x_1\nend.")]
    assert pieces == ["Don't", " stop", ";", " don’t", " 3rd", "-", "rate", " ", " x_1", "\n", "end", "."]


def test_word_vocabulary_is_by_count_then_spelling():
    tokenizer = WordTokenizer.train("b b b a a c c d <unk>", min_count=2)  # the first b has no space before it
    assert tokenizer.words == ["<unk>", " a", " b", " c"]
    assert tokenizer.vocab_size == 4
    assert tokenizer.unknown_id == 0
    assert tokenizer.encode("b b d").tolist() == [0, 2, 0]
    assert tokenizer.decode([0, 2, 0]) == "<unk> b<unk>"
    everything = WordTokenizer.train("b b b a a c c d <unk>", min_count=1)
    assert everything.words == ["<unk>", " a", " b", " c", " <", " d", ">", "b", "unk"]
    assert WordTokenizer.train("a a a", min_count=2).words == ["<unk>", " a"]


def test_bpe_vocabulary_holds_every_byte_and_the_most_common_merges():
    assert BPE.vocab_size == 340
    small = BpeTokenizer.train("aaaa", 1000)
    assert 256 < small.vocab_size < 260
    assert BYTEWISE.vocab_size == 256
    assert len(BPE.encode(" the")) == 1
    for byte_text in ("\0", "\x7f", "é", "\uffff", "\U0010ffff"):
        assert BPE.decode(BPE.encode(byte_text)) == byte_text
    assert BpeTokenizer.train(SAMPLE, 340).to_json() == BPE.to_json()


def test_bpe_pieces_never_cross_a_line_break():
    tokenizer = BpeTokenizer.train("ab\nab\n\nab\u2028ab\x0bab\n" * 50, 300)
    pieces = [tokenizer.decode([i]) for i in range(256, tokenizer.vocab_size)]
    assert "ab" in pieces
    assert all(len(p.splitlines()) == 1 for p in pieces)


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_train_tokenizer_chooses_by_name(kind):
    tokenizer = train_tokenizer(kind, SAMPLE, min_count=3, vocab_size=300)
    assert tokenizer.kind == kind
    expected = {"char": CharTokenizer(SAMPLE), "word": WordTokenizer.train(SAMPLE, 3), "bpe": BpeTokenizer.train(SAMPLE, 300)}[kind]
    assert tokenizer.to_json() == expected.to_json()


@given(texts.filter(bool))
@example("😀")
@example("猫は")
def test_the_bytes_of_the_first_token(text):
    """The other bytes of the text are those of the other tokens, if bytes are characters."""
    own = WordTokenizer.train(text, min_count=1)
    for tokenizer in (CharTokenizer(text), own, BPE, BYTEWISE):
        rest = text.encode()[tokenizer.first_bytes(text) :]
        assert tokenizer.decode(tokenizer.encode(text)[1:]) == rest.decode("utf-8", "replace")
    assert BYTEWISE.first_bytes(text) == 1
    assert WORD.first_bytes(text) == own.first_bytes(text)  # known or not
    assert own.first_bytes("") == BPE.first_bytes("") == CHAR.first_bytes("") == 0


# ---------------------------------------------------------------- errors


def test_unknown_characters():
    with pytest.raises(DataError, match=r"unknown character 'é' at position 2: the model knows 'abc'"):
        CharTokenizer("cba").encode("abé")
    with pytest.raises(DataError, match=r"unknown character '\\U0010ffff' at position 0"):
        CharTokenizer("abc").encode("\U0010ffff")
    with pytest.raises(DataError, match=r"unknown character '!' at position 1: the model knows '.{100}' and 900 more$"):
        CharTokenizer(map(chr, range(0x4E00, 0x4E00 + 1000))).encode("\u4e00!")
    assert CHAR.unknown_id is BPE.unknown_id is None


@TOKENIZERS
def test_ids_outside_the_vocabulary(tokenizer):
    for bad in (-1, tokenizer.vocab_size):
        with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to {tokenizer.vocab_size - 1}"):
            tokenizer.decode([0, bad])
    assert tokenizer.decode([]) == tokenizer.decode(np.array([], np.int64)) == ""
    assert tokenizer.decode(iter(tokenizer.encode("the"))) == "the"


@TOKENIZERS
def test_text_that_is_not_unicode(tokenizer):
    """Bytes of a command line that cannot be decoded arrive as lone surrogates."""
    with pytest.raises(DataError, match=r"'\\udcff' at position 2"):
        tokenizer.encode("th\udcff")


def test_invalid_settings_and_records():
    with pytest.raises(ConfigError, match="min_count is 0: expected at least 1"):
        WordTokenizer.train("a", 0)
    with pytest.raises(DataError, match="no word of the text occurs 2 times"):
        WordTokenizer.train("each word once")
    with pytest.raises(ConfigError, match=r"vocab_size is 255: .* at least the 256 bytes"):
        BpeTokenizer.train("a", 255)
    with pytest.raises(ConfigError, match="tokenizer 'magic': expected 'char', 'word', 'whitespace' or 'bpe'"):
        train_tokenizer("magic", "a")
    with pytest.raises(DataError, match="at least one character"):
        CharTokenizer("")
    with pytest.raises(DataError, match="a word stands twice"):
        from_json({"kind": "word", "words": ["a", "b", "a"]})
    with pytest.raises(DataError, match="a word stands twice"):
        from_json({"kind": "word", "words": ["<unk>"]})
    with pytest.raises(DataError, match="a word of the vocabulary is no text"):
        from_json({"kind": "word", "words": ["a", 1]})
    with pytest.raises(DataError, match="not a BPE tokenizer"):
        from_json({"kind": "bpe", "definition": "{}"})
    bad_kinds = [{}, {"kind": "magic"}, {"kind": ["char"]}]
    bad_contents = [{"kind": "char"}, {"kind": "char", "characters": 3}, {"kind": "word", "words": "ab"}]
    for record in (None, [], "char", *bad_kinds, *bad_contents):
        with pytest.raises(DataError, match="not a tokenizer record"):
            from_json(record)


# ---------------------------------------------------------------- streaming


def streamed(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.push(int(i)) for i in ids]
    return pieces, decoder.finish()


@given(texts.filter(lambda text: "\ufffd" not in text))
@example("猫" * 20)
def test_characters_of_several_bytes_come_out_whole(text):
    """Each comes out with its last byte. U+FFFD may be half of a character, so it waits."""
    assert streamed(BYTEWISE, BYTEWISE.encode(text)) == ([part for c in text for part in [""] * (len(c.encode()) - 1) + [c]], "")


@given(st.lists(st.integers(0, BPE.vocab_size - 1)) | st.lists(st.sampled_from([*BYTEWISE.encode("é猫😀\ufffd").tolist(), 338, 339])))
def test_any_stream_joined_is_the_decoding_of_all(ids):
    """Also ids whose bytes are no character, as an untrained model draws them."""
    pieces, rest = streamed(BPE, ids)
    assert "".join(pieces) + rest == BPE.decode(ids)


def test_the_stream_of_other_tokenizers_waits_for_nothing():
    assert streamed(CHAR, CHAR.encode("the cat")) == (list("the cat"), "")
    assert streamed(WORD, WORD.encode("the cat sat")) == (["the", " cat", " sat"], "")
    decoder = StreamDecoder(BPE)
    assert decoder.push(int(BYTEWISE.encode("é")[0])) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""
    assert decoder.push(int(BPE.encode("a")[0])) == "a"


def test_a_stream_is_decoded_after_the_last_token_that_spells_something_alone():
    """And after nothing older, so that each token costs the same."""
    decoded = []

    class Recording:
        def decode(self, ids):
            decoded.append([*ids])
            return BYTEWISE.decode(ids)

    e, f, a, b = (BYTEWISE.encode(c).tolist() for c in "éfab")
    decoder = StreamDecoder(Recording())
    assert [decoder.push(i) for i in [*e, *f, *a, *e, *b]] == ["", "é", "f", "a", "", "é", "b"]
    with_context = [e[:1], e, [*e, *f], [*f, *a], [*a, *e[:1]], [*a, *e], [*a, *b]]
    contexts = [e, f, a, a, b]  # decoded alone, for their length, whenever all text was returned
    expected = [*with_context[:2], contexts[0], with_context[2], contexts[1], with_context[3], contexts[2]]
    assert decoded == [*expected, *with_context[4:6], contexts[3], with_context[6], contexts[4]]
    assert decoder.finish() == ""


def test_a_tokenizer_keeps_the_pattern_it_was_learned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a word is may change: an older tokenizer says what it was, and the oldest did not yet."""
    learned = WordTokenizer.train("one fish, two fish", 1)
    expected = learned.encode("two fish, one").tolist()
    record = learned.to_json()
    monkeypatch.setattr(tokenizers, "WORD_PATTERNS", (r"\S+|\s", *tokenizers.WORD_PATTERNS))
    assert from_json(record).encode("two fish, one").tolist() == expected
    assert from_json({name: record[name] for name in ("kind", "words")}).encode("two fish, one").tolist() == expected
    with pytest.raises(DataError, match=r"pattern of a word is '\.', which this version of tinylm does not know"):
        from_json({**record, "pattern": "."})
