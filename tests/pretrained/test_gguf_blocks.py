"""GGUF: every type of tensor that the `gguf` library decodes, by a plain reference or by the library's own reader."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

from tinylm.files.gguf_files import decoded_types, read_gguf

# ---------------------------------------------------------------- blocks, one number at a time, from ggml's description of them


def half(raw: bytes) -> float:
    return float(np.frombuffer(raw, "<f2")[0])


def block_values(kind: str, b: bytes) -> list[float]:
    """Returns the numbers of one block."""
    if kind == "F32":
        return [float(np.frombuffer(b, "<f4")[0])]
    if kind == "F16":
        return [half(b)]
    if kind == "BF16":
        return [float(np.frombuffer(b"\0\0" + b, "<f4")[0])]
    if kind == "Q8_0":
        return [half(b[:2]) * q for q in np.frombuffer(b[2:], np.int8).tolist()]
    if kind in ("Q4_0", "Q4_1"):
        d, m, q = (half(b[:2]), -8 * half(b[:2]), b[2:]) if kind == "Q4_0" else (half(b[:2]), half(b[2:4]), b[4:])
        return [d * (x & 15) + m for x in q] + [d * (x >> 4) + m for x in q]
    if kind == "Q4_K":
        d, least, s, q = half(b[:2]), half(b[2:4]), b[4:16], b[16:]
        out = []
        for j in range(8):
            if j < 4:
                scale, low = s[j] & 63, s[j + 4] & 63
            else:
                scale, low = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4
            part = q[32 * (j // 2) : 32 * (j // 2) + 32]
            out += [d * scale * (x >> 4 if j % 2 else x & 15) - least * low for x in part]
        return out
    if kind in ("Q5_0", "Q5_1"):
        d, m = half(b[:2]), half(b[2:4]) if kind == "Q5_1" else -16 * half(b[:2])
        b = b[-20:]
        high, q = int.from_bytes(b[:4], "little"), [x & 15 for x in b[4:]] + [x >> 4 for x in b[4:]]
        return [d * (x | (high >> i & 1) << 4) + m for i, x in enumerate(q)]
    if kind == "Q2_K":
        scales, q, d, m = b[:16], b[16:80], half(b[80:82]), half(b[82:])
        parts = [divmod(i, 128) for i in range(256)]  # halves of 128, each in four parts of 32
        return [
            d * (scales[i // 16] & 15) * (q[32 * n + r % 32] >> 2 * (r // 32) & 3) - m * (scales[i // 16] >> 4)
            for i, (n, r) in enumerate(parts)
        ]
    assert kind == "Q6_K"
    low, high, scales, d = b[:128], b[128:192], np.frombuffer(b[192:208], np.int8).tolist(), half(b[208:])
    out = []
    for i in range(256):
        n, r = divmod(i, 128)  # halves of 128, in four parts of 32
        part, k = divmod(r, 32)
        nibble = low[64 * n + 32 * (part % 2) + k]
        q = (nibble >> 4 if part >= 2 else nibble & 15) | (high[32 * n + k] >> 2 * part & 3) << 4
        out.append(d * scales[i // 16] * (q - 32))
    return out


PLAIN = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q5_0", "Q5_1", "Q2_K")
OTHERS = ("Q3_K", "Q5_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4")


def test_all_that_the_library_decodes() -> None:
    """A newer library may know more types; integers and F64 it only names."""
    names = {name for name, _, _ in decoded_types().values()}
    assert {*PLAIN, *OTHERS} <= names
    assert not names & {"I8", "I32", "F64", "Q8_K"}


@pytest.mark.parametrize("kind", [*PLAIN, *OTHERS])
def test_blocks(kind: str, tmp_path: Path) -> None:
    """Random blocks, whole and by slices of rows, and those of a vector."""
    number = GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256 if kind in PLAIN else 64, (5, 2, size), np.uint8)  # below 64, whatever is a scale is finite
    for at in {"Q4_1": (0, 2), "Q4_K": (0, 2), "Q6_K": (208,), "Q5_1": (0, 2), "Q2_K": (80, 82)}.get(kind, (0,) if size > 4 else ()):
        raw[..., at : at + 2] = rng.standard_normal((5, 2, 1)).astype("<f2").view(np.uint8)
    if kind == "MXFP4":
        raw[..., 0] = rng.integers(120, 134, (5, 2))  # an exponent
    if kind in ("F32", "F16", "BF16"):
        numbers = rng.standard_normal((5, 2)).astype("<f4")
        raw = (numbers.astype("<f2") if kind == "F16" else numbers).view(np.uint8).reshape(5, 2, -1)[..., -size:]
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("w", np.ascontiguousarray(raw.reshape(5, 2 * size)), raw_dtype=number)
    writer.add_tensor("v", np.ascontiguousarray(raw[0].reshape(2 * size)), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = read_gguf(tmp_path / "x.gguf").tensors["w"]
    assert stored.shape == (5, 2 * block)
    theirs = next(tensor for tensor in GGUFReader(tmp_path / "x.gguf").tensors if tensor.name == "w")
    np.testing.assert_array_equal(stored.read(), quants.dequantize(theirs.data, theirs.tensor_type))
    assert np.ptp(stored.read()) > 0
    if kind in PLAIN:
        expected = [[v for b in row for v in block_values(kind, b.tobytes())] for row in raw]
        assert np.allclose(stored.read(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert np.array_equal(np.concatenate([stored.decode(0, 2), stored.decode(2, 5)]), stored.read())
    vector = read_gguf(tmp_path / "x.gguf").tensors["v"]
    np.testing.assert_array_equal(vector.read(), stored.read()[0])
