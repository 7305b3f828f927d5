"""Malicious files: each gives one clear error within a second, and nothing large is allocated."""

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.errors import CheckpointError, DataError, TinylmError
from tinylm.files.gguf_files import read_gguf
from tinylm.files.safetensors_files import read_folder
from tinylm.pretrained.chat_templates import ChatTemplate
from tinylm.pretrained.model_loading import load_pretrained
from tinylm.pretrained.tokenizer_files import read_tokenizer

# ---------------------------------------------------------------- GGUF


def text(s: str | bytes) -> bytes:
    raw = s.encode("utf-8") if isinstance(s, str) else s
    return struct.pack("<Q", len(raw)) + raw


def number(name: str, value: int) -> bytes:
    return text(name) + struct.pack("<II", 4, value)


def entry(name: str, shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)


def gguf_bytes(pairs: list[bytes], entries: list[bytes], data: bytes = bytes(64), counts: tuple[int, int] | None = None) -> bytes:
    tensors, metadata = counts or (len(entries), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, metadata) + b"".join(pairs) + b"".join(entries)
    return head + bytes(-len(head) % 32) + data


GGUFS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the beginning would have 4 bytes at 0, and the file ends at 0"),
    "cut off": (b"GGUF\x03\0", "the version would have 4 bytes"),
    "another format": (b"PK\x03\x04" + bytes(60), "does not begin with GGUF"),
    "old version": (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1, expected 2 or 3"),
    "highest byte first": (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version 50331648"),
    "absurd number of tensors": (gguf_bytes([], [], counts=(1 << 62, 0)), "4611686018427387904 tensors cannot be"),
    "absurd number of metadata": (gguf_bytes([], [], counts=(0, 1 << 63)), "9223372036854775808 pieces of metadata cannot be"),
    "endless string": (gguf_bytes([struct.pack("<Q", 1 << 40)], []), "cannot be in the"),
    "not UTF-8": (gguf_bytes([text(b"\xff\xfe") + struct.pack("<II", 4, 1)], []), "is not UTF-8"),
    "endless array": (gguf_bytes([text("a") + struct.pack("<IIQ", 9, 4, 1 << 61)], []), "numbers of 'a' cannot be"),
    "endless array of strings": (gguf_bytes([text("a") + struct.pack("<IIQ", 9, 8, 1 << 50)], []), "strings of 'a' cannot be"),
    "arrays of arrays": (gguf_bytes([text("a") + struct.pack("<IIQ", 9, 9, 1) * 50], []), "array of type 9"),
    "unknown type of metadata": (gguf_bytes([text("a") + struct.pack("<II", 77, 0)], []), "of type 77"),
    "metadata twice": (gguf_bytes([number("a", 1), number("a", 2)], []), "'a' stands twice"),
    "alignment of 0": (gguf_bytes([number("general.alignment", 0)], []), "general.alignment is 0"),
    "alignment of 3": (gguf_bytes([number("general.alignment", 3)], []), "general.alignment is 3"),
    "too many axes": (gguf_bytes([], [text("w") + struct.pack("<I", 1 << 30) + bytes(40)]), "has 1073741824 axes"),
    "absurd shape": (gguf_bytes([], [entry("w", (1 << 40, 1 << 40))]), "bytes at 0"),
    "empty axis": (gguf_bytes([], [entry("w", (0, 1 << 60))]), "has shape"),
    "offset past the end": (gguf_bytes([], [entry("w", offset=1 << 50)]), "16 bytes at 1125899906842624"),
    "offset not aligned": (gguf_bytes([], [entry("w", offset=7)]), "at 7, aligned to 32"),
    "tensor twice": (gguf_bytes([], [entry("w"), entry("w", offset=32)]), "the tensor 'w' stands twice"),
    "tensors that overlap": (gguf_bytes([], [entry("v", (16,)), entry("w", (4,), offset=32)]), "overlap"),
    "unknown quantisation": (gguf_bytes([], [entry("w", kind=999)]), "of type 999, which is not among F32"),
    "integers": (gguf_bytes([], [entry("w", kind=26)]), "of type I32"),
    "rows that are no blocks": (gguf_bytes([], [entry("w", (5,), kind=8)]), "expected in blocks of 32"),
}


def refused(action: Callable[[], Any], message: str, kind: type[TinylmError] = CheckpointError) -> None:
    """Asserts that the action fails with one line that contains the message, quickly and with less than 50 MB of Python's memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(kind) as caught:
            action()
        taken, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600  # 500, and the path of the test's folder
    assert peak < 50 << 20
    assert taken < 5  # far less than an endless loop; the number itself is not a promise


@pytest.mark.parametrize("name", GGUFS)
def test_gguf(name: str, tmp_path: Path) -> None:
    data, message = GGUFS[name]
    (tmp_path / "x.gguf").write_bytes(data)
    refused(lambda: read_gguf(tmp_path / "x.gguf"), message)


def test_a_sound_file_of_this_kind_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf_bytes([number("a", 7)], [entry("w")], np.arange(16, dtype="<f4").tobytes()))
    file = read_gguf(tmp_path / "x.gguf")
    assert file.metadata == {"a": 7}
    assert file.tensors["w"].read().tolist() == [0, 1, 2, 3]


MODELS: dict[str, tuple[list[bytes], list[bytes], bytes, str]] = {
    "another architecture": ([text("general.architecture") + struct.pack("<I", 8) + text("mamba")], [], b"", "is 'mamba'"),
    "no architecture": ([], [], b"", "general.architecture is None"),
    "no embedding": ([], [entry("other")], bytes(64), "token_embd.weight is missing"),
    "a billion layers": (
        [number("llama.block_count", 10**9)],
        [entry("token_embd.weight", (4, 2))],
        bytes(64),
        "block_count is 1000000000",
    ),
    "more layers than tensors": (
        [number("llama.block_count", 10**6)],
        [entry("token_embd.weight", (4, 2))],
        bytes(64),
        "1000000 layers, but",
    ),
    "no heads": ([number("llama.attention.head_count", 0)], [entry("token_embd.weight", (4, 2))], bytes(64), "head_count is 0"),
    "only an embedding": ([], [entry("token_embd.weight", (4, 2))], bytes(64), "missing 'model.layers.0.self_attn.q_proj.weight'"),
    "absurd width": ([number("llama.feed_forward_length", 1 << 24)], [entry("token_embd.weight", (4, 2))], bytes(64), "(16777216, 4)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_in_gguf(name: str, tmp_path: Path) -> None:
    pairs, entries, data, message = MODELS[name]
    given = b"".join(pairs)
    settings = {"block_count": 1, "context_length": 8, "embedding_length": 4, "feed_forward_length": 4, "attention.head_count": 1}
    more = [number(f"llama.{key}", value) for key, value in settings.items() if f"llama.{key}".encode() not in given]
    more.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    if "architecture" not in name:
        more.append(text("general.architecture") + struct.pack("<I", 8) + text("llama"))
    (tmp_path / "x.gguf").write_bytes(gguf_bytes([*pairs, *more], entries, data))
    refused(lambda: load_pretrained(tmp_path / "x.gguf"), message)


# ---------------------------------------------------------------- safetensors


def safetensors_bytes(header: Any, data: bytes = bytes(16)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(dtype: str = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its header would have 0 bytes, the file has 0"),
    "absurd header": (struct.pack("<Q", 1 << 60) + bytes(8), "its header would have 1152921504606846976 bytes"),
    "no JSON": (safetensors_bytes(b"{nonsense"), "its header is no JSON"),
    "deep JSON": (safetensors_bytes(b"[" * 100_000), "its header is no JSON"),
    "no record": (safetensors_bytes([1]), "expected a record"),
    "tensor twice": (safetensors_bytes(b'{"w": {}, "w": {}}'), "'w' stands twice"),
    "past the end": (safetensors_bytes({"w": tensor(offsets=(0, 1 << 40), shape=(1 << 38,))}), "is not within the 16 bytes"),
    "backwards": (safetensors_bytes({"w": tensor(offsets=(16, 0))}), "is not within"),
    "negative": (safetensors_bytes({"w": tensor(shape=(-4,))}), "is not within"),
    "other size": (safetensors_bytes({"w": tensor(shape=(1 << 40,))}), "16 bytes for shape"),
    "overlap": (safetensors_bytes({"v": tensor(), "w": tensor(shape=(2,), offsets=(8, 16))}), "overlap"),
    "no dtype": (safetensors_bytes({"w": {"shape": [4], "data_offsets": [0, 16]}}), "dtype is None"),
    "a list for a dtype": (safetensors_bytes({"w": {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}}), "dtype is ['F32']"),
    "an endless empty shape": (safetensors_bytes({"w": tensor(shape=(1 << 60, 0), offsets=(0, 0))}), "is not within"),
    "a text for a shape": (safetensors_bytes({"w": {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]}}), "is not within"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(name: str, tmp_path: Path) -> None:
    data, message = SAFETENSORS[name]
    (tmp_path / "model.safetensors").write_bytes(data)
    refused(lambda: read_folder(tmp_path), message)


INDICES: dict[str, tuple[Any, str]] = {
    "outside the folder": ({"weight_map": {"w": "../secret.safetensors"}}, "expected a .safetensors file of the same folder"),
    "an absolute path": ({"weight_map": {"w": "/etc/passwd"}}, "expected a .safetensors file of the same folder"),
    "itself": ({"weight_map": {"w": "model.safetensors.index.json"}}, "expected a .safetensors file of the same folder"),
    "no name": ({"weight_map": {"w": 7}}, "expected a .safetensors file of the same folder"),
    "no map": ({}, "weight_map: expected a record"),
    "a missing file": ({"weight_map": {"w": "b.safetensors"}}, "cannot read"),
    "a missing tensor": ({"weight_map": {"w": "a.safetensors", "v": "a.safetensors"}}, "'v' (a.safetensors)"),
    "a tensor that is not listed": ({"weight_map": {"v": "a.safetensors"}}, "holds 'w', which"),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices(name: str, tmp_path: Path) -> None:
    record, message = INDICES[name]
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes({"w": tensor()}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(record), encoding="utf-8")
    refused(lambda: read_folder(tmp_path), message)


def test_a_nan_among_the_weights(tmp_path: Path) -> None:
    data = np.array([1, np.nan, 2, 3], "<f4").tobytes()
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"w": tensor()}, data))
    refused(read_folder(tmp_path)["w"].read, "'w' holds a NaN or an infinity in its rows 0 to 3")


# ---------------------------------------------------------------- tokenizers and configs


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer"),
        ({"vocab.json": '{"a": 0}'}, "merges.txt"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "'a b' is not one of two pieces"),
        ({"vocab.json": '{"a": "x"}', "merges.txt": ""}, "expected pieces and their ids"),
        ({"vocab.json": "[", "merges.txt": ""}, "is damaged"),
        ({"vocab.json": '{"a": 1099511627776}', "merges.txt": ""}, "expected pieces and their ids"),
        ({"vocab.json": '{"\\ud800": 1}', "merges.txt": ""}, "make no tokenizer"),
        ({"tokenizer.json": "{}"}, "is no tokenizer"),
        ({"tokenizer.json": "[" * 100_000}, "is damaged"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "", "tokenizer_config.json": "[]"}, "expected a record"),
    ],
)
def test_tokenizers(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    refused(lambda: read_tokenizer(tmp_path), message)


# ---------------------------------------------------------------- chat templates

TEMPLATES: dict[str, tuple[str, str]] = {
    "a long loop": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "half a second"),
    "a large range": ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "a large text": ("{{ 'x' * 10 ** 10 }}", "MB"),
    "a large power": ("{{ 9 ** (9 ** 9) }}", "half a second"),
    "attributes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "attributes by a filter": ("{{ ('' | attr('__class__')).__base__ }}", "unsafe"),
    "the program's own": ("{{ raise_exception.__globals__['sys'].exit(0) }}", "unsafe"),
    "by format": ("{{ '{0.__class__.__base__}'.format(messages) }}", "unsafe"),
    "changing what it was given": ("{{ messages.append(1) }}", "unsafe"),
    "imports": ("{% include '/etc/passwd' %}", "no loader"),
    "no template": ("{% for", "unexpected"),
    "its own refusal": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_chat_templates(name: str) -> None:
    source, message = TEMPLATES[name]
    refused(lambda: ChatTemplate(source).render([{"role": "user", "content": "x"}]), message, DataError)


def test_a_chat_template_as_hugging_face_renders_it() -> None:
    source = (
        "{%- for m in messages %}\n    {%- if m.role == 'system' %}\n{{ bos_token + m['content'] | tojson }}\n    {%- continue %}\n"
        "    {% endif %}\n    {% generation %}\n<{{ m.role }}>{{ m.content }}{{ eos_token }}\n    {% endgeneration %}\n{% endfor %}\n"
        "{% if add_generation_prompt %}\n<assistant>{% endif %}{{ strftime_now('%Y') | length }}"
    )
    messages = [{"role": "system", "content": "é'<"}, {"role": "user", "content": "Hi"}]
    ours = ChatTemplate(source, "<s>", "</s>").render(messages)
    from transformers.utils.chat_template_utils import render_jinja_template

    (theirs,), _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    assert ours == theirs
    assert "<user>Hi</s>" in ours


LLAMA = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": ["llama"]}, "model_type is ['llama']"),
        ({"head_dim": 1 << 22}, "head_dim is 4194304, expected a whole number from 1 to 4096"),
        ({"rope_theta": 5e-324}, "rope_theta is 5e-324"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is a whole number of 1329 bits"),
    ],
)
def test_configs(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **changed}), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"w": tensor()}))
    refused(lambda: load_pretrained(tmp_path), message)


def test_a_tokenizers_habits_in_training_are_left_out(tmp_path: Path) -> None:
    """Truncation, padding to five million tokens and dropout of merges."""
    model = {"type": "BPE", "dropout": 0.9, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    padding = {"strategy": {"Fixed": 5_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    record = {"version": "1.0", "added_tokens": [], "model": model, "padding": {**padding, "pad_token": "a"}, "truncation": truncation}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record), encoding="utf-8")
    assert read_tokenizer(tmp_path).encode("ab" * 50).tolist() == [2] * 50
