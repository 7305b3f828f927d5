"""Tokenizers trained here, written for the `tokenizers` library: the same ids for every text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.data.tokenizers import train_tokenizer
from tinylm.errors import ConfigError, DataError
from tinylm.pretrained.tokenizer_export import as_pretrained, write_tokenizer
from tinylm.pretrained.tokenizer_files import read_tokenizer

# Ends of lines of every kind, spaces that only one of the two languages of expressions knows, signs within words, <unk> spelled out.
ODD = " \n\r\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000'’_<>².,aé日9\u0301\U0001f469\u200d"
TEXT = (ODD + "\r\n it's the dog’s <unk> of 3.14, über_all\n") * 3


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_the_same_ids(kind: str, tmp_path: Path) -> None:
    ours = train_tokenizer(kind, TEXT, vocab_size=300)
    write_tokenizer(as_pretrained(ours), tmp_path, 32)
    again = read_tokenizer(tmp_path)
    assert (again.vocab_size, again.unknown_id, again.start, again.ends) == (ours.vocab_size, ours.unknown_id, (), ())
    rng = np.random.default_rng(0)
    known = sorted(set(TEXT))
    for text in [TEXT, "", *("".join(rng.choice(known, 40)) for _ in range(200))]:
        ids = ours.encode(text).tolist()
        assert again.encode(text).tolist() == ids, repr(text)
        assert again.decode(ids) == ours.decode(ids)


def test_tokenizers_that_cannot_be_exported() -> None:
    with pytest.raises(DataError, match="cannot encode 'aΩ'"):
        as_pretrained(train_tokenizer("char", TEXT)).encode("aΩ")
    other: Any = type("Other", (), {"kind": "syllable"})()
    with pytest.raises(ConfigError, match="'syllable' cannot be written"):
        as_pretrained(other)
