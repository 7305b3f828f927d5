"""Safetensors files: equal to what the library reads, and headers that are not trusted.

Malicious headers are tested in test_damaged_checkpoints.py (with tinylm's record) and test_hostile_files.py.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from tinylm.errors import CheckpointError
from tinylm.files.safetensors_files import open_safetensors, read_folder, read_tensors, serialize
from tinylm.files.signed_arrays import read_arrays, write_arrays

RNG = np.random.default_rng(0)
ARRAYS = {
    "half": RNG.standard_normal((3, 4)).astype(np.float16),
    "single": RNG.standard_normal((2, 3, 5)).astype(np.float32),
    "double": RNG.standard_normal(7),
    "transposed": RNG.standard_normal((4, 6)).T,
    "sliced": RNG.standard_normal((9, 9))[1::2, ::3],
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3)),
    "ids": np.arange(5),
    "flags": np.array([True, False]),
}


def test_the_library_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(serialize(ARRAYS, {"format": "pt"}))
    theirs = load_file(tmp_path / "a.safetensors")
    file = open_safetensors(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt"}
    assert theirs.keys() == file.tensors.keys() == ARRAYS.keys()
    for name, tensor in file.tensors.items():
        ours = tensor.array()
        assert ours.dtype == theirs[name].dtype == ARRAYS[name].dtype
        assert ours.flags.writeable
        np.testing.assert_array_equal(ours, ARRAYS[name])
        np.testing.assert_array_equal(theirs[name], ARRAYS[name])


def test_only_floating_tensors_are_weights_and_rows_are_read_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(serialize(ARRAYS))
    tensors = read_folder(tmp_path)
    assert tensors.keys() == ARRAYS.keys() - {"ids", "flags"}
    for name, tensor in tensors.items():
        assert tensor.shape == ARRAYS[name].shape
        assert tensor.read().dtype == np.float32
        np.testing.assert_array_equal(tensor.read(), ARRAYS[name].astype(np.float32))
    np.testing.assert_array_equal(tensors["sliced"].decode(1, 3), ARRAYS["sliced"][1:3])
    assert tensors["single"].equals(tensors["single"])
    assert not tensors["single"].equals(tensors["double"])


def test_bfloat16(tmp_path: Path) -> None:
    numbers = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"w": numbers}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read_tensors(tmp_path / "a.safetensors")["w"].read(), numbers.float().numpy())
    with pytest.raises(ValueError, match="numbers of type BF16, which NumPy lacks"):
        open_safetensors(tmp_path / "a.safetensors").tensors["w"].array()


def with_header(header: object, data: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


@pytest.mark.parametrize(
    ("places", "size", "message"),
    [
        ({"a": (0, 4), "b": (8, 12)}, 12, "'b' begins at 8, expected 4"),
        ({"a": (0, 4), "b": (0, 4)}, 4, "'b' begins at 0, expected 4"),
        ({"a": (4, 8)}, 8, "'a' begins at 4, expected 0"),
        ({"a": (0, 4)}, 8, "its tensors end at 4, and there are 8 bytes of data"),
        ({"a": (0, 4)}, 3, "is not within the 3 bytes of data"),
        ({}, 1, "its tensors end at 0, and there are 1 bytes of data"),
    ],
    ids=["a gap", "an overlap", "a gap first", "bytes left over", "cut off", "no tensors"],
)
def test_data_that_the_tensors_do_not_cover(places: dict[str, tuple[int, int]], size: int, message: str, tmp_path: Path) -> None:
    header = {name: {"dtype": "F32", "shape": [1], "data_offsets": list(place)} for name, place in places.items()}
    (tmp_path / "a.safetensors").write_bytes(with_header(header, bytes(size)))
    with pytest.raises(CheckpointError, match=f"is damaged: .*{message}"):
        read_tensors(tmp_path / "a.safetensors")


def test_messages_stay_short(tmp_path: Path) -> None:
    name = "n" * 100_000
    path = tmp_path / "a.safetensors"
    for entry in ({"dtype": "D" * 9999}, {"dtype": "F32", "shape": [1] * 9999, "data_offsets": [0, 4]}):
        path.write_bytes(with_header({name: entry}, bytes(4)))
        with pytest.raises(CheckpointError) as caught:
            read_tensors(path)
        assert len(str(caught.value)) < 500


def test_an_array_under_two_names_is_stored_once(tmp_path: Path) -> None:
    weight = np.ones(1000)
    write_arrays(tmp_path / "a.safetensors", {"b": weight, "a": weight, "c": weight.copy()}, {"step": 1})
    assert (tmp_path / "a.safetensors").stat().st_size < 3 * weight.nbytes
    arrays, record = read_arrays(tmp_path / "a.safetensors")
    assert record == {"step": 1}
    assert arrays["a"] is arrays["b"] is not arrays["c"]
    assert list(open_safetensors(tmp_path / "a.safetensors").tensors) == ["b", "c"]
