"""Tensors as they seldom are: without elements, without axes, in every type of number, in any order, aligned or not."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from model_files import GPT2, LLAMA, PIECES, TOKENIZER, gguf_bytes, gguf_tensors, small_model, write_folder
from safetensors.numpy import load_file, save_file

from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.files.gguf_files import read_gguf
from tinylm.files.safetensors_files import open_safetensors, read_tensors, serialize
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.pretrained.model_loading import load_model

IDS = Tensor(np.random.default_rng(1).integers(0, len(PIECES), (2, 9)))
EMPTY = {"a": np.zeros(0, "f4"), "b": np.zeros((3, 0), "f4"), "c": np.zeros((0, 2, 4), "f2"), "d": np.zeros((0, 0), "f8")}


@pytest.mark.parametrize("beside", [{}, {"w": np.arange(3, dtype="f4"), "s": np.array(2.5, "f4")}], ids=["alone", "beside others"])
def test_empty_tensors_are_written_and_read(beside: dict[str, Any], tmp_path: Path) -> None:
    arrays = {**EMPTY, **beside}
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize(arrays))
    theirs = load_file(path)
    found = read_tensors(path)
    assert found.keys() == theirs.keys() == arrays.keys()
    for name, stored in found.items():
        assert stored.shape == theirs[name].shape == arrays[name].shape
        np.testing.assert_array_equal(stored.read(), arrays[name])
        np.testing.assert_array_equal(open_safetensors(path).tensors[name].array(), arrays[name])
        assert stored.empty == (arrays[name].size == 0)
        assert stored.equals(stored)
    save_file(arrays, tmp_path / "theirs.safetensors")
    assert read_tensors(tmp_path / "theirs.safetensors").keys() == arrays.keys()
    write_arrays(tmp_path / "signed", arrays, {"k": 1})
    again, record = read_arrays(tmp_path / "signed")
    assert record == {"k": 1}
    assert {name: (a.dtype, a.shape, a.tolist()) for name, a in again.items()} == {
        name: (a.dtype, a.shape, a.tolist()) for name, a in arrays.items()
    }


def by_hand(path: Path, record: dict[str, Any], body: bytes) -> None:
    raw = json.dumps(record).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)


@pytest.mark.parametrize("place", [0, 4, 8])
def test_empty_tensors_between_others(place: int, tmp_path: Path) -> None:
    floats = {name: {"dtype": "F32", "shape": [1], "data_offsets": [at, at + 4]} for name, at in (("v", 0), ("w", 4))}
    empty = {"dtype": "BF16", "shape": [2, 0], "data_offsets": [place, place]}
    for record in ({"e": empty, **floats}, {**floats, "e": empty}):
        by_hand(tmp_path / "x", record, np.array([1, 2], "<f4").tobytes())
        assert {name: t.read().tolist() for name, t in read_tensors(tmp_path / "x").items()} == {"v": [1], "w": [2], "e": [[], []]}
    by_hand(tmp_path / "x", {**floats, "e": {**empty, "data_offsets": [2, 2]}}, bytes(8))
    with pytest.raises(CheckpointError, match="begins at"):
        read_tensors(tmp_path / "x")


def test_every_type_of_number(tmp_path: Path) -> None:
    """Unaligned: the tensor before has three bytes."""
    numbers = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<f4"}
    for dtype, kind in numbers.items():
        for shape in ((), (2,), (2, 1)):
            values = np.array([1.5, -0.25][: max(1, 2 * len(shape))], kind).reshape(shape)
            raw = values.tobytes()
            if dtype == "BF16":
                raw = (values.view("<u4") >> 16).astype("<u2").tobytes()
            tensors = {
                "x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
                "w": {"dtype": dtype, "shape": list(shape), "data_offsets": [3, 3 + len(raw)]},
            }
            by_hand(tmp_path / "x", tensors, b"abc" + raw)
            found = read_tensors(tmp_path / "x")
            assert found.keys() == {"w"}
            assert found["w"].read().dtype == np.float32
            np.testing.assert_array_equal(found["w"].read(), values.astype("f4"))
    for dtype in ("F8_E4M3", "F4", "C64", "X"):
        by_hand(tmp_path / "x", {"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}, bytes(1))
        with pytest.raises(CheckpointError, match=f"tensors of a type that is not among .*: 'w' of '{dtype}'"):
            read_tensors(tmp_path / "x")


def test_numbers_that_float32_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize({"large": np.array([1.0, 1e300]), "small": np.array([1.0, 1e-300])}))
    found = read_tensors(path)
    np.testing.assert_array_equal(found["small"].read(), [1, 0])
    with pytest.raises(CheckpointError, match="'large' holds a NaN or an infinity"):
        found["large"].read()


def test_endless_empty_tensors(tmp_path: Path) -> None:
    by_hand(tmp_path / "x", {"w": {"dtype": "F32", "shape": [1 << 58, 0], "data_offsets": [0, 0]}}, b"")
    stored = read_tensors(tmp_path / "x")["w"]
    assert list(stored.slices()) == []
    assert stored.equals(stored)


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["transformer.h.0.attn.masked_bias", "mark", "lm_head.weight"])
def test_a_folder_with_an_empty_tensor(kind: str, name: str, tmp_path: Path) -> None:
    """As flax-community/gpt-2-spanish has one."""
    model = write_folder(tmp_path, kind)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, name: np.zeros((0,), "f4")}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path)(IDS).numpy(), model(IDS).numpy())
    needed = next(iter(tensors))
    save_file({**tensors, needed: np.zeros((0,), "f4")}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"misshapen .* \(0,\), expected"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["mark", "output.weight"])
@pytest.mark.parametrize("first", [True, False])
def test_a_gguf_file_with_an_empty_tensor(kind: str, name: str, first: bool, tmp_path: Path) -> None:
    model, empty = small_model(kind), {name: np.zeros((2, 0), "f4")}
    tensors = {**empty, **gguf_tensors(model)} if first else {**gguf_tensors(model), **empty}
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({**(GPT2 if kind == "gpt2" else LLAMA), **TOKENIZER}, tensors))
    np.testing.assert_array_equal(load_model(tmp_path / "x.gguf")(IDS).numpy(), model(IDS).numpy())


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 4), (0, 3, 2)])
def test_empty_tensors_of_the_gguf_library(shape: tuple[int, ...], tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("e", np.zeros(shape, "f4"))
    writer.add_tensor("w", np.arange(3, dtype="f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors = read_gguf(tmp_path / "x.gguf").tensors
    assert tensors["e"].shape == shape
    assert tensors["e"].read().shape == shape
    assert tensors["w"].read().tolist() == [0, 1, 2]


def test_files_that_are_cut_while_they_are_used(tmp_path: Path) -> None:
    """Reading on would end the process with a bus error."""
    big = {"w": np.arange(6000, dtype="f4").reshape(60, 100)}
    (tmp_path / "x.safetensors").write_bytes(serialize(big))
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({}, big))
    write_arrays(tmp_path / "signed", big, {})
    file = open_safetensors(tmp_path / "signed")
    stored = [read_tensors(tmp_path / "x.safetensors")["w"], read_gguf(tmp_path / "x.gguf").tensors["w"]]
    for tensor in stored:
        np.testing.assert_array_equal(tensor.read(), big["w"])
        assert type(tensor.decode(0, 3)) is np.ndarray
    for name in ("x.safetensors", "x.gguf", "signed"):
        os.truncate(tmp_path / name, 10)
    for read in (*(tensor.read for tensor in stored), file.tensors["w"].array):
        with pytest.raises(CheckpointError, match="was cut while it was in use: 10 bytes, expected 2"):
            read()
