"""The tokenizer that a GGUF file describes in its metadata: byte-level BPE as in GPT-2, SentencePiece's BPE as in Llama 2, or the
characters of a model that was trained here."""

from typing import Any

from tinylm.errors import CheckpointError
from tinylm.files.gguf_files import GgufFile
from tinylm.files.notices import warn_once
from tinylm.pretrained.chat_templates import ChatTemplate
from tinylm.pretrained.text_cuts import cut_named
from tinylm.pretrained.tokenizer_export import LINES, of_characters
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer, byte_level, from_library

_UNKNOWN, _CONTROL, _USER = 2, 3, 4  # tokenizer.ggml.token_type
LINES_FIRST = "tinylm.lines_first"  # under tokenizer.: byte pairs of ours, which never cross a line; true if it is there
ENDLESS = "tinylm.endless"  # no token ends a text, and eos is only there because llama.cpp needs one


def gguf_tokenizer(file: GgufFile) -> PretrainedTokenizer:
    """Returns the tokenizer. Raises CheckpointError if the metadata lack a part, are of another kind, or do not fit together."""
    data, where = file.metadata, f"{file.path}, tokenizer.ggml"

    def get(name: str, kind: type, default: Any = None) -> Any:
        value = data.get(f"tokenizer.ggml.{name}", default)
        if value is not None and type(value) is not kind:
            raise CheckpointError(f"{where}.{name} is {value!r:.60}, expected {kind.__name__}")
        return value

    if get("model", str) == "no_vocab":
        raise CheckpointError(f"{file.path} has no tokenizer (tokenizer.ggml.model is 'no_vocab')")
    pieces, types, model = get("tokens", list, []), get("token_type", list, []), get("model", str)
    if not pieces or not all(isinstance(p, str) for p in pieces) or len(set(pieces)) != len(pieces):
        raise CheckpointError(f"{where}.tokens: expected different pieces, got {len(pieces)} of which {len(set(map(str, pieces)))} differ")
    if types and len(types) != len(pieces):
        raise CheckpointError(f"{where}: {len(types)} token types for {len(pieces)} tokens")
    special = [p for p, t in zip(pieces, types, strict=False) if t == _CONTROL]
    vocabulary = {p: i for i, p in enumerate(pieces)}
    if model == "gpt2":
        merges = get("merges", list)
        if not merges or not all(isinstance(m, str) for m in merges):
            raise CheckpointError(f"{where}.merges is missing, or is not of texts: byte-level BPE needs its merges")
        if (name := get("pre", str)) is None:
            warn_once(
                f"{where}.pre is missing: text is cut as for gpt-2 before pieces are merged, which may give other ids than in training"
            )
        cut = LINES if data.get(f"tokenizer.{LINES_FIRST}") is True else cut_named(name or "gpt-2", where)
        library = byte_level(vocabulary, merges, cut, special, where)
        start_by_default = cut.start
    elif model == "llama":
        library = _sentence_pieces(vocabulary, get("scores", list, []), types, special, get("add_space_prefix", bool, True), where)
        start_by_default = True
    elif model == "rwkv":
        return of_characters(_characters(pieces, where))
    else:
        raise CheckpointError(f"{where}.model is {model!r:.60}, expected 'gpt2', 'llama', or 'rwkv' with characters")
    library.add_tokens([p for p, t in zip(pieces, types, strict=False) if t == _USER])
    if get("add_eos_token", bool):
        warn_once(f"{where}.add_eos_token is true: it is ignored, no text gets an end-of-text token behind it")
    ids = {name: get(f"{name}_token_id", int) for name in ("bos", "eos", "eot", "eom")}
    if wrong := [f"{name} {i}" for name, i in ids.items() if i is not None and not 0 <= i < len(pieces)]:
        raise CheckpointError(f"{where}: ids of special tokens are out of range: {', '.join(wrong)}, expected 0 to {len(pieces) - 1}")
    if data.get(f"tokenizer.{ENDLESS}") is True:
        ids["eos"] = None
    start = (ids["bos"],) if get("add_bos_token", bool, start_by_default) and ids["bos"] is not None else ()
    if start:
        failed = CheckpointError(f"{where}: {pieces[start[0]]!r:.60} cannot stand before a text")
        from_library(lambda: _put_before(library, pieces[start[0]], start[0]), failed)
    source = data.get("tokenizer.chat_template")
    texts = ["" if ids[name] is None else pieces[ids[name]] for name in ("bos", "eos")]
    template = ChatTemplate(source, *texts) if isinstance(source, str) else None
    ends = tuple(dict.fromkeys(ids[name] for name in ("eos", "eot", "eom") if ids[name] is not None))
    return PretrainedTokenizer(library, start, ends, template)


def _characters(pieces: list[str], where: str) -> list[str]:
    """Returns the characters that RWKV's tokens are, whose unprintable ones are written as in a Python text."""
    escapes = {r"\\": "\\", r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\x00": "\0"}
    found = [escapes.get(piece, piece) for piece in pieces]
    if longer := next((piece for piece in found if len(piece) != 1), None):
        raise CheckpointError(f"{where}.tokens: {longer!r:.60} of 'rwkv', expected single characters")
    return found


def _put_before(library: Any, piece: str, number: int) -> None:
    """Makes the library put this token before a text where special tokens are asked for."""
    from tokenizers import processors

    steps = [processors.TemplateProcessing(single=[piece, "$A"], special_tokens=[(piece, number)])]
    if library.post_processor is not None:
        steps.insert(0, library.post_processor)
    library.post_processor = processors.Sequence(steps)


def _sentence_pieces(vocabulary: dict[str, int], scores: list[Any], types: list[int], special: list[str], prefix: bool, where: str) -> Any:
    """Returns SentencePiece's BPE, which merges the two neighbours whose joint piece has the highest score: so each way to
    join two pieces into a third is a merge, in the order of the scores. What no piece covers is spelled in bytes, <0x00> to
    <0xFF>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    if len(scores) != len(vocabulary) or not all(type(s) is float for s in scores):
        raise CheckpointError(f"{where}: {len(scores)} scores for {len(vocabulary)} tokens, expected one number each")
    merges = []
    for piece, number in vocabulary.items():
        if len(piece) > 256:
            raise CheckpointError(f"{where}: the piece {piece!r:.60} has {len(piece)} characters, expected at most 256")
        if not types or types[number] not in (_UNKNOWN, _CONTROL):
            ways = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocabulary and piece[i:] in vocabulary]
            merges += [(-scores[number], vocabulary[a], vocabulary[b], (a, b)) for a, b in ways]
    merges.sort(key=lambda m: m[:3])
    unknown = next((p for p, i in vocabulary.items() if types and types[i] == _UNKNOWN), None)
    pairs = [m[3] for m in merges]
    failed = CheckpointError(f"{where}: its pieces make no tokenizer")
    library = from_library(lambda: Tokenizer(models.BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True)), failed)
    library.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if prefix else []), normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    library.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*special, *([unknown] if unknown else [])]])
    return library
