"""The processor in words: its name, its caches, and the instructions of the matrix products."""

import sys
from pathlib import Path

import pytest

from tinylm.bindings.cpu import compiling, library
from tinylm.bindings.cpu.library import Library
from tinylm.bindings.cpu.processor import cache_sizes, processor_name, product_instructions

ZEN_4 = """cpu family\t: 25
flags\t\t: fpu sse4_2 avx fma avx2 avx512f avx512_vnni avx512_bf16 rdpid
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1"""
SAPPHIRE_RAPIDS = """cpu family\t: 6
flags\t\t: fpu avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile avx512_fp16 fma
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"""
NEOVERSE = """CPU implementer\t: 0x41
CPU part\t: 0xd40
Features\t: fp asimd atomics sve bf16"""


@pytest.mark.parametrize(
    ("described", "name"),
    [
        (ZEN_4, "AMD EPYC; family 25, model 17, stepping 1; sse4_2 avx fma avx2 avx512f avx512_vnni avx512_bf16"),
        (
            SAPPHIRE_RAPIDS,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz; family 6, model 143; "
            "avx fma avx2 avx512f avx512_bf16 avx512_fp16 amx_tile amx_bf16",
        ),
        (NEOVERSE, "aarch64; implementer 0x41, part 0xd40; asimd sve bf16"),
        ("Apple M3 Pro", "Apple M3 Pro"),
        ("", "aarch64"),
    ],
    ids=["zen 4", "sapphire rapids", "neoverse", "apple", "nothing known"],
)
def test_the_name_tells_generations_apart(described: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor_name(described) == name


def test_the_name_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor_name()
    monkeypatch.setattr(compiling, "processor", lambda: ZEN_4)
    assert processor_name().startswith("AMD EPYC; family 25, model 17")


def test_the_caches_that_hold_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    told = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "105M"), ("4", "Unified", "?")]
    for i, values in enumerate(told):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            (folder / name).write_text(f"{value}\n", encoding="ascii")
    (tmp_path / "index9").mkdir()  # without its files
    assert cache_sizes(tmp_path) == {"L1": 48 << 10, "L2": 2 << 20, "L3": 105 << 20}
    assert cache_sizes(tmp_path / "missing") == {}


def test_what_the_products_were_compiled_for(cpu: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYLM_KERNELS", raising=False)
    monkeypatch.setattr(cpu, "sgemm", None)
    found = product_instructions()
    assert found is not None
    vectors, tile, rounded, *target = found.split(", ")
    name = target[0].removeprefix("compiled for ") if target else ""
    of_target = {"x86-64-v2": "SSE", "x86-64-v3": "AVX", "x86-64-v4": "AVX-512", "armv8-a": "NEON", "armv8.2-a": "NEON", "armv9-a": "NEON"}
    assert vectors in ("SSE", "AVX", "AVX-512", "NEON")
    assert vectors == of_target.get(name, vectors)
    assert rounded.removeprefix("bfloat16 by ") in ("float32", "AVX-512 BF16", "AMX")
    assert vectors == "AVX-512" or rounded == "bfloat16 by float32"
    rows, columns = map(int, tile.removeprefix("tiles of ").split(" × "))
    assert rows >= 4
    assert columns % {"AVX": 8, "AVX-512": 16}.get(vectors, 4) == 0


def test_other_products(native_cpu: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYLM_KERNELS", raising=False)
    monkeypatch.setattr(native_cpu, "sgemm", 1)
    assert product_instructions() == "sgemm of Apple's Accelerate"
    monkeypatch.setenv("TINYLM_KERNELS", "reference")
    assert product_instructions() is None
    monkeypatch.delenv("TINYLM_KERNELS")
    monkeypatch.setattr(library, "_loaded", None)
    monkeypatch.setattr(library, "_problem", "no compiler")
    assert product_instructions() is None
