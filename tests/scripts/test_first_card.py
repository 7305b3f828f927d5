"""scripts/benchmark/first_card.py, the first minutes on a GPU, with the stand-in for CuPy in the place of one."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS

sys.path.insert(0, str(SCRIPTS))

from benchmark import card_calls, card_steps, first_card
from benchmark.card_report import report, rows, wrong_files
from benchmark.first_card import FirstCard, Part

sys.path.remove(str(SCRIPTS))

from cuda_on_cpu import emulator

STAND_IN = SCRIPTS.parent / "tests" / "cuda_on_cpu" / "as_cupy"
PYTHON = [sys.executable, "-c"]
needs_emulator = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


@pytest.fixture
def card(tmp_path: Path) -> FirstCard:
    """Returns a card whose one kernel file is swiglu.cu, with the stand-in's CuPy in its processes."""
    made = FirstCard(tmp_path, tmp_path, 300, ["swiglu"])
    made.environment["PYTHONPATH"] = os.pathsep.join([str(STAND_IN), made.environment["PYTHONPATH"]])
    return made


# ---------------------------------------------------------------- the parts


@needs_emulator
def test_kernels_and_tests_in_processes_of_their_own(card: FirstCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine, the compilation, the cases and the tests; what was found stands in the report."""
    assert card.run(first_card.machine()) == [0]
    assert json.loads((card.out / "environment.txt").read_text(encoding="utf-8"))["card"]["name"] == "an emulated GPU"
    monkeypatch.setattr(first_card, "TESTS", ("tests/test_gpu_case*.py", "-k", "free"))
    monkeypatch.setattr(first_card, "CARD_TESTS", ("--version",))
    monkeypatch.setattr(first_card, "of_sanitizer", lambda *_: None)
    assert first_card.correctness(card) == []
    (compiled,), (cases,) = rows(card.out / "kernels.jsonl"), rows(card.out / "cases.jsonl")
    assert list(compiled["kernels"]) == ["swiglu_forward", "swiglu_backward"]
    assert cases["ok"]
    assert cases["compared"] == 2 * 3 * 3  # twice, three sizes, a value and two gradients
    assert 0 < cases["error"] < 1e-5
    assert "1 passed" in (card.out / "tests.txt").read_text(encoding="utf-8")
    told = report(card.out)
    assert "kernel files compiled: 1 of 1" in told
    assert "cases: 1 of 1 files right" in told
    assert {path.name for path in card.out.iterdir()} >= {"summary.txt", "environment.txt", "kernels.jsonl", "cases.jsonl", "tests.txt"}


@needs_emulator
def test_a_wrong_kernel_is_told(card: FirstCard, tmp_path: Path) -> None:
    """A file that does not exist gives no answer; one whose values are wrong is named with its error."""
    assert card.run(first_card.of_kernels("check", 100, ["no_such_file"])) == [1]
    with open(tmp_path / "cases.jsonl", "a", encoding="utf-8") as sink:
        sink.write('{"file": "linear", "ok": false, "error": 0.25, "wrong": ["output 0 (7, 70): 2.5e-01"]}\n{"file": "swiglu", "ok": tr')
    assert wrong_files(tmp_path / "cases.jsonl", ["linear", "swiglu", "no_such_file"]) == ["linear", "swiglu", "no_such_file"]
    told = report(tmp_path)
    assert "cases: 0 of 2 files right, largest relative error 2.5e-01" in told
    assert "linear: output 0 (7, 70): 2.5e-01" in told
    assert "no_such_file: " in told


def test_steps_of_both_libraries(
    emulated_cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workload that fails does not keep the next one from being measured."""
    monkeypatch.setattr(card_steps, "WORKLOADS", {name: TINY[name] for name in ("gpt", "decode")})
    monkeypatch.setattr(card_steps, "CARD_WORKLOADS", {"broken": None})
    card_steps.main("tinylm", "cuda", "", "gpt", "broken", "decode")
    card_steps.main("torch", "cpu", "", "gpt")
    (tmp_path / "steps.jsonl").write_text(capsys.readouterr().out, encoding="utf-8")
    found = list(rows(tmp_path / "steps.jsonl"))
    assert [row["workload"] for row in found] == ["gpt", "broken", "decode", "gpt"]
    assert all(row["ms"] > 0 and row["host_ms"] > 0 for row in found if row["workload"] != "broken")
    told = report(tmp_path)
    line = next(line.split() for line in told.splitlines() if line.startswith("gpt "))
    assert float(line[5]) == pytest.approx(found[0]["ms"] / found[3]["ms"], abs=0.006)
    assert "failed: tinylm: AttributeError" in told


def test_ops_without_the_kernels_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinylm.engine.kernels import registry, updates

    records = {name: record for name, record in {**registry, **updates}.items() if ("cuda", "float32") in record.kernels}
    for record in records.values():
        monkeypatch.setattr(record, "kernels", dict(record.kernels))
    files = [path.stem for path in (SCRIPTS.parent / "kernels" / "cuda").glob("*.cu")]
    assert card_steps.without(["rotary", "round_to_bfloat16"]) == ["rotary", "rotary_heads"]
    found = {"rotary", "rotary_heads", *card_steps.without(files)}
    assert found | {"split_heads"} == set(records), "each file's ops are known; one op is a view, without a kernel"


def test_every_call_is_timed(emulated_cuda: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert card_calls.main("cuda", "1000") == 0
    shown = capsys.readouterr().out
    assert "Traceback" not in shown
    for name in ("argsort (waits)", "op linear, recorded", "cross_entropy, backward", "embedding of 65 rows, backward", "12 heads"):
        assert name in shown


# ---------------------------------------------------------------- the clock


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    """With all that it started; what it had printed is kept, and the next part runs."""
    slow = "import subprocess, sys, time; print('begun', flush=True); subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    card = FirstCard(tmp_path, tmp_path, 100)
    assert card.run(Part("slow", 1.5, "slow.txt", [[*PYTHON, slow], [*PYTHON, "print(5)"]], 2)) == [-9, 0]
    assert set((tmp_path / "slow.txt").read_text(encoding="utf-8").split()) == {"begun", "5"}
    card.until = 0.0
    assert card.run(Part("late", 10, "late.txt", [[*PYTHON, "print(6)"]])) == []
    summary = (tmp_path / "summary.txt").read_text(encoding="utf-8")
    assert "slow: ended 1 of 2 failed" in summary
    assert "late: left out, 0 s are left" in summary


@pytest.mark.parametrize("computes", [True, False])
def test_the_order_of_the_parts(computes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Correctness before speed; without a CuPy that computes, PyTorch alone."""
    asked: list[str] = []

    def run(_: FirstCard, part: Part) -> Sequence[int]:
        asked.append(part.name)
        if part.name == "check":
            (tmp_path / "cases.jsonl").write_text('{"file": "adamw", "ok": true, "error": 0.0}\n', encoding="utf-8")
        return [0 if computes else 1]

    monkeypatch.setattr(FirstCard, "run", run)
    monkeypatch.setattr(first_card, "of_sanitizer", lambda tool, seconds, files: Part(tool, seconds, "sanitizer.txt", []))
    assert first_card.main(tmp_path) == (0 if computes else 1)
    speed = ["tinylm", "torch", "tinylm-tf32", "torch-tf32", "calls", "memcheck", "racecheck", "the op suite"]
    # all files but one gave no answer: the sanitizer takes the place of the tests
    expected = ["machine", "compile", "check", "memcheck", "what only a card can run", *speed] if computes else ["machine", "torch"]
    assert asked == expected
    assert "kernel files compiled: 0 of 0" in (tmp_path / "summary.txt").read_text(encoding="utf-8")
