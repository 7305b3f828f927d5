"""Tokenizers in GGUF files: what is written, read back by the `gguf` library and by our own reader, gives the same ids for every text."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from model_files import MERGES, PIECES, tokenizer_record

from tinylm.data.tokenizers import Tokenizer, train_tokenizer
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.gguf_files import GgufFile, read_gguf
from tinylm.files.gguf_writing import write_gguf
from tinylm.pretrained.chat_templates import ChatTemplate
from tinylm.pretrained.gguf_tokenizer_export import tokenizer_entries
from tinylm.pretrained.gguf_tokenizers import gguf_tokenizer
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer, library_of

TEXT = "it's the dog's\t<unk> of 3.14 \\n, über_all  \n  and 日本 é  \r\n \u2028x\x85y\0\\ end \n" * 3


def read_again(entries: dict[str, Any], tmp_path: Path) -> PretrainedTokenizer:
    write_gguf(tmp_path / "t.gguf", {"general.architecture": "llama", **entries}, {"w": np.zeros(3)})
    theirs = {key: field.contents() for key, field in GGUFReader(tmp_path / "t.gguf").fields.items() if key in entries}
    file = read_gguf(tmp_path / "t.gguf")
    assert theirs == {key: value for key, value in file.metadata.items() if key in entries}
    return gguf_tokenizer(file)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_tokenizers_of_ours(kind: str, tmp_path: Path) -> None:
    ours = train_tokenizer(kind, TEXT, vocab_size=300)
    entries = tokenizer_entries(ours, ours.vocab_size)
    again = read_again(entries, tmp_path)
    assert (again.vocab_size, again.start, again.ends) == (ours.vocab_size, (), ())
    rng, known = np.random.default_rng(0), sorted(set(TEXT))
    for text in [TEXT, "", *("".join(rng.choice(known, 40)) for _ in range(200))]:
        ids = ours.encode(text).tolist()
        assert again.encode(text).tolist() == ids, repr(text)
        assert again.decode(ids) == text
    assert tokenizer_entries(again, ours.vocab_size) == entries
    if kind == "bpe":  # llama.cpp is told an end that no text has
        end = entries["tokenizer.ggml.eos_token_id"]
        assert entries["tokenizer.ggml.tokens"][end] == "ÿ"
        assert end not in ours.encode(TEXT + "ÿþ")
        padded = tokenizer_entries(ours, 310)
        assert padded["tokenizer.ggml.tokens"][-1] == "[UNUSED_309]"
        assert padded["tokenizer.ggml.token_type"][-1] == 5


def pretrained(changes: dict[str, Any] | None = None, **settings: Any) -> PretrainedTokenizer:
    record = tokenizer_record()
    record["model"] |= changes or {}
    return PretrainedTokenizer(library_of({**record, **settings.pop("record", {})}, "x"), **settings)


def test_tokenizers_of_others(tmp_path: Path) -> None:
    """Special tokens, ends and BOS; those in the middle of a text are read as such."""
    start, end = len(PIECES) - 3, len(PIECES) - 2
    ours = pretrained(start=(start,), ends=(end, 5))
    entries = tokenizer_entries(ours, len(PIECES))
    assert entries["tokenizer.ggml.pre"] == "gpt-2"
    assert entries["tokenizer.ggml.merges"] == MERGES
    assert [entries[f"tokenizer.ggml.{name}"] for name in ("bos_token_id", "eos_token_id", "eot_token_id")] == [start, end, 5]
    again = read_again(entries, tmp_path)
    assert (again.start, again.ends) == (ours.start, ours.ends)
    for text in ("<|start|>the ant 12<|end|>", " é😀\n\nx  \n", ""):
        assert again.encode(text).tolist() == ours.encode(text).tolist()


def test_chat_templates(tmp_path: Path, capsys: Any) -> None:
    """The tokens that a template names stay those it means, whichever end comes first; accents are composed before, with a warning."""
    end = len(PIECES) - 2
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<|start|>", "<|end|>")
    ours = pretrained(ends=(5, end), template=template, record={"normalizer": {"type": "NFC"}})
    entries = tokenizer_entries(ours, len(PIECES))
    assert capsys.readouterr().err.startswith("warning: the tokenizer composes accents before it cuts a text (NFC)")
    again = read_again(entries, tmp_path)
    messages = [{"role": "user", "content": "the"}]
    assert again.chat_ids(messages) == ours.chat_ids(messages) == [end - 1, *again.encode("the").tolist(), end]
    assert (again.start, again.ends) == ((), (end, 5))
    endless = pretrained(template=ChatTemplate("{{ messages[0].content }}{{ eos_token }}"))
    assert read_again(tokenizer_entries(endless, len(PIECES)), tmp_path).chat_ids(messages) == endless.chat_ids(messages)
    for wrong in (ChatTemplate("{{ eos_token }}", "", "<|start|>"), ChatTemplate("{{ bos_token }}", "<none>", "")):
        with pytest.raises(ConfigError, match="which are no tokens, or no end of a text"):
            tokenizer_entries(pretrained(ends=(end,), template=wrong), len(PIECES))


def test_cuts_are_recognised() -> None:
    def pre(*steps: dict[str, Any], whole: bool = False) -> str:
        last = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": len(steps) != 1 or "Split" not in str(steps),
        }
        record = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]}}
        return tokenizer_entries(pretrained({"ignore_merges": whole}, record=record), len(PIECES))["tokenizer.ggml.pre"]

    llama_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": llama_3}, "behavior": "Isolated", "invert": False}
    assert pre({"type": "Digits", "individual_digits": True}) == "smollm"
    assert pre(split, whole=True) == "llama-bpe"
    assert pre(split) == "dbrx"
    assert pre({**split, "pattern": {"Regex": llama_3.replace("{1,3}", "")}}) == "qwen2"
    with pytest.raises(ConfigError, match=r"cut into words in a way for which llama\.cpp has no name"):
        pre({**split, "pattern": {"Regex": "[aeiou]"}})


def test_sentence_pieces(tmp_path: Path) -> None:
    """The scores are the order of the merges, so that the same merges come of them."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "c", "ab", "bc", "▁a", "cc"]
    said = {
        "tokens": vocabulary, "model": "llama", "scores": [0.0] * 259 + [-10.0, -11.0, -12.0, -13.0, -2.0, -1.0, -3.0, -4.0],
        "token_type": [2, 3, 3, *[6] * 256, *[1] * 8], "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    ours = gguf_tokenizer(GgufFile(Path("x"), {f"tokenizer.ggml.{key}": value for key, value in said.items()}, {}))
    entries = tokenizer_entries(ours, len(vocabulary))
    again = read_again(entries, tmp_path)
    assert entries["tokenizer.ggml.token_type"] == said["token_type"]
    for letters in itertools.product("ab c", repeat=4):
        text = "".join(letters)
        assert again.encode(text).tolist() == ours.encode(text).tolist()
    assert (again.start, again.ends) == ((1,), (2,))


def test_tokenizers_that_cannot_be_held() -> None:
    words: Tokenizer = train_tokenizer("word", TEXT)
    with pytest.raises(ConfigError, match=r"cannot hold this tokenizer: one of kind 'word' \(expected characters or byte pairs\)"):
        tokenizer_entries(words, words.vocab_size)
    for wrong, message in [
        (lambda: pretrained(record={"normalizer": {"type": "Lowercase"}}), "changes the text before it cuts it"),
        (lambda: pretrained(ends=(1, 2, 3, 4)), "4 that end it, expected at most 1 and 3"),
        (lambda: pretrained({"ignore_merges": True}), "no name"),
    ]:
        with pytest.raises(ConfigError, match=message):
            tokenizer_entries(wrong(), len(PIECES))
    with pytest.raises(ConfigError, match=f"the tokenizer has {len(PIECES)} tokens and the model 10"):
        tokenizer_entries(pretrained(), 10)


def test_damaged_vocabularies_of_characters(tmp_path: Path) -> None:
    entries = tokenizer_entries(train_tokenizer("char", "abc\n"), 4)
    write_gguf(tmp_path / "x.gguf", {**entries, "tokenizer.ggml.tokens": ["a", "bc", r"\n"], "tokenizer.ggml.token_type": [1] * 3}, {})
    with pytest.raises(CheckpointError, match="'bc' of 'rwkv', expected single characters"):
        gguf_tokenizer(read_gguf(tmp_path / "x.gguf"))
