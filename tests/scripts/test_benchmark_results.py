"""scripts/benchmark.py: what is done with the measurements, the profiles, and the settings that are refused."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS, command_module, fails_with_one_line, script_here

from tinylm.errors import DeviceError, TinylmError

sys.path.insert(0, str(SCRIPTS))

from benchmark import card as benchmark_card
from benchmark import profile as benchmark_profile
from benchmark import rounds as benchmark_rounds
from benchmark.process import Measurement, measure_here
from benchmark.results import summary
from benchmark.rounds import NO_TIME, check_device, fresh_process, rounds
from benchmark.sides import SIDES
from benchmark.workloads import WORKLOADS, Workload

sys.path.remove(str(SCRIPTS))
benchmark = command_module("benchmark")


def timed(seconds: float) -> Measurement:
    return Measurement(seconds, 100 * seconds, 0.5, 0.25)


def test_the_fastest_pytorch_is_counted() -> None:
    work = TINY["gpt"]
    found = {
        "tinylm": [timed(1), timed(2), timed(6)],
        "torch": [timed(3), timed(3), timed(3)],
        "compiled": [timed(2), timed(1), timed(4)],
    }
    record = summary(work, found, {})
    first = {"tinylm": "tinylm", "other": "compiled", "ratio": 1.5, "ratios": [0.5, 2, 1.5]}
    assert record["comparisons"] == {"float32": first}
    assert record["sides"]["tinylm"] == {
        "seconds": 2, "tokens_per_second": 6, "peak_megabytes": 600, "import_seconds": 0.5, "load_seconds": 0.25,
        "measured_seconds": [1, 2, 6],
    }  # fmt: skip
    record = summary(work, found | {"compiled": "it did not compile"}, {})
    assert record["comparisons"]["float32"]["other"] == "torch"
    assert record["sides"]["compiled"] == {"failed": "it did not compile"}
    assert summary(work, {"tinylm": [timed(1)]}, {})["comparisons"] == {}
    # in both precisions: like with like, and the fastest with the fastest; what was measured once does not count
    rounded = {"tinylm-bfloat16": [timed(3)] * 3, "autocast": [timed(1)] * 3, "compiled-autocast": [timed(0.5)]}
    assert summary(work, found | rounded, {})["comparisons"] == {
        "float32": first,
        "bfloat16": {"tinylm": "tinylm-bfloat16", "other": "autocast", "ratio": 3, "ratios": [3, 3, 3]},
        "best": {"tinylm": "tinylm", "other": "autocast", "ratio": 2, "ratios": [1, 2, 6]},
    }


def test_the_sides_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyTorch side that fails compiled or under autocast, or that is half as slow again as another, isn't measured again."""
    asked = []
    seconds = {"tinylm": 9.0, "torch": 1.0, "compiled": 1.5, "tinylm-bfloat16": 1.0, "autocast": 1.51, "compiled-autocast": 1.0}

    def fake(side: str, work: Workload, device: str) -> Measurement | str:
        asked.append(side)
        return timed(seconds[side]) if side in seconds else "no compiler"

    monkeypatch.setattr(benchmark_rounds, "measure", fake)
    found = rounds("x", TINY["gpt"], list(seconds), "cpu", 3)
    later = [side for side in seconds if side != "autocast"]
    assert asked == [*seconds, *later, *later]
    assert found == {side: [timed(s)] * (1 if side == "autocast" else 3) for side, s in seconds.items()}
    asked.clear()
    del seconds["compiled"], seconds["compiled-autocast"]
    found = rounds("x", TINY["gpt"], ["tinylm", "torch", "compiled", "compiled-autocast"], "cpu", 2)
    assert asked == ["tinylm", "torch", "compiled", "compiled-autocast", "tinylm", "torch"]
    assert found["compiled"] == found["compiled-autocast"] == "no compiler"
    monkeypatch.setattr(benchmark_rounds, "measure", lambda *_: "broken")
    for side in ("tinylm", "tinylm-bfloat16", "torch"):
        with pytest.raises(TinylmError, match=f"the {side} side of x failed: broken"):
            rounds("x", TINY["gpt"], [side], "cpu", 1)


