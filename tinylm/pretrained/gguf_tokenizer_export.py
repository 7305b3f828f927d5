"""A tokenizer as the metadata of a GGUF file: byte pairs as `gpt2`, SentencePiece's as `llama`, characters as `rwkv`.

A vocabulary of RWKV is a list of texts of which the longest that fits is taken, which for single characters is the character itself.
llama.cpp ends a text at some token whatever the file says: where the tokenizer has none, it is told the byte 0xFF, which is in no text.
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, Tokenizer
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.gguf_files import GgufFile
from tinylm.files.notices import warn_once
from tinylm.pretrained.gguf_tokenizers import ENDLESS, LINES_FIRST, gguf_tokenizer
from tinylm.pretrained.text_cuts import CUTS
from tinylm.pretrained.tokenizer_export import LINES, as_pretrained
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)  # tokenizer.ggml.token_type
_PROBE = (
    "It's THE dog's we'LL 12 345 6789012 ½² x²  y \t\n z \r\n\r\n  a.b/c ...!? (x) [y] $5 += ^`~|_- #1@x é e\u0301 naïve Größe Мир αβγ "
    "日本語テスト ひらがな 한국어 😀 … 。 “q” HTTPServer fooBar नमस्ते\u3000\u00a0  \nw   \n\n\tend \n"
)
_SPACE = "▁"  # SentencePiece's sign for it


def tokenizer_entries(tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """Returns the metadata of a tokenizer for a model of `size` tokens; ids that the tokenizer lacks become unused tokens.

    Raises ConfigError for a tokenizer that the format cannot hold, or whose text it would cut otherwise.
    """
    pretrained = as_pretrained(tokenizer) if isinstance(tokenizer, BpeTokenizer | CharTokenizer) else tokenizer
    if not isinstance(pretrained, PretrainedTokenizer):
        raise _cannot(f"one of kind {tokenizer.kind!r} (expected characters or byte pairs)")
    record = json.loads(pretrained.library.to_str())
    kind = record["model"]["type"]
    if kind == "WordLevel":
        return _characters(record, size)
    if kind != "BPE":
        raise _cannot(f"one of type {kind!r} (expected characters or byte pairs)")
    pieces = _pieces(pretrained, size)
    make = _sentence_pieces if record["model"].get("byte_fallback") else _byte_level
    entries = {"tokens": pieces, **make(pretrained, record, pieces), **_special(pretrained, pieces)}
    said = {f"tokenizer.{name}" if name.startswith("tinylm.") else f"tokenizer.ggml.{name}": value for name, value in entries.items()}
    if pretrained.template is not None:
        said["tokenizer.chat_template"] = pretrained.template.source
    _check_read_back(pretrained, record, said)
    return said


def _cannot(what: str) -> ConfigError:
    return ConfigError(f"a GGUF file cannot hold this tokenizer: {what}")


def _characters(record: dict[str, Any], size: int) -> dict[str, Any]:
    vocabulary = record["model"]["vocab"]
    characters = sorted(vocabulary, key=vocabulary.get)
    if any(len(c) != 1 for c in characters) or [vocabulary[c] for c in characters] != list(range(size)):
        raise _cannot("one of words (expected characters or byte pairs)")
    escapes = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\x00"}
    return {
        "tokenizer.ggml.model": "rwkv", "tokenizer.ggml.tokens": [escapes.get(c, c) for c in characters],
        "tokenizer.ggml.token_type": [_NORMAL] * size,
    }  # fmt: skip


def _pieces(tokenizer: PretrainedTokenizer, size: int) -> list[str]:
    """Returns the texts of all tokens, by id."""
    if tokenizer.vocab_size > size:
        raise ConfigError(f"the tokenizer has {tokenizer.vocab_size} tokens and the model {size}")
    return [tokenizer.library.id_to_token(i) or f"[UNUSED_{i}]" for i in range(size)]


def _token_types(tokenizer: PretrainedTokenizer, record: dict[str, Any], pieces: list[str]) -> list[int]:
    added = {entry["id"]: _CONTROL if entry["special"] else _USER for entry in record["added_tokens"]}
    unknown = record["model"].get("unk_token")
    usual = [_UNKNOWN if piece == unknown else _NORMAL for piece in pieces]
    usual = [_UNUSED if tokenizer.library.id_to_token(i) is None else kind for i, kind in enumerate(usual)]
    return [kind if kind == _UNKNOWN else added.get(i, kind) for i, kind in enumerate(usual)]


def _byte_level(tokenizer: PretrainedTokenizer, record: dict[str, Any], pieces: list[str]) -> dict[str, Any]:
    model = record["model"]
    step = tokenizer.library.pre_tokenizer
    words = [] if step is None else [word for word, _ in step.pre_tokenize_str(_PROBE)]
    known = [("gpt-2", LINES, {LINES_FIRST: True}), *((name, cut, {}) for name, cut in CUTS.items())]
    fits = (
        (name, more) for name, cut, more in known
        if cut.whole == bool(model.get("ignore_merges")) and words == [word for word, _ in cut.pre_tokenizer().pre_tokenize_str(_PROBE)]
    )  # fmt: skip
    name, more = next(fits, ("", {}))
    if not name:
        raise _cannot("text is cut into words in a way for which llama.cpp has no name")
    if (record["normalizer"] or {"type": "NFC"})["type"] != "NFC" or model.get("unk_token") is not None:
        raise _cannot("it changes the text before it cuts it, or has a token for what it does not know")
    if record["normalizer"] is not None:
        warn_once("the tokenizer composes accents before it cuts a text (NFC), and programs that read GGUF files do not")
    merges = [" ".join(pair) for pair in _pairs(model["merges"])]
    return {"model": "gpt2", "pre": name, "merges": merges, "token_type": _token_types(tokenizer, record, pieces), **more}


def _sentence_pieces(tokenizer: PretrainedTokenizer, record: dict[str, Any], pieces: list[str]) -> dict[str, Any]:
    """SentencePiece merges the pair whose piece has the highest score, so the scores fall in the order of the merges."""
    steps = record["normalizer"] or {}
    kinds = [step["type"] for step in steps.get("normalizers", [steps] if steps else [])]
    if kinds not in (["Prepend", "Replace"], ["Replace"]) or record["pre_tokenizer"] is not None:
        raise _cannot(f"it changes the text before it merges pieces by {kinds}, expected spaces to become {_SPACE}")
    ranks: dict[str, int] = {}
    for pair in _pairs(record["model"]["merges"]):
        ranks.setdefault("".join(pair), len(ranks))
    types = _token_types(tokenizer, record, pieces)
    spelled = {f"<0x{byte:02X}>" for byte in range(256)}
    types = [_BYTE if piece in spelled else kind for piece, kind in zip(pieces, types, strict=True)]
    return {
        "model": "llama", "scores": [-float(ranks.get(piece, len(ranks))) for piece in pieces], "token_type": types,
        "add_space_prefix": kinds[0] == "Prepend",
    }  # fmt: skip


def _special(tokenizer: PretrainedTokenizer, pieces: list[str]) -> dict[str, Any]:
    """Returns the ids that begin and end a text. The first end is the one that the chat template calls eos_token."""
    if len(tokenizer.start) > 1 or len(tokenizer.ends) > 3:
        raise _cannot(f"{len(tokenizer.start)} tokens before every text and {len(tokenizer.ends)} that end it, expected at most 1 and 3")
    template = tokenizer.template
    names = {name: getattr(template, name) for name in ("bos_token", "eos_token") if template is not None and name in template.source}
    ids = {name: tokenizer.library.token_to_id(text) for name, text in names.items() if text}
    ends = sorted(tokenizer.ends, key=lambda end: end != ids.get("eos_token"))
    if ids.get("eos_token", next(iter(ends), None)) not in (*ends[:1], None) or None in ids.values():
        raise _cannot(f"its chat template has {names!s:.120}, which are no tokens, or no end of a text")
    said: dict[str, Any] = {f"{name}_token_id": end for name, end in zip(("eos", "eot", "eom"), ends, strict=False)}
    never = next((pieces.index(piece) for piece in ("ÿ", "<0xFF>") if piece in pieces), None)
    if not ends and never is not None:
        said |= {"eos_token_id": never, ENDLESS: True}
    start = next(iter(tokenizer.start), ids.get("bos_token"))
    return {**said, **({} if start is None else {"bos_token_id": start}), "add_bos_token": bool(tokenizer.start)}


def _check_read_back(tokenizer: PretrainedTokenizer, record: dict[str, Any], said: dict[str, Any]) -> None:
    """Raises ConfigError if the file's tokenizer would not be the same."""
    try:
        again = gguf_tokenizer(GgufFile(Path("the file"), said, {}))
    except CheckpointError as error:
        raise _cannot(str(error)) from error
    merges, read = (_pairs(model["merges"]) for model in (record["model"], json.loads(again.library.to_str())["model"]))
    probe = _PROBE if record["normalizer"] is None else unicodedata.normalize("NFC", _PROBE)
    if merges != read or again.encode(probe).tolist() != tokenizer.encode(probe).tolist():
        raise _cannot("its merges do not follow from scores of pieces, or it gives other ids when it is read back")
    if again.start != tokenizer.start or set(again.ends) != set(tokenizer.ends):
        raise _cannot(f"its tokens around a text, {tokenizer.start} and {tokenizer.ends}, would be {again.start} and {again.ends}")


def _pairs(merges: list[Any]) -> list[tuple[str, ...]]:
    """Returns the merges of a tokenizer.json, which older files write as "a b"."""
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
