"""Tokenizers of pretrained models through the `tokenizers` library, read from tokenizer.json or vocab.json with merges.txt."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.vocabulary_checks import checked_utf8, in_vocabulary
from tinylm.errors import CheckpointError, ConfigError, DataError, TinylmError, listed
from tinylm.files.json_files import read_fields, read_json, read_text
from tinylm.files.notices import warn_once
from tinylm.files.regular_files import exists
from tinylm.pretrained.chat_templates import ChatTemplate
from tinylm.pretrained.text_cuts import CUTS, Cut

_MOST = 1 << 24  # ids; the largest vocabularies have 300 thousand
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which is in no vocabulary


class PretrainedTokenizer:
    """A tokenizer of the `tokenizers` library with its special tokens and its chat template.

    start: the ids that stand before every text, such as BOS.  ends: the ids that end a text or a turn.
    template: how a conversation is written; None if the model has none.  The text of special tokens, such as <|im_end|>, is
    read as those tokens.
    """

    kind = "pretrained"

    def __init__(
        self, library: Any, start: tuple[int, ...] = (), ends: tuple[int, ...] = (), template: ChatTemplate | None = None,
        unknown_id: int | None = None,
    ) -> None:  # fmt: skip
        self.library, self.start, self.ends, self.template = library, start, ends, template
        self.unknown_id = unknown_id
        self.vocab_size = max(library.get_vocab().values(), default=-1) + 1
        if self.vocab_size > _MOST:
            raise CheckpointError(f"the tokenizer has a token of id {self.vocab_size - 1}: expected ids below {_MOST}")
        for i in (*start, *ends):
            if not 0 <= i < self.vocab_size:
                raise CheckpointError(f"the tokenizer has {self.vocab_size} tokens and a special token of id {i}")

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, without those of `start`.

        Raises DataError for text that is not valid Unicode, or that no token of the vocabulary can stand for.
        """
        return np.array(self._encoding(text).ids, np.int64)

    def _encoding(self, text: str) -> Any:
        checked_utf8(text)
        failed = DataError(f"the tokenizer cannot encode {text[:80]!r}")
        return from_library(lambda: self.library.encode(text, add_special_tokens=False), failed)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Raises RangeError for an id outside the vocabulary; DataError if its decoder fails."""
        listed = in_vocabulary(ids, self.vocab_size)
        failed = DataError(f"the tokenizer cannot decode {listed[:20]}")
        return from_library(lambda: self.library.decode(listed, skip_special_tokens=False), failed)

    def first_bytes(self, text: str) -> int:
        if not text:
            return 0
        encoding = self._encoding(text)
        if not encoding.ids:
            raise DataError(f"the tokenizer has no token for {text[:80]!r}")
        _, end = encoding.offsets[0]
        return len(text[: max(end, 1)].encode("utf-8"))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "definition": self.library.to_str(), "start": list(self.start), "ends": list(self.ends)}

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """Returns the ids of a conversation, up to where the assistant speaks. Raises ConfigError without a chat template; DataError."""
        if self.template is None:
            raise ConfigError("the model has no chat template, so it cannot hold a conversation")
        return self.encode(self.template.render(messages)).tolist()


def from_library(call: Callable[[], Any], failed: TinylmError) -> Any:
    """Returns the result of a call of the `tokenizers` library. Raises `failed`, with the library's words, if the call raises anything.

    The library raises plain Exceptions, and a PanicException, which is not an Exception, where its Rust code panics.
    """
    try:
        return call()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # an interruption
        raise type(failed)(f"{failed}: {' '.join(str(error).split())[:200]}") from error


def library_of(record: Any, where: Any) -> Any:
    """Returns a tokenizer of the library from its JSON, without what is meant for training: truncation, padding, and dropout
    of merges. Raises CheckpointError."""
    from tokenizers import Tokenizer

    if isinstance(record, dict):
        record = {**record, "truncation": None, "padding": None}
        if isinstance(model := record.get("model"), dict) and model.get("dropout") is not None:
            record["model"] = {**model, "dropout": None}
    return from_library(lambda: Tokenizer.from_str(json.dumps(record)), CheckpointError(f"{where} is no tokenizer"))


def read_tokenizer(folder: Path) -> PretrainedTokenizer:
    """Returns the tokenizer of a Hugging Face folder. Raises CheckpointError if there is none, or its files are damaged."""
    whole = folder / "tokenizer.json"
    settings = _optional(folder / "tokenizer_config.json")
    if exists(whole):
        record = read_json(whole)
        library = library_of(record, whole)
    elif exists(folder / "vocab.json"):
        library, record = _from_vocabulary(folder), {}
    else:
        raise CheckpointError(f"{folder} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt")
    start = () if library.post_processor is None else _start(library, folder)
    bos, eos = (_token(settings.get(name)) for name in ("bos_token", "eos_token"))
    _name_ignored(library, settings, start, folder / "tokenizer_config.json")
    if not start and settings.get("add_bos_token") is True and bos is not None and library.token_to_id(bos) is not None:
        start = (library.token_to_id(bos),)
    model = record.get("model", {}) if isinstance(record, dict) else {}
    unknown = model.get("unk_token") if isinstance(model, dict) and not model.get("byte_fallback") else None
    unknown_id = library.token_to_id(unknown) if unknown else None
    return PretrainedTokenizer(library, start, _ends(folder, library, eos), _template(folder, settings, bos, eos), unknown_id)


def _start(library: Any, where: Any) -> tuple[int, ...]:
    """Returns the ids that the library puts before a text."""
    failed = CheckpointError(f"{where}: the tokenizer cannot encode 'x'")
    probe = from_library(lambda: library.encode("x", add_special_tokens=True).ids, failed)
    body = from_library(lambda: library.encode("x", add_special_tokens=False).ids, failed)
    at = next((i for i in range(len(probe) - len(body) + 1) if body and probe[i : i + len(body)] == body), None)
    if at is None:
        return ()
    if probe[at + len(body) :]:
        warn_once(f"{where}: the tokens {probe[at + len(body) :]!s:.80}, which its tokenizer puts behind every text, are left out")
    return tuple(probe[:at])


def _name_ignored(library: Any, settings: Mapping[str, Any], start: tuple[int, ...], where: Path) -> None:
    """Prints a warning for settings that disagree with tokenizer.json, which is what counts here; in transformers they may win."""
    serves = {"add_bos_token": True if start else None, "add_eos_token": False, "add_prefix_space": _adds_space(library)}
    said = [
        f"{name} {settings[name]}" for name, done in serves.items()
        if type(settings.get(name)) is bool and done is not None and settings[name] != done
    ]  # fmt: skip
    if said:
        warn_once(f"{where}: settings that disagree with tokenizer.json, and are ignored: {listed(said)}")


def _adds_space(library: Any) -> bool | None:
    """Returns whether the library puts a space before a text; None where that cannot be seen."""
    try:
        plain, spaced = (
            from_library(functools.partial(library.encode, t, add_special_tokens=False), DataError("")).ids for t in ("x", " x")
        )
    except DataError:
        return None
    return plain == spaced if plain and spaced else None


def _optional(path: Path) -> Mapping[str, Any]:
    return read_fields(path).record if exists(path) else {}


def _from_vocabulary(folder: Path) -> Any:
    """Returns a tokenizer of GPT-2's byte-level pieces."""
    vocabulary = read_json(folder / "vocab.json")
    if not isinstance(vocabulary, dict) or not all(type(i) is int and 0 <= i < _MOST for i in vocabulary.values()):
        raise CheckpointError(f"{folder / 'vocab.json'}: expected pieces and their ids, below {_MOST}")
    lines = read_text(folder / "merges.txt").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    special = {t for t in ("<|endoftext|>",) if t in vocabulary}
    return byte_level(vocabulary, merges, CUTS["gpt-2"], special, folder / "merges.txt")


