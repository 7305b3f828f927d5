"""A tokenizer as the live page's JavaScript needs it (tokens.js)."""

import functools
import re
import sys
from collections.abc import Callable
from typing import Any

from tinylm.data.labelled import MAX_WORDS
from tinylm.data.tokenizers import CharTokenizer, Tokenizer, WordTokenizer
from tinylm.data.words import marks
from tinylm.errors import ConfigError


def live_tokenizer(tokenizer: Tokenizer, *, classifier: bool = False) -> dict[str, Any]:
    """Returns the record of a tokenizer of characters or words, from which tokens.js gives the same ids.

    {kind: "char", characters}, or {kind: "word", words in the order of their ids, pattern, classes: the characters that \\w, \\s
    and \\p{M} stand for in Python, lowered: whether words are read as a classifier reads them, longest: how many of them}.
    classifier: whether the tokens are those of a classifier of texts. Raises ConfigError for other tokenizers.
    """
    if type(tokenizer) is CharTokenizer and not classifier:
        return {"kind": "char", "characters": "".join(tokenizer.characters)}
    if type(tokenizer) is WordTokenizer:
        # A browser's classes take no brackets of their own: "\w" alone becomes "[\w]".
        pattern = re.sub(r"(\[[^]]*\])|(\\[ws])", lambda found: found[1] or f"[{found[2]}]", tokenizer.pattern)
        classes = {r"\w": _members(r"\w"), r"\s": _members(r"\s"), r"\p{M}": marks()}
        longest = MAX_WORDS if classifier else None
        return {
            "kind": "word", "words": tokenizer.words, "pattern": pattern, "classes": classes, "lowered": classifier, "longest": longest,
        }  # fmt: skip
    raise ConfigError(f"the live page reads characters and words, not the tokens of {type(tokenizer).__name__} {tokenizer.kind!r:.40}")


@functools.cache
def _members(escape: str) -> str:
    """Returns all characters that an escape of `re` stands for, as ranges within a class."""
    return _ranges(re.compile(escape).match)


def _ranges(chosen: Callable[[str], Any]) -> str:
    found, first = [], None
    for point in range(sys.maxunicode + 2):
        inside = point <= sys.maxunicode and chosen(chr(point)) is not None
        if inside and first is None:
            first = point
        elif not inside and first is not None:
            found.append(f"{chr(first)}-{chr(point - 1)}")
            first = None
    return "".join(found)
