"""An estimate compared with what runs really do, and the memory of a step with the allocator's count."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm import Tensor, nn, ops
from tinylm.studies.estimates import compute_optimal, estimate, worth_in_passes
from tinylm.studies.measured_runs import Memory, event_counts, timed_saves
from tinylm.studies.memory import HeldMemory, StepMemory, held_memory, step_memory
from tinylm.studies.sizes import config_of_size, parameter_count, widened
from tinylm.train import Run, default_config
from tinylm.train.tasks.language_model_config import build_model

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_hidden": 48, "block_size": 32, "batch_size": 8}


def test_the_memory_of_a_graph_counted_by_hand() -> None:
    layer = nn.Linear(100, 100, bias=False)
    x = Tensor(np.ones((50, 100)))  # float64, so that the readable references run
    layer.to(dtype="float64")
    y = ops.tanh(layer(x))
    found = step_memory(ops.sum(y * y), layer)
    assert found.activations == 4 * 50 * 100 * 8, "x, and what tanh, multiply and sum were given"


@pytest.mark.parametrize("model", ["gpt", "transformer", "rnn", "lstm", "gru"])
def test_activations_are_what_the_allocator_counts(model: str, tmp_path: Path) -> None:
    config = dataclasses.replace(default_config(model), **SHAPE)
    run = Run(config, tmp_path / "run", TEXT)
    run.train_step(0)  # kernels are loaded
    x, y = (Tensor(np.ascontiguousarray(a)) for a in run.task.batches[1])
    tracemalloc.start()
    loss = run.model.loss(x, y)[0]
    counted = tracemalloc.get_traced_memory()[0]
    found = step_memory(loss, run.model)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    loss.backward()
    highest = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert found.activations == pytest.approx(counted, rel=0.1)  # Python's own objects are counted too, and the model is small
    # LSTM and GRU kernels use a workspace for the gradients of all gates during their call, which the tape does not show
    assert found.activations + found.backward == pytest.approx(counted + highest, rel=0.3 if model in ("lstm", "gru") else 0.15)


def test_what_stays_from_step_to_step(tmp_path: Path) -> None:
    run = Run(dataclasses.replace(default_config("gpt"), **SHAPE), tmp_path / "run", TEXT)
    held, n = held_memory(run.model, run.task.optimizer), run.model.num_parameters()
    assert (held.parameters, held.gradients, held.optimizer) == (4 * n, 4 * n, 8 * n)


@pytest.mark.parametrize("first", [0, 7, 20])
@pytest.mark.parametrize("steps", [20, 23, 30])
def test_how_often_a_run_validates_and_saves(first: int, steps: int) -> None:
    config = dataclasses.replace(default_config("gpt"), steps=steps, log_every=4, eval_every=10, save_every=7)
    for name, count in event_counts(config, first).items():
        every = getattr(config, name)
        assert count == sum(step % every == 0 or step == steps for step in range(first + 1, steps + 1))


def test_saves_by_the_clock() -> None:
    config = dataclasses.replace(default_config("gpt"), save_every=500, save_minutes=10)
    assert timed_saves(config, 2000, 1.0) == 0, "500 s are less than 10 minutes"
    assert timed_saves(config, 2000, 3.0) == 4 * 2, "at 10 and 20 of the 25 minutes between two others"
    assert timed_saves(dataclasses.replace(config, save_minutes=0), 2000, 3.0) == 0


def test_a_predicted_peak_part_by_part() -> None:
    held, step = HeldMemory(parameters=10, gradients=10, optimizer=20), StepMemory(activations=70, backward=30)
    memory = Memory(start=0, base=50, held=held, average=10, step=step, validation=60, peak=0)
    assert memory.checkpoint == 40
    assert memory.predicted == 50 + 50 + 100, "a checkpoint fits into the memory that a step used"
    assert dataclasses.replace(memory, step=StepMemory(40, 30)).predicted == 50 + 50 + 70 + 40
    assert dataclasses.replace(memory, start=300).predicted == 300
    assert dataclasses.replace(memory, end=130).predicted == 50 + 50 + 130, "a classifier's test needs more than a step"
    assert dataclasses.replace(memory, frozen=8).checkpoint == 32, "a checkpoint has what is trained"


def test_accumulation_and_averages_in_the_memory(tmp_path: Path) -> None:
    config = dataclasses.replace(default_config("gpt"), **SHAPE, steps=2)
    whole = estimate(config, tmp_path / "whole", TEXT, seconds=0.0).memory
    parts = estimate(dataclasses.replace(config, accumulate=4, ema=0.9), tmp_path / "parts", TEXT, seconds=0.0).memory
    assert parts.step.activations == pytest.approx(whole.step.activations / 4, rel=0.05)
    assert (whole.average, parts.average) == (0, parts.held.gradients)
    assert parts.validation > whole.validation, "the averages replace the weights, which are kept until the end of the validation"


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_an_estimate_counts_what_the_run_then_does(model: str, tmp_path: Path) -> None:
    config = dataclasses.replace(default_config(model), **SHAPE, steps=30, eval_every=10, save_every=15, dropout=0.1, dropout_ramp=5)
    found = estimate(config, tmp_path / "estimate", TEXT, seconds=0.0)
    run = Run(config, tmp_path / "run", TEXT)
    assert (found.parameters, found.train_tokens, found.steps) == (run.model.num_parameters(), len(run.task.train_ids), 30)
    assert found.passes == pytest.approx(30 * 8 * 32 / len(run.task.train_ids))
    assert found.seconds.total == pytest.approx(sum(vars(found.seconds).values()))
    assert min(vars(found.seconds).values()) >= 0
    assert found.memory.predicted <= found.memory.peak * 1.5  # this process has used more before
    assert found.memory.step.activations > 0


def test_passes_and_sizes() -> None:
    assert worth_in_passes(0.5) == 0.5
    assert worth_in_passes(1) == 1
    assert 3.7 < worth_in_passes(4) < 3.75  # "almost as good as new data"
    assert worth_in_passes(1000) == pytest.approx(16.39)
    parameters, tokens = compute_optimal(1000, 5000)
    assert parameters * tokens == pytest.approx(1000 * 5000)
    assert tokens == pytest.approx(20 * parameters)


@pytest.mark.parametrize("model", ["gpt", "transformer", "lstm"])
def test_a_config_of_a_size(model: str) -> None:
    config = default_config(model)
    wanted = build_model(config, 65).num_parameters() / 4
    found, parameters = config_of_size(config, 65, wanted)
    assert build_model(found, 65).num_parameters() == parameters == pytest.approx(wanted, rel=0.15)
    assert widened(config, 1) == config
    shape_and_rates = {name: getattr(config, name) for name in ("n_embd", "n_hidden", "lr", "min_lr")}
    assert dataclasses.replace(found, **shape_and_rates) == config


def test_the_learning_rate_follows_the_width() -> None:
    """lr ∝ 1 / width, to three digits; min_lr with it."""
    config = dataclasses.replace(default_config("gpt"), n_embd=128, lr=1e-3, min_lr=1e-4)
    assert (widened(config, 0.25).lr, widened(config, 0.25).min_lr) == pytest.approx((4e-3, 4e-4))
    assert (widened(config, 1.5).lr, widened(config, 1.5).min_lr) == (6.67e-4, 6.67e-5)


@pytest.mark.parametrize("model", ["gpt", "llama", "transformer", "rnn", "lstm", "gru"])
def test_parameters_are_counted_without_building(model: str) -> None:
    config = dataclasses.replace(default_config(model), members=2, bias=True)
    for factor in (0.25, 0.6, 1.3):
        wide = widened(config, factor)
        assert parameter_count(config, 65)(wide) == build_model(wide, 65).num_parameters()


def test_a_huge_size_takes_no_memory() -> None:
    tracemalloc.start()
    found, parameters = config_of_size(default_config("gpt"), 50_000, 5e9)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert parameters == pytest.approx(5e9, rel=0.05)
    assert found.n_embd > 5000
    assert highest < 50e6, "of six models of a few heads' widths"


def test_the_script_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "fox.txt"
    data.write_text(TEXT, encoding="utf-8")
    flags = ["--data", data, "--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--steps", 12]
    result = script("train.py", "--estimate", *flags, cwd=tmp_path, TMPDIR=str(tmp_path))
    shown = ends_well(result)
    for words in ("predicted peak", "measured peak", "tokens/s", "12 steps", "passes", "20 tokens per parameter"):
        assert words in shown
    assert [path.name for path in tmp_path.iterdir()] == ["fox.txt"]
    run = tmp_path / "run"
    ends_well(script_here("train.py", *flags, "--out", run))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "8 steps" in ends_well(script_here("train.py", "--estimate", "--resume", run, "--steps", 20))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["train"]["steps"] == 12
    assert "3 steps" in ends_well(script_here("train.py", "--estimate", "--dry-run", *flags[:-2]))
    assert "in all, at most" in ends_well(script_here("train.py", "--estimate", *flags, "--patience", 2))
    fails_with_one_line(script_here("train.py", "--estimate", "--model", "ngram"), "--model ngram do not go together")
