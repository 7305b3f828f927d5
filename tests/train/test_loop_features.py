"""Micro-batches, averaged weights, recomputed activations, validations, records: what long runs use."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import MODELS, records, stop_at, tiny_run

from tinylm.engine.random_keys import default_generator
from tinylm.errors import ConfigError
from tinylm.files.signed_arrays import read_arrays
from tinylm.models.language_model import DecoderOnlyModel
from tinylm.train import Run, TrainConfig, load_run, validation_loss
from tinylm.train.metrics import memory_mb
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tensorboard import TensorBoardLog

LANGUAGE_MODELS = MODELS[:6]


def gradients_of(run: Run, k: int) -> dict[str, np.ndarray]:
    loss = run.gradients(k)
    return {"loss": np.asarray(loss), **{name: p.grad.copy() for name, p in run.model.named_parameters() if p.grad is not None}}


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_micro_batches_make_the_gradient_of_the_whole_batch(model: str, tmp_path: Path) -> None:
    """In float64, over two steps, the second with a carried state; 3 does not divide the 4 rows."""
    found = {}
    for parts in (1, 3, 4):
        run = tiny_run(model, tmp_path / str(parts), accumulate=parts, dropout=0.0, input_dropout=0.0, ema=0.0)
        run.model.to(dtype="float64")
        found[parts] = [gradients_of(run, k) for k in (0, 1)]
    for parts in (3, 4):
        for step in (0, 1):
            for name, g in found[1][step].items():
                scale = max(float(np.linalg.norm(g)), 1e-3)
                assert np.linalg.norm(found[parts][step][name] - g) <= 1e-10 * scale, (parts, step, name)


def test_a_run_in_micro_batches_is_the_run_in_whole_ones(tmp_path: Path) -> None:
    """Up to the rounding of float32, with clipping and an optimiser; apart from memory, everything else is the same."""
    runs = [tiny_run("gru", tmp_path / str(n), accumulate=n, dropout=0.0, ema=0.0) for n in (1, 2)]
    for run in runs:
        run.train()
    for a, b in zip(records(runs[0].folder), records(runs[1].folder), strict=True):
        assert a["step"] == b["step"]
        for name in a.keys() & {"loss", "val_loss", "grad_norm"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3)  # 16 steps of Adam amplify the rounding of the first


def test_micro_batches_share_no_dropout_mask(tmp_path: Path) -> None:
    """Four micro-batches of the same row have four different gradients, drawn with as many keys as four batches take."""
    run = tiny_run("gpt", tmp_path, accumulate=4, dropout=0.5, dropout_ramp=0)
    x, y = run.task.batches[0]
    run.task.batches = [(np.repeat(x[:1], 4, axis=0), np.repeat(y[:1], 4, axis=0))]  # type: ignore[assignment]
    run.task.batches = type("Same", (list,), {"starts_afresh": lambda self, k: True})(run.task.batches)
    losses, loss = [], run.model.loss

    def kept(*args: Any) -> Any:
        found = loss(*args)
        losses.append(found[0].item())
        return found

    run.model.loss = kept  # type: ignore[method-assign]
    before = run.state.generator.state[1]
    run.gradients(0)
    each = (run.state.generator.state[1] - before) // 4
    assert each > 0
    assert len(set(losses)) == 4


@pytest.mark.parametrize("model", ["gpt", "llama", "transformer"])
def test_recomputed_activations_change_no_bit(model: str, tmp_path: Path) -> None:
    """With dropout, over whole runs: losses, norms, validations and weights are the same; and the blocks really run again."""
    found, calls = {}, {False: 0, True: 0}
    for flag in (False, True):
        run: Any = tiny_run(model, tmp_path / str(flag), checkpoint_activations=flag)
        block = (run.model.blocks() if isinstance(run.model, DecoderOnlyModel) else run.model.transformer_encoder.layers)[0]
        forward = block.forward

        def counted(*args: Any, flag: bool = flag, forward: Any = forward, **named: Any) -> Any:
            calls[flag] += 1
            return forward(*args, **named)

        block.forward = counted
        gradients_of(run, 3)  # with a rate of dropout that rises
        assert len({p.grad.tobytes() for p in run.model.parameters() if p.grad is not None}) > 1
        found[flag] = gradients_of(run, 4)
    assert calls == {False: 2, True: 4}
    assert found[False].keys() == found[True].keys()
    for name, g in found[False].items():
        np.testing.assert_array_equal(found[True][name], g, err_msg=name)
    runs = []
    for flag in (False, True):
        runs.append(tiny_run(model, tmp_path / f"whole {flag}", checkpoint_activations=flag))
        runs[-1].train()
    assert records(runs[0].folder) == records(runs[1].folder)
    for (name, a), b in zip(runs[0].model.state_dict().items(), runs[1].model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


# ---------------------------------------------------------------- averages


@pytest.mark.parametrize("model", ["lstm", "translator"])
def test_the_average_is_what_is_validated_and_saved(model: str, tmp_path: Path) -> None:
    run = tiny_run(model, tmp_path, ema=0.8, steps=5)
    seen = [{name: p.data.astype(np.float64) for name, p in run.model.named_parameters()}]
    step = run.train_step

    def watched(k: int) -> Any:
        result = step(k)
        seen.append({name: p.data.astype(np.float64) for name, p in run.model.named_parameters()})
        return result

    run.train_step = watched  # type: ignore[method-assign]
    summary = run.train()
    assert summary is not None
    expected = seen[0]
    for t, weights in enumerate(seen[1:], 1):
        d = min(0.8, (1 + t) / (10 + t))
        expected = {name: d * a + (1 - d) * weights[name] for name, a in expected.items()}
    for file in ("model.safetensors", "checkpoints/best.safetensors"):
        stored, _ = read_arrays(tmp_path / file)
        for name, a in expected.items():
            np.testing.assert_allclose(stored[name], a, rtol=1e-5, atol=1e-7)
            assert not np.allclose(stored[name], seen[-1][name], rtol=1e-5, atol=1e-7), name
    assert summary["val_loss"] == run.task.validation_loss()  # the model is the average now


def test_a_stopped_run_is_used_with_its_average(tmp_path: Path) -> None:
    stop_at(run := tiny_run("gpt", tmp_path), 5)
    run.train()
    assert run.state.average is not None
    model, _, _ = load_run(tmp_path)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, run.state.average.arrays[name], err_msg=name)


# ---------------------------------------------------------------- validation


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_a_validation_depends_on_no_batch_size(model: str, tmp_path: Path) -> None:
    """It is the same at each call, bit for bit, with dropout in the model and other random numbers drawn in between."""
    run = tiny_run(model, tmp_path, steps=3)
    run.train()
    ids = np.concatenate([run.task.val_ids] * 20)[:3001]
    first = validation_loss(run.model, ids)
    default_generator.next_key()
    assert validation_loss(run.model, ids) == first
    # The streams of a recurrent model start from warmed-up states, which differ slightly from those of one pass.
    for batch_size in (1, 3, 7, 64):
        assert validation_loss(run.model, ids, batch_size=batch_size) == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_validating_often_changes_nothing(model: str, tmp_path: Path) -> None:
    for every in (1, 16):
        tiny_run(model, tmp_path / str(every), eval_every=every).train()
    (often, _), (once, _) = (read_arrays(saved_checkpoints(tmp_path / str(every))[0]) for every in (1, 16))
    assert [name for name in once if once[name].tobytes() != often[name].tobytes()] == []


# ---------------------------------------------------------------- records


def test_tensorboard_has_every_number(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 (the format's own package)

    with TensorBoardLog(tmp_path / "tensorboard", resume_at=4) as log:
        log({"step": 5, "loss": 2.5, "grad_norms": {"a.0": 0.5, "b": 1.5}})
        log({"step": 6, "val_loss": 2.25})
    (path,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    data, found, starts = path.read_bytes(), {}, []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        if event.HasField("session_log"):
            starts.append(event.step)
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    assert found == {("loss", 5): 2.5, ("grad_norms/a.0", 5): 0.5, ("grad_norms/b", 5): 1.5, ("val_loss", 6): 2.25}
    assert starts == [5]  # hides what an earlier part of the run wrote for later steps


def test_memory_is_in_the_records(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    tiny_run("gpt", tmp_path, steps=3).train(found.append)
    assert found[0]["memory_mb"].keys() == memory_mb().keys()
    now, kept = memory_mb(), mmap.mmap(-1, 50 << 20)  # the system counts pages: freed memory may still be in the heap
    np.frombuffer(kept, np.uint8)[:] = 1
    more = memory_mb()
    assert more["peak"] >= now["peak"] > 10
    assert 30 < more["now"] - now["now"] < 100
    assert kept[-1] == 1


def test_invalid_settings() -> None:
    for name, value in [("accumulate", 0), ("accumulate", 13), ("keep", 0), ("save_minutes", -1.0), ("ema", 1.0), ("patience", -1)]:
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            TrainConfig(**{name: value})
    with pytest.raises(ConfigError, match="ema is nan"):
        TrainConfig(ema=float("nan"))
