"""How text is cut before merges: llama.cpp's expressions, written out here and applied by another engine, give the same words."""

from typing import Any

import numpy as np
import pytest
import regex

from tinylm.errors import CheckpointError
from tinylm.pretrained.text_cuts import CUTS, cut_named

SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CHINESE = "[一-龥\u0800-一가-\ud7ff]+"
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDING = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"


def cased(numbers: str, ending: str) -> str:
    first = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ending}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ending}"
    return first + rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"


EXPRESSIONS: dict[str, list[str]] = {
    "gpt-2": [GPT_2], "olmo": [GPT_2], "mpt": [GPT_2], "smollm": [r"\p{N}", GPT_2], "starcoder": [r"\p{N}", GPT_2],
    "refact": [r"\p{N}", GPT_2], "command-r": [r"\p{N}", GPT_2], "llama-bpe": [LLAMA_3], "dbrx": [LLAMA_3], "smaug-bpe": [LLAMA_3],
    "qwen2": [QWEN_2], "deepseek-r1-qwen": [QWEN_2], "stablelm2": [QWEN_2],
    "seed-coder": [QWEN_2.replace(r"\p{N}]+[\r\n]*", r"\p{N}\r\n]+")],
    "qwen35": [QWEN_2.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")],
    "bailingmoe": [QWEN_2.replace(r"\s*[\r\n]+", r"\s*[\r\n]")],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE, r"\p{N}"],
    "deepseek-llm": ["[\r\n]", r"\s?[A-Za-zÀ-ÖØ-öø-ƺа-яА-Яα-ωΑ-ΡΣ-Ω]+", r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$", CHINESE, r"\p{N}+"],
    "deepseek-v3": [
        r"\p{N}{1,3}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
        r""" ?[\p{P}\p{S}]+[\r\n]*|""" + SPACES,
    ],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "tekken": [cased(r"\p{N}", "")], "gpt-4o": [cased(r"\p{N}{1,3}", ENDING)], "bloom": [BLOOM], "viking": [BLOOM, r"\p{N}"],
}  # fmt: skip
PARTS = [
    "the", "The", "IT'S", "don't", "we'LL", " ", "  ", "\n", "\r\n", "\t", "\n\n", " \n", "12", "3", "4567890", "²", "½", "٣", ".", "...",
    "?!",
    "'", "(x)", "a.b/c", "é", "naïve", "e\u0301", "Größe", "мир", "Мир", "αβγ", "日本語", "ひらがな", "한국어", "😀", "☃", "$", "+=",
    "^`~|",
    "_", "-",
    "HTTPServer", "fooBar", "…", "。", "،", "नमस्ते", "\u3000", "\u00a0", "“q”", "／", "/\n", "@x", "#1",
]  # fmt: skip


def their_words(text: str, expressions: list[str]) -> list[str]:
    """Returns the words that one expression after the other leaves, each matched within what the ones before have cut off."""
    words = [text] if text else []
    for expression in expressions:
        cut: list[str] = []
        for word in words:
            place = 0
            for match in regex.finditer(expression, word):
                cut += [word[place : match.start()], match[0]]
                place = match.end()
            cut.append(word[place:])
        words = [word for word in cut if word]
    return words


def our_words(text: str, step: Any) -> list[str]:
    return [text[a:b] for _, (a, b) in step.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_words_are_those_of_llama_cpp(name: str) -> None:
    step, rng = cut_named(name, "x").pre_tokenizer(), np.random.default_rng(0)
    for size in [1] * len(PARTS) + [2, 3, 8, 20] * 40:
        text = "".join(rng.choice(PARTS, size)) if size > 1 else PARTS[int(rng.integers(len(PARTS)))]
        assert our_words(text, step) == their_words(text, EXPRESSIONS[name]), repr(text)


def test_names_and_what_goes_with_them() -> None:
    assert {name for name, cut in CUTS.items() if cut.whole} == {name for name, cut in CUTS.items() if cut.start}
    assert CUTS["llama-bpe"].whole
    assert CUTS["tekken"].start
    assert not CUTS["dbrx"].whole
    for cut in CUTS.values():
        cut.pre_tokenizer()
    with pytest.raises(CheckpointError, match=r"x: text is cut as in 'mine', expected one of gpt-2, phi-2, .*, and \d+ more") as caught:
        cut_named("mine", "x")
    assert len(str(caught.value)) < 480
