"""scripts/benchmark.py: its workloads, and what each side computes per step."""

import dataclasses
import sys
import types
from typing import Any, get_args

import numpy as np
import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS, command_module

import tinylm
from tinylm.engine.kernels import launches
from tinylm.errors import ConfigError

sys.path.insert(0, str(SCRIPTS))

from benchmark import rounds as benchmark_rounds
from benchmark import tinylm_side, torch_side
from benchmark.process import Measurement, measure_here
from benchmark.rounds import measure
from benchmark.sides import PRECISIONS
from benchmark.workloads import CARD_WORKLOADS, WORKLOADS

sys.path.remove(str(SCRIPTS))
benchmark = command_module("benchmark")

TRAINED = ["gpt", "llama", "transformer", "rnn", "lstm", "gru"]

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
    assert found.text is None


def two_sides(name: str, precision: str) -> tuple[Any, Any, list[list[float]]]:
    """Returns tinylm's and PyTorch's model after two steps from the same weights, and the losses of either."""
    import torch

    work = TINY[name]
    ours, theirs = tinylm_side.build(work), torch_side.build(work)
    state = ours.state_dict()
    if name == "gpt":
        state["lm_head.weight"] = state["transformer.wte.weight"]
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    steps = [
        tinylm_side.training(ours, work, "cpu", precision),
        torch_side.training(theirs, work, "cpu", compiled=False, autocast=precision == "bfloat16"),
    ]
    losses = [[step(rows).item() for step in steps] for rows in work.batches(2)]
    assert any(not np.array_equal(value, state[key]) for key, value in ours.state_dict().items())
    return ours, theirs, losses


@pytest.mark.parametrize("name", TRAINED)
def test_both_sides_make_the_same_step(name: str) -> None:
    """Starting from the same weights, two steps have the same losses and lead to the same weights."""
    ours, theirs, losses = two_sides(name, "float32")
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-5)
    after = theirs.state_dict()
    for key, value in ours.state_dict().items():
        np.testing.assert_allclose(value, after[key].numpy(), rtol=1e-3, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("name", TRAINED)
def test_both_sides_make_the_same_step_in_bfloat16(name: str) -> None:
    """The losses agree to 1 %: autocast also rounds what its products return, each number by up to 2^-9 of it, and PyTorch then
    normalises, activates and adds these; tinylm keeps them in float32. Exact rounding is held by the tests of the ops."""
    ours, theirs, losses = two_sides(name, "bfloat16")
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-2)
    assert all(p.data.dtype == np.float32 for p in ours.parameters())
    assert {str(p.dtype) for p in theirs.parameters()} == {"torch.float32"}


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_in_bfloat16_rounds(name: str) -> None:
    """The same step from the same weights has another loss than in float32, with either library."""
    losses = []
    for precision in PRECISIONS:
        tinylm.manual_seed(0)
        losses.append(two_sides(name, precision)[2][0])
    for exact, rounded in zip(*losses, strict=True):
        assert exact != rounded
        assert exact == pytest.approx(rounded, rel=1e-2)


@pytest.mark.parametrize("side", ["tinylm", "torch"])
def test_a_loss_that_is_not_finite_is_no_measurement(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, loss = {"tinylm": (tinylm_side, tinylm.Tensor(np.float32("nan"))), "torch": (torch_side, np.float32("inf"))}[side]
    monkeypatch.setattr(module, "training", lambda *_: lambda _: loss)
    with pytest.raises(ArithmeticError, match=r"the loss of the last step is (nan|inf)$"):
        measure_here(side, TINY["gpt"], "cpu")


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


def test_a_transformers_that_would_ignore_the_cache(hugging_face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hugging_face.models.llama.modeling_llama.LlamaModel
    monkeypatch.setattr(model, "forward", lambda self, input_ids=None, past_key_values=None, **_: None)
    with pytest.raises(ConfigError, match="take no cache="):
        torch_side.torch_side(TINY["decode-llama"], "cpu")


@pytest.mark.parametrize(
    ("side", "name"), [("compiled", "gpt"), ("compiled", "rnn"), ("compiled", "decode"), ("compiled-autocast", "gpt"), ("autocast", "rnn")]
)
def test_the_compiled_side_asks_for_compilation(side: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the autocast side's forward pass runs under autocast."""
    import torch

    calls = []
    kinds = set()
    cross_entropy = torch_side.F.cross_entropy

    def seen(logits: Any, targets: Any) -> Any:
        kinds.add(str(logits.dtype))
        return cross_entropy(logits, targets)

    def compile(function: Any, dynamic: bool) -> Any:
        assert not dynamic

        def compiled(*arguments: Any) -> Any:
            calls.append(function.__name__)
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(torch_side.F, "cross_entropy", seen)
    measure_here(side, TINY[name], "cpu")
    assert calls == (["cached_logits"] * 4 * 8 if name == "decode" else ["loss_of"] * 4 if "compiled" in side else [])
    assert kinds == (set() if name == "decode" else {"torch.bfloat16" if "autocast" in side else "torch.float32"})


# ---------------------------------------------------------------- on a GPU, and in a process of its own


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
