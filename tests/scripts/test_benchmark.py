"""scripts/benchmark.py: one side in this process, on the CPU and on the emulation of a GPU."""

import importlib.util
import json
import sys
import types
from typing import Any

import pytest
from script_helpers import SCRIPTS

from tinylm.errors import DeviceError
from tinylm.kernel_registry import launches
from tinylm.models import GPTConfig


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with a workload of a few milliseconds in the small one's place."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPTS / "benchmark.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", module)
    monkeypatch.delitem(sys.modules, "benchmark_steps", raising=False)
    spec.loader.exec_module(module)
    tiny = GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=8, block_size=4)
    monkeypatch.setitem(module.WORKLOADS, "gpt-128", sys.modules["benchmark_steps"].Workload(tiny, batch_size=2, steps=4))
    return module


@pytest.mark.parametrize("side", ["tinylm", "torch"])
def test_a_side_on_the_cpu(benchmark: Any, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.worker(side, benchmark.Arguments())
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == 8
    assert found["seconds"] > 0
    assert found["megabytes"] > 10


def test_a_side_on_a_gpu(benchmark: Any, emulated_cuda: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are timed by events on the card, and none of them waits."""
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
    monkeypatch.setattr(emulated_cuda, "get_default_memory_pool", lambda: pool, raising=False)
    launches.clear()
    with cupyx.allow_synchronize(False):
        benchmark.worker("tinylm", benchmark.Arguments(device="cuda"))
    assert json.loads(capsys.readouterr().out) == {"seconds": 0.25, "tokens": 8, "megabytes": 3.0}
    assert recorded == [0, 2, 4, 6, 8]  # a mark before the first step and one after each; two groups of parameters
    assert waited == [5] * 4  # only when all was under way


def test_a_pytorch_without_the_gpu(benchmark: Any, emulated_cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    benchmark.check_device(benchmark.Arguments(device="cuda"))
    with pytest.raises(DeviceError, match=r"--against torch on cuda needs a PyTorch that finds the GPU, and .* does not: pip"):
        benchmark.check_device(benchmark.Arguments(device="cuda", against="torch"))


def test_the_names_of_the_workloads(benchmark: Any) -> None:
    from typing import get_args

    choices = get_args(get_args(benchmark.Arguments.__annotations__["workload"])[0])
    assert set(choices) == {*benchmark.WORKLOADS, *benchmark.CARD_WORKLOADS}
