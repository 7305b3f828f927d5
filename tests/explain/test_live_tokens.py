"""Tokens of the live page in Chromium beside tinylm's."""

from typing import Any

import pytest
from browser import needs_chromium
from live_models import computed

from tinylm.data.labelled import encode_words, lowered_words
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, WordTokenizer
from tinylm.data.words import WORD_PATTERNS, compiled
from tinylm.errors import ConfigError, DataError
from tinylm.explain.live.tokens import live_tokenizer

# What Unicode makes hard: marks, joiners, digits of other scripts, line breaks and spaces that browsers and Python class
# differently, capitals with a final sigma or two letters, and characters beyond 16 bits.
TEXTS = [
    "Don't stop\u2014believin’! 3.14, na\u00efve cafe\u0301\u0301  two  spaces\r\n\r\n\tx_y \u0301alone",
    "नमस्ते दुनिया, می\u200cخواهم ΟΔΥΣΣΕΥΣ ΑΣ'Α ΑΣ. İstanbul ǅ \U00010400\U0001d518",
    "👍🏽 👨\u200d👩\u200d👧 ½ ② Ⅷ 〇 ٣٤ l·l soft\u00adhyphen a\u2060b",
    "a\x1cb\x85c\ufeffd\u2028e\u3000f\u1680g\u00a0h\x1fi\u180ej",
    "a\U00010d50b \ua7cbc",  # capitals of Unicode 16, which browsers know
    "\n\n  ", "", " ", "x",
]  # fmt: skip


def word_tokenizers() -> dict[str, tuple[WordTokenizer, bool]]:
    """Returns tokenizers with about half of the pieces of TEXTS, as language models and as classifiers use them."""
    made = {}
    for i, pattern in enumerate(WORD_PATTERNS):
        for lowered in (False, True):
            read = "".join([lowered_words(text, pattern) if lowered else text for text in TEXTS])
            made[f"words {i}, {lowered}"] = WordTokenizer(sorted(set(compiled(pattern).findall(read)))[::2], pattern), lowered
    return made


WORDS = word_tokenizers()

CHARACTERS = CharTokenizer("ab👍\u00e9\u0301\n")
SPOKEN = ["a👍b\u0301\n", "e\u0301", "a👍zb", "ab\u200b", ""]

SCRIPT = """
  const encoded = (tokenizer, texts) => texts.map(text => {
    try { return encode(tokenizer, text); } catch (error) { return {error: error.message}; }
  });
  return {
    words: Object.fromEntries(Object.entries(data.words).map(([name, tokenizer]) => [name, encoded(tokenizer, data.texts)])),
    spelled: Object.values(data.words).map(tokenizer => tokenText(tokenizer, 3)),
    characters: encoded(data.characters, data.spoken),
    letter: tokenText(data.characters, 4),
  };
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns the tokens that Chromium found."""
    words = {name: live_tokenizer(tokenizer, classifier=lowered) for name, (tokenizer, lowered) in WORDS.items()}
    data = {"words": words, "texts": TEXTS, "characters": live_tokenizer(CHARACTERS), "spoken": SPOKEN}
    return computed(SCRIPT, data, tmp_path_factory.mktemp("tokens"))


@needs_chromium()
@pytest.mark.parametrize("name", WORDS)
def test_words(found: Any, name: str) -> None:
    tokenizer, lowered = WORDS[name]
    expected: list[Any] = []
    for text in TEXTS:
        try:
            expected.append((encode_words(tokenizer, text) if lowered else tokenizer.encode(text)).tolist())
        except DataError as error:
            expected.append({"error": str(error)})
    assert found["words"][name] == expected
    assert len({i for ids in expected if isinstance(ids, list) for i in ids}) > 20
    assert tokenizer.words[3] in found["spelled"]


@needs_chromium()
def test_characters(found: Any) -> None:
    known, _, letter, joiner, nothing = found["characters"]
    assert known == CHARACTERS.encode(SPOKEN[0]).tolist()
    assert found["characters"][1] == {"error": 'the model does not know the character "e" (U+0065) at position 0'}
    assert letter == {"error": 'the model does not know the character "z" (U+007A) at position 2'}
    assert joiner == {"error": "the model does not know the character U+200B at position 2"}
    assert nothing == []
    assert found["letter"] == CHARACTERS.characters[4]


def test_other_tokenizers_are_refused() -> None:
    with pytest.raises(ConfigError, match="reads characters and words, not the tokens of BpeTokenizer 'bpe'"):
        live_tokenizer(BpeTokenizer.train("to be or not to be", 256))
    with pytest.raises(ConfigError, match="CharTokenizer"):
        live_tokenizer(CHARACTERS, classifier=True)
