"""Ten thousand damaged model files of other programs: each loads or is refused with one error, within limits of time and memory.

`python tests/fuzzing.py tests/pretrained/test_fuzzed_files.py NAME 0 I I+1` repeats case I of a format alone.
"""

import functools
import json
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Format, damaged, damaged_json, faults, odd_value, pick
from model_files import GPT2, LLAMA, MERGES, PIECES, TOKENIZER, gguf_bytes, gguf_tensors, small_model, tokenizer_record, write_folder

from tinylm.decode import generate
from tinylm.files.safetensors_files import read_folder
from tinylm.pretrained.chat_templates import ChatTemplate
from tinylm.pretrained.model_loading import load_pretrained
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer, read_tokenizer

CASES = {
    "safetensors": 2300,
    "gguf": 2500,
    "config": 2200,
    "rotary": 600,
    "tokenizer": 1500,
    "vocabulary": 600,
    "settings": 600,
    "index": 500,
    "template": 150,
}
Rng = np.random.Generator


@functools.cache
def folder_files(kind: str) -> dict[str, bytes]:
    """Returns the files of a small model's folder."""
    with tempfile.TemporaryDirectory() as temporary:
        write_folder(Path(temporary), kind)
        (Path(temporary) / "generation_config.json").write_text('{"eos_token_id": [0, 1], "temperature": 0.7}', encoding="utf-8")
        return {path.name: path.read_bytes() for path in Path(temporary).iterdir()}


def written(folder: Path, changed: dict[str, bytes], kind: str) -> None:
    for name, data in {**folder_files(kind), **changed}.items():
        (folder / name).write_bytes(data)


def any_kind(rng: Rng) -> str:
    return str(pick(rng, ["gpt2", "llama"]))


def use(model: Any, tokenizer: PretrainedTokenizer) -> None:
    """Uses what was loaded, as `generate` does."""
    try_tokenizer(tokenizer)
    with np.errstate(all="ignore"):  # the weights may be anything
        for token in generate(model, [0], 2):
            if token < tokenizer.vocab_size:
                tokenizer.decode([token])


def try_tokenizer(tokenizer: PretrainedTokenizer) -> None:
    tokenizer.to_json()
    for text in ("the ant 12", " é😀\n\n<|start|>", ""):
        tokenizer.decode(tokenizer.encode(text).tolist())
        tokenizer.first_bytes(text)


def load_whole(path: Path) -> None:
    use(*load_pretrained(path))


# ---------------------------------------------------------------- each format


def split_header(data: bytes) -> tuple[Any, bytes]:
    stop = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:stop]), data[stop:]


def joined(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def write_safetensors(folder: Path, rng: Rng) -> None:
    kind = any_kind(rng)
    data = folder_files(kind)["model.safetensors"]
    header, body = split_header(data)
    how = rng.random()
    if how < 0.3:
        data = damaged(data, rng)
    elif how < 0.8:
        data = joined(damaged_json(header, rng), body)
    else:  # numbers alone
        numbers = np.frombuffer(body, "<u4").copy()
        numbers[rng.integers(0, numbers.size, 3)] = rng.integers(0, 1 << 32, 3)
        data = joined(json.dumps(header).encode(), numbers.tobytes())
    written(folder, {"model.safetensors": data}, kind)


def load_safetensors(folder: Path) -> None:
    for stored in read_folder(folder).values():
        stored.read()
    load_whole(folder)


def write_gguf(folder: Path, rng: Rng) -> None:
    kind = any_kind(rng)
    metadata: dict[str, Any] = {**(GPT2 if kind == "gpt2" else LLAMA), **TOKENIZER}
    tensors: dict[str, np.ndarray] = gguf_tensors(small_model(kind))
    metadata[f"{kind}.rope.scaling.type"] = pick(rng, ["none", "linear", "yarn"])
    if rng.random() < 0.2:
        tensors["rope_freqs.weight"] = rng.random(int(rng.integers(1, 4)))
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            scaling = [f"{kind}.rope.scaling.{part}" for part in ("factor", "attn_factor", "original_context_length", "yarn_beta_fast")]
            name = pick(rng, [*metadata, *scaling, "general.alignment", "tokenizer.ggml.scores", "split.no", "split.count"])
            metadata[name] = gguf_value(rng)
        if rng.random() < 0.3:
            name = pick(rng, list(tensors))
            tensors[name] = np.zeros(rng.integers(0, 9, int(rng.integers(1, 5))), np.float32)
    data = gguf_bytes(metadata, tensors)
    (folder / "x.gguf").write_bytes(damaged(data, rng) if rng.random() < 0.6 else data)


def gguf_value(rng: Rng) -> Any:
    """Returns an odd value that the format can hold."""
    value = odd_value(rng)
    if isinstance(value, str):
        return value.replace("\ud800", "x")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return 1 << 62
    if isinstance(value, float) and not abs(value) < 3e38:
        return 3e38
    if isinstance(value, list) and not all(isinstance(x, (int, str)) for x in value):
        return PIECES[: int(rng.integers(300))]
    return "x" if value is None or isinstance(value, dict) else value


def json_file(name: str, kinds: tuple[str, ...] = ("gpt2", "llama")) -> Callable[[Path, Rng], None]:
    def write(folder: Path, rng: Rng) -> None:
        kind = str(pick(rng, list(kinds)))
        written(folder, {name: damaged_json(json.loads(folder_files(kind)[name]), rng)}, kind)

    return write


ROTARY: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8},
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8, "beta_fast": 16, "beta_slow": 1, "attention_factor": 1.5},
    {"type": "yarn", "factor": 2.0, "mscale": 0.7, "mscale_all_dim": 1.0, "truncate": False},
    {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0, 2.0], "factor": 2.0},
]