def byte_level(vocabulary: dict[str, int], merges: list[str], cut: Cut, special: Iterable[str], where: Any) -> Any:
    """Returns byte-level BPE from its pieces and merges ("a b"). Raises CheckpointError if they do not fit together."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    pairs: list[Any] = [tuple(line.split(" ")) for line in merges]
    if wrong := next(
        (p for p in pairs if len(p) != 2 or p[0] not in vocabulary or p[1] not in vocabulary or "".join(p) not in vocabulary), None
    ):
        raise CheckpointError(f"{where}: the merge {' '.join(wrong)!r:.60} is not one of two pieces of the vocabulary")
    failed = CheckpointError(f"{where}: its pieces make no tokenizer")
    library = from_library(lambda: Tokenizer(models.BPE(vocabulary, pairs, fuse_unk=False, ignore_merges=cut.whole)), failed)
    library.pre_tokenizer = cut.pre_tokenizer()
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return library


def _token(value: Any) -> str | None:
    """Returns a special token's text, which may stand in a record; None for anything else."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and not _SURROGATE.search(value) else None


def _ends(folder: Path, library: Any, eos: str | None) -> tuple[int, ...]:
    """Returns the ids that end a text: those of generation_config.json, config.json and the tokenizer's EOS."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = _optional(folder / name).get("eos_token_id")
        found += [i for i in (value if isinstance(value, list) else [value]) if type(i) is int]
    if eos is not None and library.token_to_id(eos) is not None:
        found.append(library.token_to_id(eos))
    size = library.get_vocab_size()
    return tuple(dict.fromkeys(i for i in found if 0 <= i < size))


def _template(folder: Path, settings: Any, bos: str | None, eos: str | None) -> ChatTemplate | None:
    file = folder / "chat_template.jinja"
    source = settings.get("chat_template")
    if exists(file):
        source = read_text(file)
    if isinstance(source, list):  # several, by name
        source = next((t.get("template") for t in source if isinstance(t, dict) and t.get("name") == "default"), None)
    return ChatTemplate(source, bos or "", eos or "") if isinstance(source, str) else None
