"""Tokenizers in Hugging Face's folders compared with transformers: ids, BOS, ends, templates; written and read again."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from tinylm.data.tokenizers import StreamDecoder, token_texts
from tinylm.decode import score_text
from tinylm.files.gguf_files import GgufFile
from tinylm.models import GPT, GPTConfig
from tinylm.pretrained.gguf_tokenizers import gguf_tokenizer
from tinylm.pretrained.tokenizer_export import write_tokenizer
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer, read_tokenizer

TEXTS = ["the thin  ant", "it's 12 é😀\n\n x", "<|endoftext|>the", " the\t"]


def pieces() -> dict[str, int]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {p: i for i, p in enumerate([*letters, "th", "the", "Ġthe", "<|endoftext|>", "<s>"])}


def theirs_at(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that it imports
        warnings.simplefilter("ignore", FutureWarning)
        import transformers
    kind = transformers.GPT2Tokenizer if (folder / "vocab.json").exists() else transformers.PreTrainedTokenizerFast
    return kind.from_pretrained(folder)


def test_vocabulary_and_merges(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(pieces()), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}', encoding="utf-8")
    ours, theirs = read_tokenizer(tmp_path), theirs_at(tmp_path)
    for text in TEXTS:
        assert ours.encode(text).tolist() == theirs(text).input_ids, text
        assert ours.decode(ours.encode(text).tolist()) == text
    assert (ours.start, ours.ends, ours.unknown_id) == ((), (pieces()["<|endoftext|>"],), None)


@pytest.fixture
def with_bos(tmp_path: Path) -> Path:
    """Returns a folder whose tokenizer puts <s> before every text."""
    library = Tokenizer(models.BPE(pieces(), [("t", "h"), ("th", "e"), ("Ġ", "the")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("<s>", special=True)])
    library.post_processor = processors.TemplateProcessing(single=["<s>", "$A"], special_tokens=[("<s>", pieces()["<s>"])])
    library.save(str(tmp_path / "tokenizer.json"))
    settings = {
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>"},
        "chat_template": "{{ bos_token }}{{ messages[0].content }}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 7]}', encoding="utf-8")
    return tmp_path


def test_bos_comes_before_every_text(with_bos: Path) -> None:
    """As in transformers; in a conversation the template already contains it."""
    ours, theirs = read_tokenizer(with_bos), theirs_at(with_bos)
    for text in TEXTS:
        assert [*ours.start, *ours.encode(text).tolist()] == theirs(text).input_ids, text
    messages = [{"role": "user", "content": "the"}]
    assert ours.ends == (5, 7, pieces()["<|endoftext|>"])
    assert ours.chat_ids(messages) == theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def test_scoring_starts_at_bos(with_bos: Path) -> None:
    """log p of every token of the text, the first one given BOS."""
    tokenizer = read_tokenizer(with_bos)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=8, n_layer=1, n_head=2, n_embd=8))
    score = score_text(model, tokenizer, "the ant")
    ids = [*tokenizer.start, *tokenizer.encode("the ant").tolist()]
    z = model(np.array([ids])).numpy()[0].astype(np.float64)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    assert np.allclose(score.log_probabilities, [log_p[t, ids[t + 1]] for t in range(len(ids) - 1)], atol=1e-6)
    assert (score.tokens[0], score.bytes) == ("the", 7)


def test_written_and_read_again(with_bos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("again")
    first = read_tokenizer(with_bos)
    write_tokenizer(first, folder, 8)
    again = read_tokenizer(folder)
    assert [again.encode(t).tolist() for t in TEXTS] == [first.encode(t).tolist() for t in TEXTS]
    assert (again.start, again.ends[0], again.template is not None) == (first.start, 5, True)
    assert theirs_at(folder)("the").input_ids == [*first.start, *first.encode("the").tolist()]


# ---------------------------------------------------------------- spaces that a decoder takes off at the beginning


@pytest.fixture(scope="module")
def sentence_pieces() -> PretrainedTokenizer:
    """Returns a tokenizer like SentencePiece's: words carry their space, the first word's space is removed, other
    characters are spelled in bytes."""
    vocabulary = [f"<0x{b:02X}>" for b in range(256)]
    for word in ("▁once", "▁upon", "▁a", "▁time"):
        vocabulary += [p for p in [*word, *(word[:i] for i in range(2, len(word) + 1))] if p not in vocabulary]
    record = {"tokens": vocabulary, "model": "llama", "scores": [float(-i) for i in range(len(vocabulary))]}
    return gguf_tokenizer(GgufFile(Path("x"), {f"tokenizer.ggml.{k}": v for k, v in record.items()}, {}))


@pytest.mark.parametrize("text", ["once upon a time", "é猫 once 猫é“ a\na", "猫  time"])
def test_streamed_text_keeps_its_spaces(text: str, sentence_pieces: PretrainedTokenizer) -> None:
    """From the beginning of a text, and from any later token on."""
    ids = sentence_pieces.encode(text).tolist()
    decoder = StreamDecoder(sentence_pieces)
    pieces = [decoder.push(i) for i in ids]
    assert "".join(pieces) + decoder.finish() == text == sentence_pieces.decode(ids)
    for cut in [n for n in range(1, len(ids)) if pieces[n - 1]]:  # between whole characters
        decoder = StreamDecoder(sentence_pieces, ids[:cut])
        assert "".join([decoder.push(i) for i in ids[cut:]]) + decoder.finish() == text[len("".join(pieces[:cut])) :]


def test_token_texts_keep_their_spaces(sentence_pieces: PretrainedTokenizer) -> None:
    ids = sentence_pieces.encode("once upon once é").tolist()
    assert token_texts(sentence_pieces, ids) == ["once", " upon", " once", " ", "\ufffd", "\ufffd"]
    model = GPT(GPTConfig(vocab_size=sentence_pieces.vocab_size, block_size=8, n_layer=1, n_head=2, n_embd=8))
    assert score_text(model, sentence_pieces, "once upon a").tokens == ["once", " upon", " a"]
