"""Files that are not valid checkpoints: each gives one clear error at once, takes no memory and runs no code."""

import hashlib
import json
import pickle
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import stop_at, tiny_run
from script_helpers import fails_with_one_line, script_here

from tinylm.errors import CheckpointError
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.train.run_folder import saved_checkpoints

ROOT = Path(__file__).resolve().parents[2]
Arrays = dict[str, np.ndarray]


class Bomb:
    """Its code would run if it were unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/tinylm-was-unpickled"),))


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Returns a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def signed(entries: dict[str, Any], data: bytes = b"", **changed: Any) -> bytes:
    """Returns such a file with tinylm's record and a correct digest, which only an attacker would make."""
    record = {"digest": "0" * 64, "format": 2, "aliases": {}, "record": {}, **changed}
    unsigned = raw({"__metadata__": {"tinylm": json.dumps(record)}, **entries}, data)
    return unsigned.replace(b"0" * 64, hashlib.sha256(unsigned).hexdigest().encode(), 1)


def entry(shape: Any, dtype: Any = "F32", offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}}


FOUR = b"\0\0\0\0"
FILES: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "text": b"hello, this is no checkpoint at all",
    "pickle": pickle.dumps({"model": Bomb()}),
    "zip, as torch.save writes": b"PK\x03\x04" + bytes(200),
    "npy": b"\x93NUMPY\x01\x00" + bytes(100),
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(100),
    "zeros": bytes(1000),
    "header of 2^63 bytes": raw({}, length=2**63),
    "header of 2^64 - 1 bytes": raw({}, length=2**64 - 1),
    "header of 2^40 bytes": raw({}, length=2**40),
    "header longer than the file": raw({}, length=3),
    "header no JSON": raw(b"{not json}"),
    "header not UTF-8": raw(b'{"\xff\xfe": 1}'),
    "header a list": raw([1, 2]),
    "header a number": raw(b"1" * 5000),
    "deep nesting": raw(b"[" * 200_000),
    "deep nesting of records": raw(b'{"a":' * 100_000),
    "foreign safetensors": raw(entry([1]), FOUR),
    "metadata no record": raw({"__metadata__": 3}),
    "tinylm's record no JSON": raw({"__metadata__": {"tinylm": "{"}}),
    "tinylm's record nested deeply": raw({"__metadata__": {"tinylm": "[" * 100_000}}),
    "another format number": signed({}, format=99),
    "the old format": signed({}, format=1),
    "no digest": raw({"__metadata__": {"tinylm": '{"format": 2, "aliases": {}, "record": {}}'}}),
    "digest no text": signed({}, digest=7),
    "entry no record": signed({"w": 3}),
    "entry without a shape": signed({"w": {"dtype": "F32", "data_offsets": [0, 4]}}, FOUR),
    "huge shape": signed(entry([2**62]), FOUR),
    "huge product of shapes": signed(entry([2**40, 2**40]), FOUR),
    "a huge size and a zero size": signed(entry([0, 2**63], offsets=(0, 0))),
    "negative shape": signed(entry([-1]), FOUR),
    "shape of fractions": signed(entry([1.5]), FOUR),
    "two hundred axes": signed(entry([1] * 200), FOUR),
    "unknown dtype": signed(entry([1], "Q7"), FOUR),
    "bfloat16": signed(entry([2], "BF16"), FOUR),
    "complex": signed(entry([1], "C64", (0, 8)), bytes(8)),
    "dtype a list": signed(entry([1], ["F32"]), FOUR),
    "offsets outside": signed(entry([1], offsets=(100, 104)), FOUR),
    "offsets reversed": signed(entry([1], offsets=(4, 0)), FOUR),
    "offsets of another size": signed(entry([1], offsets=(0, 3)), FOUR),
    "arrays overlap": signed({**entry([1]), "v": entry([1])["w"]}, FOUR),
    "more data than arrays": signed(entry([1]), FOUR * 2),
    "alias of nothing": signed(entry([1]), FOUR, aliases={"v": "u"}),
    "alias of itself": signed(entry([1]), FOUR, aliases={"v": "v"}),
    "aliases in a circle": signed(entry([1]), FOUR, aliases={"v": "u", "u": "v"}),
    "alias over an array": signed(entry([1]), FOUR, aliases={"w": "w"}),
    "aliases a list": signed(entry([1]), FOUR, aliases=["w"]),
    "alias of a list": signed(entry([1]), FOUR, aliases={"v": ["w"]}),
    "no aliases": signed(entry([1]), FOUR, aliases=None),
    "record a list": signed(entry([1]), FOUR, record=[]),
}


