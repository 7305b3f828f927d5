"""Models in several GGUF files, as the `gguf` library writes them: any part stands for all, and what is missing is named."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from model_files import GPT2, LLAMA, PIECES, TOKENIZER, gguf_bytes, gguf_tensors, small_model

from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.pretrained.model_loading import architecture_of, load_pretrained

IDS = Tensor(np.random.default_rng(1).integers(0, len(PIECES), (2, 9)))
NAMES = [f"x-{i + 1:05}-of-00003.gguf" for i in range(3)]


def write_parts(folder: Path, kind: str) -> Any:
    """Writes a small model in three parts. Returns the model."""
    model = small_model(kind)
    tensors = gguf_tensors(model)
    writer = GGUFWriter(folder / "x.gguf", kind, split_max_tensors=-(-len(tensors) // 3))
    for name, value in {**(GPT2 if kind == "gpt2" else LLAMA), **TOKENIZER}.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif name != "general.architecture":
            {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](name, value)
    for name, a in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(a, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_any_part_stands_for_the_model(kind: str, tmp_path: Path, capsys: Any) -> None:
    model = write_parts(tmp_path, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    for name in NAMES:
        loaded, tokenizer = load_pretrained(tmp_path / name)
        np.testing.assert_array_equal(loaded(IDS).numpy(), model(IDS).numpy())
        assert tokenizer.vocab_size == len(PIECES)
        assert architecture_of(tmp_path / name) == ("gpt" if kind == "gpt2" else "llama")
    assert capsys.readouterr().err == ""


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path, "llama")
    (tmp_path / NAMES[1]).unlink()
    for i in (0, 2):
        with pytest.raises(CheckpointError, match=f"{NAMES[i]} is part {i + 1} of 3, and others are missing: {NAMES[1]}$"):
            load_pretrained(tmp_path / NAMES[i])
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(CheckpointError, match=f"others are missing: {NAMES[1]}; {NAMES[2]}$"):
        load_pretrained(tmp_path / NAMES[0])


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    write_parts(tmp_path, "llama")
    shutil.copy(tmp_path / NAMES[1], tmp_path / "y.gguf")
    with pytest.raises(CheckpointError, match=r"y\.gguf is part 2 of 3 of a model: expected a name that ends with -00002-of-00003\.gguf"):
        load_pretrained(tmp_path / "y.gguf")
    shutil.copy(tmp_path / NAMES[1], tmp_path / NAMES[2])
    with pytest.raises(CheckpointError, match=rf"{NAMES[2]}: split.no and split.count are \[1, 3\], expected \[2, 3\] as its name says"):
        load_pretrained(tmp_path / NAMES[0])
    (tmp_path / NAMES[2]).write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=rf"{NAMES[2]} is not a sound GGUF file"):
        load_pretrained(tmp_path / NAMES[0])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"split.no": 2}, {}, "split.no is 2, expected 0 to 1 of 2 parts"),
        ({"split.no": None}, {}, "split.no is None"),
        ({"split.count": "2"}, {}, "split.count is '2', expected 0 to 99999 parts"),
        ({"split.count": 1 << 31}, {}, "split.count is 2147483648"),
        ({"split.tensors.count": 7}, {}, "split.tensors.count is 7, and the 2 parts have 2 tensors"),
        ({}, {"split.count": 3}, r"split.no and split.count are \[1, 3\], expected \[1, 2\]"),
        ({}, {"tensor": "a"}, "the tensor 'a' stands in another part too"),
    ],
)
def test_damaged_parts(first: dict[str, Any], second: dict[str, Any], message: str, tmp_path: Path) -> None:
    for i, changes in enumerate((first, second)):
        metadata = {"split.no": i, "split.count": 2, "split.tensors.count": 2, **changes}
        tensor = metadata.pop("tensor", "ab"[i])
        kept = {name: value for name, value in metadata.items() if value is not None}
        (tmp_path / f"x-{i + 1:05}-of-00002.gguf").write_bytes(gguf_bytes(kept, {tensor: np.zeros(3)}))
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(tmp_path / "x-00001-of-00002.gguf")
