"""How byte-level tokenizers cut a text before pieces are merged, by the names that GGUF files have for it (tokenizer.ggml.pre).

The names, and which cut each stands for, are those of llama.cpp (src/llama-vocab.cpp). Where it rewrites an expression of the model's
own tokenizer.json for its simpler engine, the original stands here.
"""

import re
from dataclasses import dataclass
from typing import Any

from tinylm.errors import CheckpointError, listed


@dataclass(frozen=True)
class Cut:
    """steps: expressions, each of which cuts what the one before has left into what it matches and what lies between.

    whole: a word that is a piece stays whole, whatever the merges are.  start: a text begins with BOS unless the file says otherwise.
    """

    steps: tuple[str, ...]
    whole: bool = False
    start: bool = False

    def pre_tokenizer(self) -> Any:
        """Returns the step of the `tokenizers` library, which ends with bytes spelled as letters."""
        from tokenizers import Regex, pre_tokenizers

        own = self.steps[-1] == GPT_2  # which the library has built in
        made: list[Any] = [
            pre_tokenizers.Digits(individual_digits=True) if step == DIGITS else pre_tokenizers.Split(Regex(step), "isolated")
            for step in (self.steps[:-1] if own else self.steps)
        ]
        return pre_tokenizers.Sequence([*made, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=own)])


def cut_named(name: str, where: Any) -> Cut:
    """Returns the cut of that name. Raises CheckpointError for a name that is not known."""
    if name not in CUTS:
        raise CheckpointError(f"{where}: text is cut as in {name!r:.40}, expected one of {listed(list(CUTS), 300).replace(';', ',')}")
    return CUTS[name]


GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # Radford et al. 2019; the library's own
DIGITS = r"\p{N}"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(numbers: str, letters: str = r"\p{L}", others: str = r"[^\s\p{L}\p{N}]+[\r\n]*", spaces: str = _SPACES) -> str:
    """Returns an expression after that of GPT-4: endings, words with the sign before them, numbers, other signs, spaces."""
    return rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{numbers}| ?{others}|{spaces}"


def _cased(numbers: str, ending: str) -> str:
    """Returns an expression that also cuts before a capital within a word."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    words = "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{upper}{a}{lower}{b}{ending}" for a, b in (("*", "+"), ("+", "*")))
    return rf"{words}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


# The code points of letters with two cases, as DeepSeek LLM's tokenizer lists them.
_TWO_CASES = """
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 3f7-481
48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45
1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec
1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183
2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17
ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943
"""
_CASED = "".join(re.sub("[0-9a-f]+", r"\\x{\g<0>}", _TWO_CASES).split())
_CHINESE = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+"
_SIGNS = r"[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+"
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
    r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _SPACES,
)
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+"

_LLAMA_3 = _words(r"\p{N}{1,3}")
_SAME: list[tuple[str, Cut]] = [  # names that stand for the same
    ("gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum", Cut((GPT_2,))),
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", Cut((DIGITS, GPT_2))),
    ("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", Cut((_LLAMA_3,), whole=True, start=True)),
    ("dbrx smaug-bpe chatglm-bpe glm4", Cut((_LLAMA_3,))),
    ("qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez kormo f2llmv2 grok-2 solar-open", Cut((_words(DIGITS),))),
    ("qwen35", Cut((_words(DIGITS, r"[\p{L}\p{M}]", r"[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),))),
    ("seed-coder", Cut((_words(DIGITS, others=r"[^\s\p{L}\p{N}\r\n]+"),))),
    ("bailingmoe bailingmoe2 llada-moe", Cut((_words(DIGITS, spaces=r"\s*[\r\n]|\s+(?!\S)|\s+"),))),
    ("deepseek-llm", Cut((r"[\r\n]", rf"\s?[{_CASED}]+", rf"\s?{_SIGNS}", r"\s+$", _CHINESE, r"\p{N}+"))),
    ("deepseek-coder", Cut((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE, DIGITS))),
    ("deepseek-v3 hunyuan-dense joyai-llm", Cut(_DEEPSEEK_3)),
    ("falcon", Cut((r"[\p{P}$+<=>^~|`]+", GPT_2, r"[0-9][0-9][0-9]"))),
    ("default", Cut((r"[\p{P}$+<=>^~|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"))),
    ("tekken", Cut((_cased(DIGITS, ""),), whole=True, start=True)),
    ("gpt-4o llama4 kanana2", Cut((_cased(r"\p{N}{1,3}", f"{_ENDINGS}?"),))),
    ("bloom gpt3-finnish poro-chat", Cut((_BLOOM,))),
    ("viking", Cut((_BLOOM, DIGITS))),
]  # fmt: skip
CUTS: dict[str, Cut] = {name: cut for names, cut in _SAME for name in names.split()}