def test_a_small_workload_against_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured in this process: test_benchmark.py starts a fresh one."""
    monkeypatch.setattr(benchmark_rounds, "measure", measure_here)
    result = script_here("benchmark.py", "--against", "torch", "--dry-run", "--out", tmp_path / "never")
    assert result.returncode == 0, result.stderr
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()]
    of_sides = {cells[1]: cells[-1] for cells in rows if cells[:1] == ["gpt-small"] and cells[1][0].isalpha()}
    assert list(of_sides) == ["tinylm", "PyTorch", "tinylm, bfloat16", "PyTorch, autocast"]
    assert of_sides["PyTorch"] == of_sides["PyTorch, autocast"] == "counted"
    table = [cells for cells in rows if cells and cells[0] == "gpt-small"][-1]
    assert len(table) == 1 + 4 + 3, "times of both in both precisions, and three ratios"
    assert not (tmp_path / "never").exists()


def test_the_file_holds_every_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark_rounds, "measure", lambda side, *_: timed(1 if side.startswith("tinylm") else 2))
    monkeypatch.setattr(benchmark, "engine_costs", lambda _: {"a + b": 1.0})
    monkeypatch.setattr(benchmark, "product_instructions", lambda: None)  # test_benchmark_products.py has the products
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--against", "torch", "--pairs", "2", "--out", str(tmp_path)])
    benchmark.main()
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert list(record["workloads"]) == list(WORKLOADS)
    for name, found in record["workloads"].items():
        assert Workload(**found["workload"]) == WORKLOADS[name]
        assert found["comparisons"]["float32"]["ratios"] == [0.5, 0.5]
        trained = [] if found["workload"]["prompt"] else ["tinylm-bfloat16", "autocast", "compiled-autocast"]
        assert [side for side in found["sides"] if SIDES[side].numbers != "stored"] == ["tinylm", "torch", "compiled", *trained]
    assert record["machine"]["versions"]["torch"]
    shown = capsys.readouterr().out
    assert "PyTorch, compiled autocast" in shown
    assert "0.50 (0.50–0.50)" in shown
    assert "PyTorch, compiled" in shown


@pytest.mark.parametrize("name", TINY)
def test_a_profile_of_every_workload(name: str) -> None:
    profile, steps = benchmark_profile.profiled(TINY[name], "cpu", "float32")
    assert steps == 3
    parts = {(row.name, row.part): row.calls for row in profile.rows}
    special = {"decode": "scaled_dot_product_attention", "llama": "swiglu_linear", "decode-llama": "rotary_heads"}
    kind = {"gpt": "layer_norm", "transformer": "layer_norm", **special}.get(name, name)
    assert parts[kind, "forward"] > 0
    assert ((kind, "backward") in parts) == (not TINY[name].prompt)
    if not TINY[name].prompt:
        assert parts["adamw" if name in ("gpt", "llama") else "sgd", "update"] >= 3
    record = benchmark_profile.as_record(profile, steps)
    assert sum(row["seconds"] for row in record["rows"]) + record["rest"] == pytest.approx(record["seconds"])


def test_profiles_are_shown_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark, "WORKLOADS", {name: TINY[name] for name in ("gpt", "decode")})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--profile", "--out", str(tmp_path)])
    benchmark.main()
    shown = capsys.readouterr().out
    assert "gpt, 3 steps, " in shown
    assert shown.count("not in ops") == shown.count("in all") == 2
    record = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
    assert list(record["workloads"]) == ["gpt", "decode"]
    fails_with_one_line(script_here("benchmark.py", "--profile", "--against", "torch"), "leave out --against")


def test_a_pytorch_without_the_gpu(emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device("cuda", None)
    with pytest.raises(DeviceError, match=r"--against torch on cuda needs a PyTorch that finds the GPU, and .* does not: pip"):
        check_device("cuda", "torch")


def test_bad_settings() -> None:
    fails_with_one_line(script_here("benchmark.py", "--pairs", 0), "pairs is 0: expected at least 1")
    fails_with_one_line(script_here("benchmark.py", "--workload", "gpt-128"), "gpt-128")


# ---------------------------------------------------------------- a first look, and a GPU


def test_a_quick_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Few short processes, each with the time that is left; what comes too late is said, and is no failure."""
    asked: list[tuple[str, Workload]] = []

    def fake(side: str, work: Workload, device: str, seconds: float) -> Measurement | str:
        assert 0 < seconds <= 110
        asked.append((side, work))
        return timed(2) if len(asked) < 4 else NO_TIME

    monkeypatch.setattr(benchmark_rounds, "measure", fake)
    monkeypatch.setattr(benchmark, "engine_costs", lambda _: {"a + b": 1.0})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--against", "torch", "--quick", "--out", str(tmp_path)])
    benchmark.main()
    names = ["gpt-small", "gpt-medium", "transformer-lm", "lstm-lm", "decode"]
    assert [side for side, _ in asked] == ["tinylm", "torch"] * len(names)
    assert [work.steps for _, work in asked[::2]] == [15, 3, 7, 7, 3]
    assert asked[-1][1].tokens == 56
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert record["quick"]
    assert record["workloads"]["gpt-small"]["comparisons"]["float32"]["ratio"] == 1
    assert record["workloads"]["decode"]["sides"]["tinylm"] == {"failed": "the time was up"}
    assert capsys.readouterr().out.count("failed: the time was up") == 7


def test_a_process_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh_process("benchmark.process", seconds=0.01) == (None, NO_TIME)
    assert fresh_process("benchmark.process", seconds=-1) == (None, NO_TIME)


def test_the_card_is_recorded(emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark_card, "driver_version", lambda: "580.65")
    found = benchmark_card.card("cuda")
    assert found["name"] == "an emulated GPU"
    assert (found["compute_capability"], found["driver_serves_cuda"], found["nvrtc"]) == ("7.5", "12.9", "12.9")
    told = f"an emulated GPU, sm_75, driver 580.65, CUDA 12.9, CuPy {emulated_cuda.__version__}"
    assert benchmark_card.described(found) == told
    monkeypatch.setattr(benchmark_rounds, "measure", lambda *_: timed(1))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device", "cuda", "--pairs", "1", "--out", str(tmp_path)])
    benchmark.main()
    assert json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["card"] == found


def test_a_driver_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmark_card.driver_version() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.65.06\necho 580.65.06\n", encoding="utf-8")
    tool.chmod(0o755)
    assert benchmark_card.driver_version() == "580.65.06"