def write_rotary(folder: Path, rng: Rng) -> None:
    """A Llama with scaled rotary positions; only they are damaged."""
    record = json.loads(folder_files("llama")["config.json"])
    rope = {"rope_theta": 10000.0, **pick(rng, ROTARY)}
    for _ in range(int(rng.integers(1, 3))):
        rope[pick(rng, list(rope))] = odd_value(rng)
    written(folder, {"config.json": json.dumps({**record, "rope_parameters": rope}).encode()}, "llama")


def write_tokenizer(folder: Path, rng: Rng) -> None:
    """A tokenizer.json, often with further steps that the library knows."""
    record = tokenizer_record()
    steps: dict[str, list[Any]] = {
        "normalizer": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"},
                       {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "aa"}],
        "pre_tokenizer": [{"type": "Digits", "individual_digits": True},
                          {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
                          {"type": "Split", "pattern": {"Regex": r"\s+|(a|a)*b"}, "behavior": "Isolated", "invert": False}],
        "decoder": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
        "post_processor": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}],
        "truncation": [{"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}],
    }  # fmt: skip
    for name, choices in steps.items():
        if rng.random() < 0.3:
            record[name] = pick(rng, choices)
    (folder / "tokenizer.json").write_bytes(damaged_json(record, rng))


def load_tokenizer(folder: Path) -> None:
    try_tokenizer(read_tokenizer(folder))


def write_vocabulary(folder: Path, rng: Rng) -> None:
    vocabulary, merges = json.dumps({p: i for i, p in enumerate(PIECES)}).encode(), "\n".join(["#version: 0.2", *MERGES]).encode()
    if rng.random() < 0.5:
        vocabulary = damaged_json(json.loads(vocabulary), rng)
    else:
        merges = damaged(merges, rng)
    (folder / "vocab.json").write_bytes(vocabulary)
    (folder / "merges.txt").write_bytes(merges)


def write_settings(folder: Path, rng: Rng) -> None:
    name = str(pick(rng, ["tokenizer_config.json", "generation_config.json"]))
    record = {
        **json.loads(folder_files("gpt2")[name]),
        "add_bos_token": True,
        "bos_token": {"content": "<|start|>"},
        "add_prefix_space": False,
    }
    written(folder, {name: damaged_json(record, rng)}, "gpt2")


def write_index(folder: Path, rng: Rng) -> None:
    files = dict(folder_files("llama"))
    header, body = split_header(files.pop("model.safetensors"))
    names = [name for name in header if name != "__metadata__"]
    places = {name: str(pick(rng, ["a.safetensors", "b.safetensors"])) for name in names}
    for part in ("a.safetensors", "b.safetensors"):
        record, data = {}, b""
        for name in (n for n in names if places[n] == part):
            start, stop = header[name]["data_offsets"]
            record[name] = {**header[name], "data_offsets": [len(data), len(data) + stop - start]}
            data += body[start:stop]
        files[part] = joined(json.dumps(record).encode(), data)
    index = json.dumps({"metadata": {"total_size": len(body)}, "weight_map": places}).encode()
    if rng.random() < 0.8:
        index = damaged_json(json.loads(index), rng)
    else:
        files["a.safetensors"] = damaged(files["a.safetensors"], rng)
    for name, data in {**files, "model.safetensors.index.json": index}.items():
        (folder / name).write_bytes(data)


TEMPLATE = (
    "{%- for m in messages %}{%- if m.role == 'system' %}{{ bos_token + m['content'] | tojson }}{%- continue %}{% endif %}"
    "{% generation %}<{{ m.role }}>{{ m.content.strip() ~ 3 * 2 ** 2 }}{{ eos_token }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}{{ strftime_now('%Y') | length }}"
    "{% set x = namespace(y=range(3) | list) %}{{ x.y[0] }}"
)


def write_template(folder: Path, rng: Rng) -> None:
    parts = re.findall(r"\w+|\W", TEMPLATE)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(parts)))
        other = pick(
            rng, [*parts, "999999999", "__class__", "{% for a in range(9999) %}", "* 10 ** 9", "'x'", "\0", "é", "(((", "loop", "self"]
        )
        parts[place : place + int(rng.integers(2))] = [other] * int(pick(rng, [0, 1, 1, 2, 300]))
    (folder / "chat_template.jinja").write_text("".join(parts), encoding="utf-8")


def render(folder: Path) -> None:
    source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    ChatTemplate(source, "<s>", "</s>").render([{"role": role, "content": "hi\n'é"} for role in ("system", "user")])


FORMATS = {
    "safetensors": Format(write_safetensors, load_safetensors),
    "gguf": Format(write_gguf, lambda folder: load_whole(folder / "x.gguf")),
    "config": Format(json_file("config.json"), load_whole),
    "rotary": Format(write_rotary, load_whole),
    "tokenizer": Format(write_tokenizer, load_tokenizer),
    "vocabulary": Format(write_vocabulary, load_tokenizer),
    "settings": Format(write_settings, load_whole),
    "index": Format(write_index, load_whole),
    "template": Format(write_template, render),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_damaged_files_load_or_are_refused(name: str) -> None:
    assert faults(__file__, name, CASES[name]) == []


def test_how_many_cases_there_are() -> None:
    assert sum(CASES.values()) >= 10_000
    assert CASES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", ["safetensors", "gguf", "config", "rotary", "tokenizer"])
def test_a_few_of_each(name: str) -> None:
    """Another seed than the slow test's."""
    assert faults(__file__, name, 25, seed=1) == []
