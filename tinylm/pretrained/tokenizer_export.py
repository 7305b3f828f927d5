"""Tokenizers as Hugging Face's tokenizer.json: those trained here too, rebuilt so that they give every text the same ids."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from tinylm.errors import ConfigError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.pretrained.text_cuts import GPT_2, Cut
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer

# The library's regular expressions (Oniguruma's) define \w and \s otherwise than Python, so Python's classes are spelled
# out, and what str.splitlines takes for the end of a line.
_LETTER, _SPACE = r"\p{L}\p{N}_", r"\s\x1c-\x1f"
_CLASSES = {r"[\w": f"[{_LETTER}", r"[^\w\s]": f"[^{_LETTER}{_SPACE}]", r"\w": f"[{_LETTER}]", r"\s": f"[{_SPACE}]"}
_ENDS = r"\n\x0b\x0c\r\x1c-\x1e\x{85}\x{2028}\x{2029}"
_LINE = rf"[^{_ENDS}]*(?:\r\n|[{_ENDS}])|[^{_ENDS}]+"
_CHARACTER = r"(?m:.)"
LINES = Cut((_LINE, GPT_2))  # how the tokenizers of byte pairs that are trained here cut a text


def oniguruma(pattern: str) -> str:
    """Returns what a word is, one of WORD_PATTERNS, in the library's language of expressions."""
    return re.sub(r"\[\^\\w\\s\]|\[\\w|\\[ws]|\\u(....)", lambda m: rf"\x{{{m[1]}}}" if m[1] else _CLASSES[m[0]], pattern)


def as_pretrained(tokenizer: Tokenizer) -> PretrainedTokenizer:
    """Returns the tokenizer as one of the `tokenizers` library. Raises ConfigError for a kind that cannot be expressed so.

    Characters and words become the entries of a WordLevel model, after a step that cuts the text into them; byte pairs
    stay as they are, after a step that cuts at the end of each line.
    """
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Library

    if isinstance(tokenizer, PretrainedTokenizer):
        return tokenizer
    if isinstance(tokenizer, BpeTokenizer):
        library: Any = Library.from_str(tokenizer.to_json()["definition"])
        lines = pre_tokenizers.Split(Regex(_LINE), "isolated")
        library.pre_tokenizer = pre_tokenizers.Sequence([lines, library.pre_tokenizer])
        return PretrainedTokenizer(library)
    if isinstance(tokenizer, CharTokenizer):
        return of_characters(tokenizer.characters)
    if isinstance(tokenizer, WordTokenizer):
        return _of_entries(tokenizer.words, oniguruma(tokenizer.pattern), tokenizer.unknown_id)
    raise ConfigError(f"a tokenizer of kind {tokenizer.kind!r} cannot be written as tokenizer.json")


def of_characters(characters: Sequence[str]) -> PretrainedTokenizer:
    """Returns the tokenizer whose tokens are these characters, in the order of their ids."""
    return _of_entries(characters, _CHARACTER, None)


def _of_entries(entries: Sequence[str], cut: str, unknown_id: int | None) -> PretrainedTokenizer:
    """Returns a tokenizer that looks up what an expression cuts out of a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    unknown = {} if unknown_id is None else {"unk_token": entries[unknown_id]}
    library = Tokenizer(models.WordLevel({entry: i for i, entry in enumerate(entries)}, **unknown))
    library.pre_tokenizer = pre_tokenizers.Split(Regex(cut), "isolated")
    library.decoder = decoders.Fuse()
    return PretrainedTokenizer(library, unknown_id=unknown_id)


def write_tokenizer(tokenizer: PretrainedTokenizer, folder: Path, longest: int) -> None:
    """Writes tokenizer.json, and tokenizer_config.json with the special tokens, the chat template and the model's context.

    longest: the context in tokens. <unk> is not named there: it would become a special token, and its letters in a text
    would be read as that token. Raises CheckpointError.
    """
    write_atomically(folder / "tokenizer.json", (tokenizer.library.to_str(pretty=True) + "\n").encode("utf-8"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.start:
        settings |= {"bos_token": tokenizer.library.id_to_token(tokenizer.start[0]), "add_bos_token": True}
    if tokenizer.ends:
        settings["eos_token"] = tokenizer.library.id_to_token(tokenizer.ends[0])
    if tokenizer.template is not None:
        settings["chat_template"] = tokenizer.template.source
    write_json(folder / "tokenizer_config.json", settings)