def refused(path: Path, read: Callable[[], Any]) -> str:
    """Returns the message of the CheckpointError, which comes within a second and takes less than 16 MB."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(CheckpointError) as caught:
            read()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.process_time() - began < 1  # time of this process only, however busy the machine is
    assert peak < 16 << 20
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("name", FILES)
def test_files_of_others_and_hostile_ones(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(FILES[name])
    message = refused(path, lambda: read_arrays(path))
    assert "is damaged: " in message or "is not a checkpoint of this version of tinylm" in message
    assert not Path("/tmp/tinylm-was-unpickled").exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a run stopped at step 7, with one checkpoint."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    stop_at(run := tiny_run("lstm", folder, keep=1), 7)
    run.train()
    return folder


@pytest.fixture
def checkpoint(stopped: Path) -> Iterator[Path]:
    (path,) = saved_checkpoints(stopped)
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


def test_cut_short_anywhere(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (1, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:length])
        assert "is damaged" in refused(checkpoint, lambda: read_arrays(checkpoint))
    checkpoint.write_bytes(whole + b"\0")
    assert "is damaged" in refused(checkpoint, lambda: read_arrays(checkpoint))


def test_one_bit_anywhere(checkpoint: Path) -> None:
    """One bit of the length, the header, the record, the digest, the padding or the data; 64 places."""
    whole = checkpoint.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    digest = whole.index(b"digest") + 14
    places = [*range(0, 8), digest, digest + 63, *rng.integers(8, header, 30), *rng.integers(header, len(whole), 24)]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        checkpoint.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"is damaged|is not a checkpoint"):
            read_arrays(checkpoint)
    checkpoint.write_bytes(whole)
    read_arrays(checkpoint)


def changed(arrays: Arrays, **new: np.ndarray) -> Arrays:
    return {**arrays, **{name.replace("__", "."): a for name, a in new.items()}}


def without(arrays: Arrays, *names: str) -> Arrays:
    return {name: a for name, a in arrays.items() if name not in names}


CONTENTS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "a weight missing": (lambda a: without(a, "model.decoder.weight"), "missing 'model.decoder.weight'"),
    "no optimiser": (lambda a: {n: x for n, x in a.items() if not n.startswith("optimizer.")}, "missing 'optimizer.exp_avg.decoder.bias'"),
    "nothing": (lambda a: {}, "missing 'average.decoder.bias'"),
    "no carried state": (lambda a: without(a, "state.0", "state.1"), "missing 'state.0'; missing 'state.1'"),
    "half of the carried state": (lambda a: without(a, "state.1"), "missing 'state.1'"),
    "an average missing": (lambda a: without(a, "average.decoder.bias"), "missing 'average.decoder.bias'"),
    "no losses": (lambda a: without(a, "losses.sum"), "missing 'losses.sum'"),
    "one weight more": (lambda a: changed(a, model__extra=np.ones(3)), "unexpected 'model.extra'"),
    "a part more": (lambda a: changed(a, other__w=np.ones(3)), "unexpected 'other.w'"),
    "a name without a part": (lambda a: changed(a, w=np.ones(3)), "unexpected 'w'"),
    "another shape": (
        lambda a: changed(a, model__decoder__bias=np.ones(3, np.float32)),
        r"'model.decoder.bias' is float32 \(3,\), expected",
    ),
    "more axes": (
        lambda a: changed(a, model__decoder__bias=a["model.decoder.bias"][None]),
        r"is float32 \(1, 29\), expected float32 \(29,\)",
    ),
    "double precision": (lambda a: changed(a, model__decoder__bias=a["model.decoder.bias"].astype(np.float64)), "is float64"),
    "integers": (lambda a: changed(a, model__decoder__bias=a["model.decoder.bias"].astype(np.int32)), "is int32"),
    "momentum in half precision": (
        lambda a: changed(a, **{"optimizer.exp_avg.decoder.bias": a["optimizer.exp_avg.decoder.bias"].astype(np.float16)}),
        "is float16",
    ),
    "a state of another batch": (lambda a: changed(a, state__0=a["state.0"][:, :2]), r"'state.0' is float32 \(2, 2, 24\), expected"),
    "a negative step": (
        lambda a: changed(a, **{"optimizer.step.decoder.bias": np.array(-1)}),
        "'optimizer.step.decoder.bias' is -1",
    ),
    "a negative learning rate": (lambda a: changed(a, optimizer__lr__0=np.array(-0.5)), "'optimizer.lr.0' is -0.5"),
    "a learning rate missing": (lambda a: without(a, "optimizer.lr.1"), "missing 'optimizer.lr.1'"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_whole_files_that_do_not_fit(name: str, stopped: Path, checkpoint: Path) -> None:
    arrays, record = read_arrays(checkpoint)
    change, message = CONTENTS[name]
    write_arrays(checkpoint, change(arrays), record)
    found = refused(checkpoint, lambda: tiny_run("lstm", stopped, resume=True))
    assert re.search(message, found), found
    assert "does not fit the run that config.json describes" in found
    assert saved_checkpoints(stopped) == [checkpoint]


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no progress": lambda r: {"generator": r["generator"]},
    "no generator": lambda r: {"progress": r["progress"]},
    "progress a list": lambda r: {**r, "progress": [1]},
    "a key more": lambda r: {**r, "progress": {**r["progress"], "more": 1}},
    "a key less": lambda r: {**r, "progress": {"step": 7}},
    "step a text": lambda r: {**r, "progress": {**r["progress"], "step": "7"}},
    "step true": lambda r: {**r, "progress": {**r["progress"], "step": True}},
    "step negative": lambda r: {**r, "progress": {**r["progress"], "step": -1}},
    "seconds none": lambda r: {**r, "progress": {**r["progress"], "train_seconds": None}},
    "generator of three": lambda r: {**r, "generator": [1, 2, 3]},
    "generator too large": lambda r: {**r, "generator": [2**64, 0]},
    "generator negative": lambda r: {**r, "generator": [0, -1]},
    "generator of texts": lambda r: {**r, "generator": ["0", "1"]},
}


@pytest.mark.parametrize("name", RECORDS)
def test_invalid_records(name: str, stopped: Path, checkpoint: Path) -> None:
    arrays, record = read_arrays(checkpoint)
    write_arrays(checkpoint, arrays, RECORDS[name](record))
    assert re.search(r"its (progress|generator) ", refused(checkpoint, lambda: tiny_run("lstm", stopped, resume=True)))


def test_the_scripts_say_it_in_one_line(stopped: Path, checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for data in (whole[:-1], FILES["pickle"], FILES["deep nesting"], FILES["header of 2^63 bytes"]):
        checkpoint.write_bytes(data)
        for command in (["generate.py", stopped], ["score.py", stopped, "the fox"]):
            fails_with_one_line(script_here(*command), "is damaged")
    config = stopped / "config.json"
    text = config.read_bytes()
    config.write_bytes(b"[" * 200_000)
    fails_with_one_line(script_here("generate.py", stopped), "config.json is damaged")
    config.write_bytes(text)


def test_nothing_is_ever_unpickled() -> None:
    """No file of the library or the scripts can unpickle."""
    for folder in ("tinylm", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for word in ("pickle", "marshal", "shelve", "allow_pickle", "torch.load", "joblib", "np.load("):
                assert not re.search(rf"(?<![\w.]){re.escape(word)}", text), f"{path} has {word}"


def test_a_file_says_of_itself_that_it_is_whole(tmp_path: Path) -> None:
    """Arrays of every dtype, aliases, and a record with every type of JSON, also digests; the bytes are the same each time."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        d: rng.integers(0, 2, (2, 3)).astype(d) for d in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    }
    arrays |= {"empty": np.ones((0, 3)), "again": arrays["f4"], "0" * 64: np.array(1.0)}
    record = {"text": "0" * 64, "number": 1.5, "none": None, "list": [1, {"a": []}], "unicode": "é😀"}
    for _ in range(2):
        write_arrays(tmp_path / "a.safetensors", arrays, record)
        found, back = read_arrays(tmp_path / "a.safetensors")
        assert back == record
        assert found.keys() == arrays.keys()
        for name, a in arrays.items():
            assert found[name].dtype == a.dtype
            np.testing.assert_array_equal(found[name], a)
        assert found["again"] is found["f4"]
    first = (tmp_path / "a.safetensors").read_bytes()
    write_arrays(tmp_path / "b.safetensors", arrays, record)
    assert (tmp_path / "b.safetensors").read_bytes() == first
