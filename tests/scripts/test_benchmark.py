"""scripts/benchmark.py: its workloads, what each side computes per step, and what is done with the measurements."""

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from script_helpers import SCRIPTS, command_module, fails_with_one_line, script, script_here

from tinylm.engine.kernels import launches
from tinylm.errors import DeviceError, TinylmError

sys.path.insert(0, str(SCRIPTS))

from benchmark import profile as benchmark_profile
from benchmark import rounds as benchmark_rounds
from benchmark import tinylm_side, torch_side
from benchmark.process import Measurement, measure_here
from benchmark.rounds import check_device, measure, rounds
from benchmark.workloads import CARD_WORKLOADS, WORKLOADS, Workload

sys.path.remove(str(SCRIPTS))
benchmark = command_module("benchmark")

TINY = {
    "gpt": Workload("gpt", 2, 8, block_size=6, batch_size=2, steps=4, heads=2, vocab_size=11),
    "transformer": Workload("transformer", 2, 8, block_size=6, batch_size=3, steps=4, heads=2, vocab_size=11),
    **{name: Workload(name, 2, 8, block_size=6, batch_size=3, steps=4, vocab_size=11) for name in ("rnn", "lstm", "gru")},  # type: ignore[arg-type]
    "decode": Workload("gpt", 2, 8, block_size=12, batch_size=1, steps=4, heads=2, vocab_size=11, prompt=3),
    "llama": Workload("llama", 2, 8, block_size=6, batch_size=2, steps=4, heads=2, vocab_size=11, hidden=12),
    "decode-llama": Workload("llama", 2, 8, block_size=12, batch_size=1, steps=4, heads=2, vocab_size=11, hidden=12, prompt=3),
}


# ---------------------------------------------------------------- the workloads


def test_the_names_of_the_workloads() -> None:
    choices = get_args(get_args(benchmark.Arguments.__annotations__["workload"])[0])
    assert choices == (*WORKLOADS, *CARD_WORKLOADS)


def test_their_sizes() -> None:
    parameters = {
        name: sum(p.size for p in tinylm_side.build(work).parameters())
        for name, work in WORKLOADS.items()
    }  # fmt: skip
    assert parameters["gpt-small"] == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    assert parameters["gpt-medium"] == parameters["decode"] == 65 * 384 + 256 * 384 + 6 * (12 * 384**2 + 2 * 384) + 384
    around = 10_000 * 200 + 200 * 10_000 + 10_000  # encoder and decoder
    assert parameters["rnn-lm"] == around + 2 * (2 * 200 * 200 + 2 * 200)
    assert parameters["lstm-lm"] == around + 4 * 2 * (2 * 200 * 200 + 2 * 200)
    assert parameters["gru-lm"] == around + 3 * 2 * (2 * 200 * 200 + 2 * 200)
    assert parameters["transformer-lm"] == around + 2 * (6 * 200 * 200 + 6 * 200 + 4 * 200)
    assert parameters["decode-smollm2"] == 134_515_008  # SmolLM2-135M's
    assert {name: work.tokens for name, work in WORKLOADS.items()} == {
        "gpt-small": 12 * 64, "gpt-medium": 8 * 256, "decode": 224, "decode-smollm2": 64,
        "transformer-lm": 700, "rnn-lm": 700, "lstm-lm": 700, "gru-lm": 700,
    }  # fmt: skip


# ---------------------------------------------------------------- one process, one side


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("side", ["tinylm", "torch"])
def test_a_side_on_the_cpu(side: str, name: str) -> None:
    found = measure_here(side, TINY[name], "cpu")
    assert found.seconds > 0
    assert found.megabytes > 10


@pytest.mark.parametrize("name", ["gpt", "llama", "transformer", "rnn", "lstm", "gru"])
def test_both_sides_make_the_same_step(name: str) -> None:
    """Starting from the same weights, two steps lead to the same weights."""
    import torch

    work = TINY[name]
    ours, theirs = tinylm_side.build(work), torch_side.build(work)
    state = ours.state_dict()
    if name == "gpt":
        state["lm_head.weight"] = state["transformer.wte.weight"]
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    steps = tinylm_side.training(ours, work, "cpu"), torch_side.training(theirs, work, "cpu", compiled=False)
    for rows in work.batches(2):
        for step in steps:
            step(rows)
    after = theirs.state_dict()
    for key, value in ours.state_dict().items():
        np.testing.assert_allclose(value, after[key].numpy(), rtol=1e-3, atol=2e-5, err_msg=key)
    assert any(not np.array_equal(value, state[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("whole", [False, True])
def test_pytorchs_cache_gives_the_logits_of_the_whole_text(whole: bool) -> None:
    import torch

    work = TINY["decode"]
    model = torch_side.build(work).eval()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 11, (1, 12)))
    cache = torch.full((2, 2, 1, 2, 12, 4), 7.0)  # positions that are not yet written must not be seen
    with torch.no_grad():
        found = [torch_side.cached_logits(model, ids[:, :3], torch.arange(3), cache, None if whole else 3)]
        for at in range(3, 12):
            found.append(torch_side.cached_logits(model, ids[:, at : at + 1], torch.tensor([at]), cache, None if whole else at + 1))
        torch.testing.assert_close(torch.stack(found, 1), model(ids)[:, 2:])


def test_the_text_that_pytorch_generates() -> None:
    import torch

    work = TINY["decode"]
    model = torch_side.build(work)
    prompt = next(work.batches(1))
    torch.manual_seed(0)
    text = torch_side.generation(model, work, "cpu", compiled=False)(prompt)
    assert len(text) == 9
    torch.manual_seed(0)
    assert torch_side.generation(model, work, "cpu", compiled=False)(prompt) == text, "a cache that was used before changes nothing"


@pytest.mark.parametrize("name", ["gpt", "rnn", "decode"])
def test_the_compiled_side_asks_for_compilation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls = []

    def compile(function: Any, dynamic: bool) -> Any:
        assert not dynamic

        def compiled(*arguments: Any) -> Any:
            calls.append(function.__name__)
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    measure_here("compiled", TINY[name], "cpu")
    assert calls == (["cached_logits"] * 4 * 8 if name == "decode" else ["loss_of"] * 4)


def test_a_side_on_a_gpu(emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed by events on the GPU, and none of them waits."""
    import cupyx

    recorded: list[int] = []
    waited = []

    class Event:
        def record(self) -> None:
            recorded.append(launches["adamw", "cuda"])

        def synchronize(self) -> None:
            waited.append(len(recorded))

    monkeypatch.setattr(emulated_cuda.cuda, "Event", Event)
    monkeypatch.setattr(emulated_cuda.cuda, "get_elapsed_time", lambda a, b: 250.0, raising=False)
    pool = types.SimpleNamespace(total_bytes=lambda: 3 << 20)
    monkeypatch.setattr(emulated_cuda, "get_default_memory_pool", lambda: pool)
    launches.clear()
    with cupyx.allow_synchronize(False):
        found = measure_here("tinylm", TINY["gpt"], "cuda")
    assert (found.seconds, found.megabytes) == (0.25, 3.0)
    assert recorded == [0, 2, 4, 6, 8]  # a mark before the first step and one after each; two groups of parameters
    assert waited == [5] * 4  # only after all steps were submitted


def test_a_fresh_process_and_its_own_memory() -> None:
    """The parent's memory is not counted, though getrusage counts it as the child's."""
    held = np.ones(400 << 17)  # 400 MB
    found = measure("tinylm", TINY["rnn"], "cpu")
    assert isinstance(found, Measurement)
    assert 0 < found.import_seconds < 20
    assert 20 < found.megabytes < 300 < held.nbytes / 2**20


def test_a_process_that_fails_says_why() -> None:
    found = measure("tinylm", dataclasses.replace(TINY["gpt"], heads=3), "cpu")
    assert found == "tinylm.errors.ConfigError: the width n_embd 8 is not divisible by n_head 3"


def test_a_hint_after_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> Any:
        return types.SimpleNamespace(returncode=1, stderr="Traceback\n  x\na.b.InductorError: no C++ compiler\n\nSet X=1 for more\n")

    monkeypatch.setattr(benchmark_rounds.subprocess, "run", run)
    assert measure("compiled", TINY["gpt"], "cpu") == "a.b.InductorError: no C++ compiler"


# ---------------------------------------------------------------- the table and the file


def timed(seconds: float) -> Measurement:
    return Measurement(seconds, 100 * seconds, 0.5)


def test_the_faster_pytorch_is_counted() -> None:
    work = TINY["gpt"]
    found = {
        "tinylm": [timed(1), timed(2), timed(6)],
        "torch": [timed(3), timed(3), timed(3)],
        "compiled": [timed(2), timed(1), timed(4)],
    }
    record = benchmark.summary(work, found)
    assert record["counted"] == "compiled"
    assert record["ratios"] == [0.5, 2, 1.5]
    assert record["ratio"] == 1.5
    assert record["sides"]["tinylm"] == {
        "seconds": 2, "tokens_per_second": 6, "peak_megabytes": 600, "import_seconds": 0.5, "measured_seconds": [1, 2, 6],
    }  # fmt: skip
    record = benchmark.summary(work, found | {"compiled": "it did not compile"})
    assert record["counted"] == "torch"
    assert record["sides"]["compiled"] == {"failed": "it did not compile"}
    assert "ratio" not in benchmark.summary(work, {"tinylm": [timed(1)]})


def test_the_sides_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(side: str, work: Workload, device: str) -> Measurement | str:
        asked.append(side)
        return timed(1) if side != "compiled" else "no compiler"

    monkeypatch.setattr(benchmark_rounds, "measure", fake)
    found = rounds("x", TINY["gpt"], ["tinylm", "torch", "compiled"], "cpu", 3)
    assert asked == ["tinylm", "torch", "compiled", "tinylm", "torch", "tinylm", "torch"]
    assert found == {"tinylm": [timed(1)] * 3, "torch": [timed(1)] * 3, "compiled": "no compiler"}
    monkeypatch.setattr(benchmark_rounds, "measure", lambda *_: "broken")
    with pytest.raises(TinylmError, match="the tinylm side of x failed: broken"):
        rounds("x", TINY["gpt"], ["tinylm"], "cpu", 1)


def test_a_small_workload_against_pytorch(tmp_path: Path) -> None:
    result = script("benchmark.py", "--against", "torch", "--dry-run", "--out", tmp_path / "never")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [cells[1] for cells in rows if cells[:1] == ["gpt-small"]] == ["tinylm", "PyTorch"]
    assert "counted" in rows[-1]
    assert not (tmp_path / "never").exists()


def test_the_file_holds_every_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark_rounds, "measure", lambda side, *_: timed(1 if side == "tinylm" else 2))
    monkeypatch.setattr(benchmark, "engine_costs", lambda _: {"a + b": 1.0})
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--against", "torch", "--pairs", "2", "--out", str(tmp_path)])
    benchmark.main()
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert list(record["workloads"]) == list(WORKLOADS)
    for name, found in record["workloads"].items():
        assert Workload(**found["workload"]) == WORKLOADS[name]
        assert found["ratios"] == [0.5, 0.5]
        assert list(found["sides"]) == ["tinylm", "torch", "compiled"]
    assert record["machine"]["versions"]["torch"]
    shown = capsys.readouterr().out
    assert "0.50 (0.50 to 0.50)" in shown
    assert "PyTorch, compiled" in shown


@pytest.mark.parametrize("name", TINY)
def test_a_profile_of_every_workload(name: str) -> None:
    profile, steps = benchmark_profile.profiled(TINY[name], "cpu")
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
